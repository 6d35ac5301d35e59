//! The pooler of `freehold dev`: an agent in a process of its own, with its PgBouncer, as it runs anywhere else.
//!
//! It ends with `dev`. Where `dev` was killed, agent and PgBouncer go on; the next start ends that agent, and a new one takes
//! PgBouncer over with everybody who is connected. Who asks for TLS gets it, with a certificate that is made at each start.

use std::fs::DirBuilder;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use freehold_control::plane::Plane;
use freehold_control::pooler::dev as local;
use freehold_drivers::pooler::Listen;
use freehold_drivers::pooler::pgbouncer::{CertificateFiles, Program, Supervised, SupervisedOptions, find_program};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Args;
use super::directory::{Directory, pooler_key, url};
use super::servers::Servers;
use crate::pooler::agent_in;
use crate::prerequisite::Missing;

const NAME: &str = "local";
const PORT_DEFAULT: u16 = 6432;
/// An agent that is told to stop lets transactions end.
const PATIENCE: Duration = Duration::from_secs(20);
const LAST_BACKOFF: Duration = Duration::from_secs(10);

pub enum Pooler {
    /// Why, for people; nothing where nobody asked for one.
    Absent(Option<String>),
    Running {
        port: u16,
        program: Program,
        stop: CancellationToken,
        agent: JoinHandle<()>,
    },
}

impl Pooler {
    /// Where there is no pgbouncer there is no pooler, which is no failure.
    pub async fn start(
        args: &Args,
        dir: &Directory,
        plane: &Plane,
        servers: &mut Servers,
        taken: &[SocketAddr],
        stop: &CancellationToken,
    ) -> Result<Self, Missing> {
        let home = dir.path.join("pooler");
        let program = match find_program(args.pgbouncer.as_deref()) {
            _ if args.no_pooler => None,
            Ok(program) => Some(program),
            // Who names one wants it.
            Err(error) if args.pgbouncer.is_some() => return Err(error.into()),
            Err(_) => None,
        };
        let Some(program) = program else {
            end_what_was_left(&home, Signal::SIGTERM).await?;
            let why =
                "none: there is no pgbouncer; with one (apt-get install pgbouncer) tenants' connections are pooled";
            return Ok(Self::Absent(Some(why.to_owned()).filter(|_| !args.no_pooler)));
        };
        // PgBouncer goes on, and is the next agent's.
        end_what_was_left(&home, Signal::SIGKILL).await?;
        let port = choose_port(args.pooler_port, &home, servers, taken)?;
        servers.keep_pooler_port(dir, port)?;
        let certificate = certificate(plane, args, &home, &program, port).await?;
        let key = pooler_key(dir, plane).await?;
        let wanted = Agent {
            plane: url(plane.settings.listen),
            key,
            home,
            port,
            program: program.path.clone(),
            certificate,
            run_as: args.postgres_user.clone(),
        };
        // Together with the API, which would wait for the agent's question.
        let stop = stop.child_token();
        let agent = tokio::spawn(wanted.keep_running(stop.clone()));
        Ok(Self::Running { port, program, stop, agent })
    }

    pub async fn stop(self) {
        if let Self::Running { stop, agent, .. } = self {
            stop.cancel();
            let _ = agent.await;
        }
    }

    /// For people.
    pub fn line(&self) -> Option<String> {
        match self {
            Self::Absent(why) => why.clone(),
            Self::Running { port, program, .. } => {
                Some(format!("127.0.0.1:{port}  (PgBouncer {}, with TLS for whoever asks)", program.release))
            }
        }
    }
}

/// The one that it shows, told to the plane and kept where PgBouncer reads it. No agent runs, so nobody reloads meanwhile.
async fn certificate(
    plane: &Plane,
    args: &Args,
    home: &Path,
    program: &Program,
    port: u16,
) -> Result<CertificateFiles, Missing> {
    let refused = |refused: freehold_control::http::problem::Refused| Missing::new(refused.0.to_string());
    let vouched = local::certificate(plane).await.map_err(refused)?;
    // PgBouncer, which is not root, passes through and sees nothing.
    let made = DirBuilder::new().recursive(true).mode(0o711).create(home);
    made.map_err(|error| Missing::because(&format!("make the directory {}", home.display()), &error))?;
    let listen = Listen { addresses: vec!["127.0.0.1".into()], port };
    let mut options = SupervisedOptions::new(program.clone(), home.join("run"), listen);
    options.run_as.clone_from(&args.postgres_user);
    Supervised::prepare(&options)?;
    let files = CertificateFiles::of(&options.directory);
    files.write(&vouched.issued.certificate_pem, &vouched.issued.key_pem)?;
    local::ensure(plane, NAME, port, &vouched.authority).await.map_err(refused)?;
    Ok(files)
}

