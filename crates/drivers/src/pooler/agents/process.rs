//! Agents as processes of this machine, each in a process group of its own. They outlive the plane, and the next one
//! finds them by the directory that they work in.
//!
//! `<data_dir>/<pooler>/` is the agent's directory, with `service.json` (what it is started with), `key` and `agent.log`
//! on top. Without `service.json` it is somebody else's, and left alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::{AgentPlatform, AgentSeen, Handed, ManagedAgent, listen_address, supervise};
use crate::platform::process::socket_path_fits;
use crate::platform::{PlatformError, PlatformErrorKind};
use crate::pooler::pgbouncer;

#[derive(Debug, Clone)]
pub struct ProcessAgentsOptions {
    /// Each agent has a directory of its own in it. Short, because sockets are in there.
    pub data_dir: PathBuf,
    /// `freehold`.
    pub program: PathBuf,
    /// None: what the agent finds by itself.
    pub pgbouncer: Option<PathBuf>,
    /// PgBouncer's user where Freehold is root.
    pub run_as: Option<String>,
    /// Whose agents these are, where several Freeholds share a directory. Each touches its own alone.
    pub instance: String,
}

pub struct ProcessAgents {
    inner: Arc<Inner>,
    watch: JoinHandle<()>,
}

pub(super) struct Inner {
    options: ProcessAgentsOptions,
}

/// What is in `service.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub instance: String,
    /// False: it is being taken away.
    pub wanted: bool,
    pub port: u16,
    pub program: PathBuf,
    /// Of Freehold: after an update the agents are replaced, and their PgBouncers go on.
    pub version: String,
    pub arguments: Vec<String>,
}

/// Held by whoever changes something in there, in whatever process.
pub(super) struct Lock {
    _file: File,
}

const RECORD: &str = "service.json";
const KEY: &str = "key";
const LOG: &str = "agent.log";
const PLACE: &str = "place";
/// How long an agent and its PgBouncer may take until they listen.
const READY: Duration = Duration::from_secs(30);
/// An agent ends its pauses first.
const GOODBYE: Duration = Duration::from_secs(10);
/// Transactions end.
const GRACE: Duration = Duration::from_secs(5);
const LOCK_PATIENCE: Duration = Duration::from_secs(120);
const LONGEST_LOG: u64 = 8 * 1024 * 1024;

impl ProcessAgents {
    /// Needs a tokio runtime: agents that die are started again from now on.
    pub fn new(options: ProcessAgentsOptions) -> Result<Self, PlatformError> {
        make(&options.data_dir, 0o711)?;
        let data_dir =
            fs::canonicalize(&options.data_dir).map_err(|error| failed("resolve", &options.data_dir, error))?;
        let inner = Arc::new(Inner { options: ProcessAgentsOptions { data_dir, ..options } });
        let watch = tokio::spawn(supervise::watch(inner.clone()));
        Ok(Self { inner, watch })
    }
}

impl Drop for ProcessAgents {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

#[async_trait]
impl AgentPlatform for ProcessAgents {
    fn kind(&self) -> &'static str {
        "process"
    }

