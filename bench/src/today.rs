//! What people use today, on the same cluster with the same thirty tables.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::bench::{Bench, Place};
use crate::samples::{Samples, timed};
use crate::{Res, schema};

/// `createuser; createdb; psql -f`.
pub struct Script {
    schema: PathBuf,
    environment: [(&'static str, String); 4],
}

impl Script {
    pub fn new(bench: &Bench, place: &Place<'_>) -> Res<Self> {
        let schema = bench.directory().join("schema.sql");
        std::fs::write(&schema, schema::sql())?;
        Ok(Self { schema, environment: place.environment()? })
    }

    pub async fn create(&self, into: &mut Samples, name: &str) -> Res<()> {
        let script = "set -e; createuser --no-password --login \"$1\"; createdb --owner=\"$1\" \"$1\"; \
                      psql -X -q -v ON_ERROR_STOP=1 -d \"$1\" -f \"$2\"";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "script", name]).arg(&self.schema);
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        let output = timed(into, async { Ok(command.output().await?) }).await?;
        if !output.status.success() {
            return Err(format!("the script: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(())
    }
}

/// A process with Django loaded, that creates the tenants it is told to.
pub struct Django {
    child: Child,
    names: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

const DATABASE: &str = "bench_django";

impl Django {
    pub async fn start(bench: &Bench) -> Res<Self> {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("django");
        let python = python(&project).await?;
        bench.admin("postgres").await?.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
        let mut child = Command::new(python)
            .args(["-W", "ignore", "create.py"])
            .current_dir(&project)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("BENCH_DATABASE", DATABASE)
            .env("BENCH_HOST", bench.socket())
            .env("BENCH_PORT", bench.postgres_port()?.to_string())
            .env("BENCH_USER", Place::Own(bench).superuser())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let names = child.stdin.take().ok_or("django has no input")?;
        let answers = BufReader::new(child.stdout.take().ok_or("django has no output")?).lines();
        let mut django = Self { child, names, answers };
        match django.answer().await?.as_str() {
            "ready" => Ok(django),
            other => Err(format!("django said {other:?}").into()),
        }
    }

    /// Measured inside the process: neither the interpreter's start nor the imports.
    pub async fn create(&mut self, into: &mut Samples, name: &str) -> Res<()> {
        self.names.write_all(format!("{name}\n").as_bytes()).await?;
        into.push_ms(self.answer().await?.parse()?);
        Ok(())
    }

    pub fn stop(mut self) {
        let _ = self.child.start_kill();
    }

    async fn answer(&mut self) -> Res<String> {
        let line = tokio::time::timeout(Duration::from_secs(60), self.answers.next_line()).await;
        Ok(line.map_err(|_| "django does not answer")??.ok_or("django ended; what it said is above")?)
    }
}

/// An environment with the pinned packages, made once.
async fn python(project: &Path) -> Res<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench/venv");
    let wanted = std::fs::read_to_string(project.join("requirements.txt"))?;
    let stamp = directory.join("requirements.installed");
    let python = directory.join("bin/python");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory)).await?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(project.join("requirements.txt")))
    .await?;
    std::fs::write(stamp, wanted)?;
    Ok(python)
}

async fn run(command: &mut Command) -> Res<()> {
    let work = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(180), work).await.map_err(|_| "python3 takes too long")??;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into()),
    }
}
