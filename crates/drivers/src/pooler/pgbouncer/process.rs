//! A PgBouncer of this machine: found, started as a user that is not root, and kept running.
//!
//! It outlives a Freehold that is killed, because every tenant's connections go through it; the next [`Supervised`] on the
//! same directory takes it over as it is. [`Supervised::stop`] ends it, and so does dropping the value;
//! [`Supervised::detach`] leaves it.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Child;
use tokio::time::{Instant, sleep};

use super::super::seal::failed;
use super::super::{Listen, PoolerError, PoolerErrorKind};
use super::files::Files;
use super::supervise::Supervisor;
use super::version::Release;
use crate::platform::process::{Account, is_enterable, port_is_free_on, private_dir, socket_path_fits, telling};

/// A `pgbouncer` that runs here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub path: PathBuf,
    pub release: Release,
}

#[derive(Debug, Clone)]
pub struct SupervisedOptions {
    pub program: Program,
    /// Made when it is not there, for its user alone. At most some 85 bytes long: its private socket is in it.
    pub directory: PathBuf,
    /// As in the configuration.
    pub listen: Listen,
    /// Only when Freehold is root, as which PgBouncer refuses to run. None: `postgres`, else `nobody`.
    pub run_as: Option<String>,
    /// How long clients may finish their transactions when it is stopped.
    pub grace: Duration,
    /// Each client and each server connection is one. What the system does not allow is not asked for.
    pub open_files: u64,
}

pub struct Supervised {
    options: SupervisedOptions,
    supervisor: Supervisor,
    /// Two on one directory would take each other's PgBouncer for a dead one's.
    _lock: File,
}

/// How long it may take until it listens.
const READY: Duration = Duration::from_secs(15);