    async fn place(&self) -> Result<String, PlatformError> {
        let file = self.inner.options.data_dir.join(PLACE);
        let _lock = self.inner.lock().await?;
        match fs::read_to_string(&file) {
            Ok(text) => Ok(format!("process:{}", text.trim())),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let made = uuid::Uuid::now_v7().to_string();
                replace(&file, made.as_bytes())?;
                Ok(format!("process:{made}"))
            }
            Err(error) => Err(failed("read", &file, error)),
        }
    }

    async fn ensure(&self, agent: &ManagedAgent) -> Result<(), PlatformError> {
        let home = self.inner.home(&agent.name)?;
        socket_path_fits(&home.join("run")).map_err(|error| {
            PlatformError::because(PlatformErrorKind::Storage, format!("pooler.platform.data_dir: {error}"), error)
        })?;
        let _lock = self.inner.lock().await?;
        let before = read(&home)?;
        let is_strange = match &before {
            Some(record) => !self.inner.owns(record),
            None => fs::read_dir(&home).is_ok_and(|mut entries| entries.next().is_some()),
        };
        if is_strange {
            return Err(PlatformError::new(
                PlatformErrorKind::Conflict,
                format!("{} holds something that this Freehold did not put there: choose another name", home.display()),
            ));
        }
        let wanted = self.inner.record(agent, &home);
        make(&home, 0o711)?;
        if before.as_ref() != Some(&wanted) {
            write(&home, &wanted)?;
        }
        let key = agent.key.expose_secret();
        if fs::read_to_string(home.join(KEY)).ok().as_deref() != Some(key) {
            replace(&home.join(KEY), key.as_bytes())?;
        }
        match found(&home) {
            Some(_) if before.as_ref() == Some(&wanted) => {}
            // Tenants notice nothing: its PgBouncer is the next one's.
            Some(pid) => {
                end(pid, &home).await?;
                start(&home, &wanted).await?;
            }
            None => start(&home, &wanted).await?,
        }
        Ok(())
    }

    async fn observe(&self, agent: &ManagedAgent) -> Result<AgentSeen, PlatformError> {
        let home = self.inner.home(&agent.name)?;
        let record = read(&home)?.filter(|record| record.wanted && self.inner.owns(record));
        let Some(record) = record else { return Ok(AgentSeen::Absent) };
        Ok(match found(&home) {
            Some(_) => AgentSeen::Running { current: record == self.inner.record(agent, &home) },
            None => AgentSeen::Down { reason: words(&home) },
        })
    }

    async fn remove(&self, name: &str) -> Result<(), PlatformError> {
        let home = self.inner.home(name)?;
        let _lock = self.inner.lock().await?;
        let Some(record) = read(&home)?.filter(|record| self.inner.owns(record)) else { return Ok(()) };
        // First, so that nobody starts it again.
        write(&home, &Record { wanted: false, ..record })?;
        if let Some(pid) = found(&home) {
            end(pid, &home).await?;
        }
        pgbouncer::end_in(&home.join("run"), GRACE).await;
        // What tells whose it is goes last.
        let entries = fs::read_dir(&home).map_err(|error| failed("read", &home, error))?;
        for entry in entries.flatten().filter(|entry| entry.file_name() != RECORD) {
            let path = entry.path();
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|error| failed("remove", &path, error))?;
        }
        fs::remove_dir_all(&home).map_err(|error| failed("remove", &home, error))
    }

    async fn last_words(&self, name: &str) -> Result<String, PlatformError> {
        Ok(words(&self.inner.home(name)?))
    }
}

impl Inner {
    fn home(&self, name: &str) -> Result<PathBuf, PlatformError> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 63 || !name.chars().all(inner) || name.starts_with('-') {
            let message = format!("{name:?} cannot be a directory: expected lowercase letters, digits and dashes");
            return Err(PlatformError::new(PlatformErrorKind::Unsupported, message));
        }
        Ok(self.options.data_dir.join(name))
    }

    fn record(&self, agent: &ManagedAgent, home: &Path) -> Record {
        let handed = Handed {
            key: home.join(KEY),
            directory: home.to_owned(),
            client_tls: agent.client_tls.clone(),
            server_tls: agent.server_tls.clone(),
        };
        let mut arguments = agent.arguments(listen_address(&agent.host), &handed);
        if let Some(program) = &self.options.pgbouncer {
            arguments.extend(["--pgbouncer".into(), program.display().to_string()]);
        }
        if let Some(user) = &self.options.run_as {
            arguments.extend(["--run-as".into(), user.clone()]);
        }
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let (instance, program) = (self.options.instance.clone(), self.options.program.clone());
        Record { instance, wanted: true, port: agent.port, program, version, arguments }
    }

    pub(super) fn owns(&self, record: &Record) -> bool {
        record.instance == self.options.instance
    }

    /// Those that are there, whether they run or not.
    pub(super) fn homes(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.options.data_dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.join(RECORD).is_file()).collect()
    }

    async fn lock(&self) -> Result<Lock, PlatformError> {
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            if let Some(lock) = self.try_lock()? {
                return Ok(lock);
            }
            if Instant::now() > deadline {
                let message = format!("another Freehold is at work in {} for minutes", self.options.data_dir.display());
                return Err(PlatformError::new(PlatformErrorKind::Unreachable, format!("{message}: try again")));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) fn try_lock(&self) -> Result<Option<Lock>, PlatformError> {
        let path = self.options.data_dir.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(|error| failed("open", &path, error))?;
        Ok(file.try_lock().is_ok().then_some(Lock { _file: file }))
    }
}