/// What it is started with. Nothing of it is secret: the key is in a file.
struct Agent {
    plane: String,
    key: PathBuf,
    home: PathBuf,
    port: u16,
    program: PathBuf,
    certificate: CertificateFiles,
    run_as: Option<String>,
}

impl Agent {
    async fn keep_running(self, stop: CancellationToken) {
        let mut backoff = Duration::from_millis(500);
        loop {
            let ended = match self.spawn() {
                Ok(mut child) => tokio::select! {
                    status = child.wait() => status,
                    () = stop.cancelled() => return end(&mut child).await,
                },
                Err(error) => Err(error),
            };
            let how = ended.map_or_else(|error| error.to_string(), |status: ExitStatus| status.to_string());
            tracing::warn!(how, again_in = ?backoff, "the pooler's agent ended; tenants are reached directly meanwhile");
            tokio::select! {
                () = sleep(backoff) => {}
                () = stop.cancelled() => return,
            }
            backoff = (backoff * 2).min(LAST_BACKOFF);
        }
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["pooler", "agent", "--pooler", NAME, "--plane", &self.plane, "--stop-with-me"]);
        command
            .arg("--key-file")
            .arg(&self.key)
            .arg("--directory")
            .arg(&self.home)
            .arg("--pgbouncer")
            .arg(&self.program);
        command.args(["--listen", &format!("127.0.0.1:{}", self.port), "--tls", "offered", "--server-tls", "offered"]);
        command.arg("--tls-certificate").arg(&self.certificate.certificate);
        command.arg("--tls-key").arg(&self.certificate.key);
        if let Some(user) = &self.run_as {
            command.args(["--run-as", user]);
        }
        // Somebody's production agent may be told by them; this one is not.
        for name in ["TLS_CERTIFICATE", "TLS_KEY", "SERVER_CA", "RUN_AS"] {
            command.env_remove(format!("FREEHOLD_POOLER_{name}"));
        }
        // Ctrl-C in a terminal is for `dev`, which then ends it.
        command.stdin(Stdio::null()).process_group(0).spawn()
    }
}

async fn end(child: &mut Child) {
    if let Some(pid) = child.id() {
        let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
    }
    if timeout(PATIENCE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// The agent of a `dev` that was killed. With SIGTERM it takes its PgBouncer along.
async fn end_what_was_left(home: &Path, signal: Signal) -> Result<(), Missing> {
    let Some(pid) = agent_in(home) else { return Ok(()) };
    tracing::info!(pid, "ending the pooler's agent that was left behind");
    let _ = kill(Pid::from_raw(pid), signal);
    let gone = timeout(PATIENCE, async {
        while agent_in(home).is_some() {
            sleep(Duration::from_millis(10)).await;
        }
    });
    gone.await
        .map_err(|_| Missing::new(format!("process {pid}, the pooler's agent in {}, does not end", home.display())))
}

/// The one that is asked for, the one of before, or the first that is free. One that our own PgBouncer still has is ours.
fn choose_port(asked: Option<u16>, home: &Path, servers: &Servers, taken: &[SocketAddr]) -> Result<u16, Missing> {
    let is_ours = |port: u16| UnixStream::connect(home.join(format!("run/.s.PGSQL.{port}"))).is_ok();
    let is_free = |port: u16| {
        let is_known = servers.ports().any(|other| other == port) || taken.iter().any(|address| address.port() == port);
        !is_known && (is_ours(port) || TcpListener::bind(("127.0.0.1", port)).is_ok())
    };
    match asked {
        Some(port) if is_free(port) => Ok(port),
        Some(port) => Err(Missing::new(format!("port {port} is taken: choose another with --pooler-port"))),
        None => {
            let first = servers.pooler_port().unwrap_or(PORT_DEFAULT);
            let free = (first..u16::MAX).find(|port| is_free(*port));
            free.ok_or_else(|| Missing::new(format!("no port above {first} is free for the pooler")))
        }
    }
}