/// The named one, what PATH leads to, or the distribution's, which is in `/usr/sbin`.
pub fn find_program(explicit: Option<&Path>) -> Result<Program, PoolerError> {
    let missing = |place: String| {
        PoolerError::new(
            PoolerErrorKind::ProgramMissing,
            format!("no pgbouncer {place}: install it (apt-get install pgbouncer), or name the program"),
        )
    };
    if let Some(path) = explicit {
        return program(path).ok_or_else(|| missing(format!("at {}", path.display())));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = places.map(|dir: PathBuf| dir.join("pgbouncer")).find_map(|path| program(&path));
    found.ok_or_else(|| missing("in PATH or /usr/sbin".into()))
}

fn program(path: &Path) -> Option<Program> {
    let path = fs::canonicalize(path).ok()?;
    let output = std::process::Command::new(&path).arg("--version").stdin(Stdio::null()).output().ok()?;
    let release = Release::parse(&String::from_utf8_lossy(&output.stdout))?;
    Some(Program { path, release })
}

impl SupervisedOptions {
    pub fn new(program: Program, directory: impl Into<PathBuf>, listen: Listen) -> Self {
        Self {
            program,
            directory: directory.into(),
            listen,
            run_as: None,
            grace: Duration::from_secs(5),
            open_files: 65_536,
        }
    }
}

impl Supervised {
    /// The directory, before anything is written into it.
    pub fn prepare(options: &SupervisedOptions) -> Result<(), PoolerError> {
        let account = account(options)?;
        socket_path_fits(&options.directory).map_err(other)?;
        private_dir(&options.directory, &account)
            .map_err(|error| PoolerError::because(PoolerErrorKind::NotWritable, error.to_string(), error))?;
        is_enterable(&options.directory, &account)
            .map_err(|error| PoolerError::because(PoolerErrorKind::NotWritable, error.to_string(), error))
    }

    /// It listens afterwards, with the files that are there; dies it later, it is started again. One that runs already is
    /// taken over.
    pub async fn start(mut options: SupervisedOptions) -> Result<Self, PoolerError> {
        Self::prepare(&options)?;
        let real = fs::canonicalize(&options.directory).map_err(|error| failed("resolve", &options.directory, error));
        options.directory = real?;
        let ini = Files::new(&options.directory).ini();
        if !ini.exists() {
            return Err(PoolerError::new(
                PoolerErrorKind::Other,
                format!("{} is not there: write the files before PgBouncer is started", ini.display()),
            ));
        }
        let lock = lock(&options.directory)?;
        let supervisor = Supervisor::start(options.clone(), account(&options)?)?;
        let started = Self { options, supervisor, _lock: lock };
        match started.until_ready().await {
            Ok(()) => Ok(started),
            Err(error) => {
                started.stop().await;
                Err(error)
            }
        }
    }

    pub fn pid(&self) -> Option<i32> {
        self.supervisor.pid()
    }

    /// How often it died since this value is there.
    pub fn deaths(&self) -> u32 {
        self.supervisor.deaths()
    }

    /// Open transactions have the grace.
    pub async fn stop(self) {
        self.supervisor.stop().await;
    }

    /// It runs on, and is nobody's until somebody starts on its directory.
    pub async fn detach(self) {
        self.supervisor.detach().await;
    }

    async fn until_ready(&self) -> Result<(), PoolerError> {
        let deadline = Instant::now() + READY;
        // PgBouncer before 1.19 goes on when it gets no port: only a connection tells.
        while !listens(&self.options) {
            if self.deaths() > 0 || Instant::now() > deadline {
                let Listen { addresses, port } = &self.options.listen;
                let words = last_words(&self.options.directory);
                let taken = words.contains("in use");
                let kind = if taken { PoolerErrorKind::PortTaken } else { PoolerErrorKind::Other };
                let place = addresses.join(",");
                let message = format!("PgBouncer does not listen on port {port} of {place}: {words}");
                return Err(PoolerError::new(kind, message));
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

fn listens(options: &SupervisedOptions) -> bool {
    let Listen { addresses, port } = &options.listen;
    let socket = options.directory.join(format!(".s.PGSQL.{port}"));
    UnixStream::connect(socket).is_ok()
        && addresses.iter().all(|address| {
            let address = if address == "*" { "127.0.0.1" } else { address };
            // Its own machine: there or not, there is nothing to wait for.
            TcpStream::connect((address, *port)).is_ok()
        })
}

pub(super) fn ports_are_free(options: &SupervisedOptions) -> Result<(), PoolerError> {
    for address in &options.listen.addresses {
        let port = options.listen.port;
        port_is_free_on(address, port)
            .map_err(|error| PoolerError::because(PoolerErrorKind::PortTaken, error.to_string(), error))?;
    }
    Ok(())
}

pub(super) fn spawn(options: &SupervisedOptions, account: &Account) -> Result<Child, PoolerError> {
    let path = log(&options.directory);
    let open = || OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    let out = open().map_err(|error| failed("open", &path, error))?;
    let err = out.try_clone().map_err(|error| failed("open", &path, error))?;
    // The usual 1024 open files are not enough for a pooler, and PgBouncer does not ask for more by itself.
    let more = r#"ulimit -n "$1" 2>/dev/null || ulimit -n "$(ulimit -H -n)"; exec "$2" "$3""#;
    account
        .command(Path::new("/bin/sh"), &options.directory)
        .args(["-c", more, "freehold-pooler"])
        .arg(options.open_files.to_string())
        .arg(&options.program.path)
        .arg(Files::new(&options.directory).ini())
        .stdout(Stdio::from(out))
        .stderr(Stdio::from(err))
        // Ctrl-C in a terminal is for Freehold.
        .process_group(0)
        .spawn()
        .map_err(|error| failed("run", &options.program.path, error))
}

fn account(options: &SupervisedOptions) -> Result<Account, PoolerError> {
    Account::choose(options.run_as.as_deref()).map_err(|error| {
        let message = "PgBouncer does not run as root, and the user to run it as is not there".to_owned();
        PoolerError::because(PoolerErrorKind::Other, message, error)
    })
}

fn lock(directory: &Path) -> Result<File, PoolerError> {
    let path = directory.join("supervisor.lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(|error| failed("open", &path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(PoolerError::new(
            PoolerErrorKind::Conflict,
            format!("another Freehold runs the pooler in {}", directory.display()),
        )),
    }
}

pub(super) fn log(directory: &Path) -> PathBuf {
    directory.join("pgbouncer.log")
}

/// The end of its log, for an error message.
pub(super) fn last_words(directory: &Path) -> String {
    let text = fs::read(log(directory)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(8_192)..]);
    telling(&text, &["FATAL", "ERROR", "WARNING"])
}

fn other(error: crate::platform::process::ProcessError) -> PoolerError {
    PoolerError::because(PoolerErrorKind::Other, error.to_string(), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_that_is_not_there_tells_what_to_install() {
        let error = find_program(Some(Path::new("/nowhere/pgbouncer"))).unwrap_err();
        assert_eq!(error.kind, PoolerErrorKind::ProgramMissing);
        assert!(error.message.contains("/nowhere") && error.message.contains("apt-get install pgbouncer"));
        // Something else of that name is none.
        assert!(find_program(Some(Path::new("/bin/true"))).is_err());
    }
}