/// Its PgBouncer listens afterwards. Under the lock.
pub(super) async fn start(home: &Path, record: &Record) -> Result<(), PlatformError> {
    let mut child = spawn(home, record)?;
    let socket = home.join(format!("run/.s.PGSQL.{}", record.port));
    let deadline = Instant::now() + READY;
    loop {
        // A PgBouncer that was left behind listens already: its agent has to be there as well.
        if working(home).is_some() && UnixStream::connect(&socket).is_ok() {
            return Ok(());
        }
        let ended = child.try_wait().map_err(|error| failed("wait for the agent in", home, error))?;
        if ended.is_some() || Instant::now() > deadline {
            let said = words(home);
            let kind = super::why_it_ended(&said);
            let how = if ended.is_some() { "ended" } else { "does not listen" };
            return Err(PlatformError::new(kind, format!("the agent in {} {how}: {said}", home.display())));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn spawn(home: &Path, record: &Record) -> Result<Child, PlatformError> {
    let path = home.join(LOG);
    if fs::metadata(&path).is_ok_and(|meta| meta.len() > LONGEST_LOG) {
        fs::rename(&path, home.join("agent.log.1")).map_err(|error| failed("rename", &path, error))?;
    }
    let open = || OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    let out = open().map_err(|error| failed("open", &path, error))?;
    let err = out.try_clone().map_err(|error| failed("open", &path, error))?;
    let mut command = Command::new(&record.program);
    // Freehold's own environment may hold secrets, and options for agents of other poolers.
    command.args(&record.arguments).current_dir(home).env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
    for name in ["TZ", "RUST_LOG", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    // What ends the plane, Ctrl-C in a terminal for instance, does not end it.
    command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
    command.spawn().map_err(|error| failed("run", &record.program, error))
}

/// The agent that is there, or on its way up. Found by where it works, never by a pid alone: pids are given out again.
pub(super) fn found(home: &Path) -> Option<i32> {
    working(home).or_else(|| {
        let entries = fs::read_dir("/proc").ok()?;
        let mut pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.find(|pid| is_agent(*pid, home))
    })
}

/// The one that has said so itself: it has taken its directory.
fn working(home: &Path) -> Option<i32> {
    let text = fs::read_to_string(home.join("agent/lock")).ok()?;
    text.trim().parse().ok().filter(|pid| is_agent(*pid, home))
}

fn is_agent(pid: i32, home: &Path) -> bool {
    let is_there = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == home);
    is_there
        && fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.windows(14).any(|part| part == b"\0pooler\0agent\0"))
}

/// It alone: its PgBouncer goes on.
async fn end(pid: i32, home: &Path) -> Result<(), PlatformError> {
    for (signal, patience) in [(Signal::SIGTERM, GOODBYE), (Signal::SIGKILL, GRACE)] {
        let _ = kill(Pid::from_raw(pid), signal);
        // One that somebody stopped hears of it now.
        let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if !is_agent(pid, home) {
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
    let message = format!("process {pid}, the agent in {}, does not end", home.display());
    Err(PlatformError::new(PlatformErrorKind::Other, message))
}

/// The end of its log, for an error message.
pub(super) fn words(home: &Path) -> String {
    let text = fs::read(home.join(LOG)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(8_192)..]).into_owned();
    super::telling_lines(&text)
}

pub(super) fn read(home: &Path) -> Result<Option<Record>, PlatformError> {
    let path = home.join(RECORD);
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
            let message = format!("{} is not as it was written: {error}", path.display());
            PlatformError::because(PlatformErrorKind::Storage, message, error)
        }),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(failed("read", &path, error)),
    }
}

fn write(home: &Path, record: &Record) -> Result<(), PlatformError> {
    let text = serde_json::to_vec_pretty(record).map_err(|error| {
        PlatformError::because(PlatformErrorKind::Other, "write what an agent is started with", error)
    })?;
    replace(&home.join(RECORD), &text)
}

/// Whole or not at all, and for nobody else to read.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), PlatformError> {
    let new = path.with_extension("new");
    let put = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    put().map_err(|error| failed("write", path, error))
}

fn make(path: &Path, mode: u32) -> Result<(), PlatformError> {
    // PgBouncer, which is not root, passes through and sees nothing.
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|error| failed("make", path, error))
}

fn failed(doing: &str, path: &Path, error: std::io::Error) -> PlatformError {
    PlatformError::because(PlatformErrorKind::Storage, format!("{doing} {}: {error}", path.display()), error)
}
