//! One cluster in a data directory: initialised, started, stopped.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::unistd::{Uid, User};
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::binaries::Binaries;
use super::error::ProcessError;
use super::supervise::{Supervisor, last_words};
use super::{initialise, orphan, preflight, settings};
use crate::server::sql::{Admin, Dsn};

/// The superuser of every cluster made here. It has no password: only the machine user running Freehold is it.
pub const ADMIN_ROLE: &str = "freehold_admin";

#[derive(Debug, Clone)]
pub struct ClusterOptions {
    pub binaries: Binaries,
    pub data_dir: PathBuf,
    /// Private; at most some 85 bytes long.
    pub socket_dir: PathBuf,
    pub port: u16,
    pub max_connections: u32,
    /// How many clusters share this machine, this one included: what one takes of the memory.
    pub neighbours: u32,
    /// Only when Freehold is root, as which PostgreSQL refuses to run. None: `postgres`, else `nobody`.
    pub run_as: Option<String>,
    pub durability: Durability,
    /// Whatever else belongs in the settings file; wins over Freehold's own choices.
    pub settings: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    Safe,
    /// For tests: no fsync.
    ThrowAway,
}

pub struct Cluster {
    options: ClusterOptions,
    account: Account,
    running: Mutex<Option<Running>>,
}

struct Running {
    supervisor: Supervisor,
    /// Two Freeholds on one data directory would take each other's postmaster for an orphan.
    _lock: File,
}

/// The machine user that PostgreSQL runs as, and its pooler.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// Freehold is root and has to become this user.
    pub switch: bool,
}

impl ClusterOptions {
    pub fn new(binaries: Binaries, data_dir: impl Into<PathBuf>, socket_dir: impl Into<PathBuf>, port: u16) -> Self {
        Self {
            binaries,
            data_dir: data_dir.into(),
            socket_dir: socket_dir.into(),
            port,
            max_connections: 300,
            neighbours: 1,
            run_as: None,
            durability: Durability::Safe,
            settings: BTreeMap::new(),
        }
    }
}

impl Cluster {
    pub fn new(mut options: ClusterOptions) -> Result<Self, ProcessError> {
        for dir in [&mut options.data_dir, &mut options.socket_dir] {
            *dir = std::path::absolute(&*dir).map_err(ProcessError::io("resolve", &*dir))?;
        }
        preflight::socket_path_fits(&options.socket_dir)?;
        let account = Account::choose(options.run_as.as_deref())?;
        Ok(Self { options, account, running: Mutex::new(None) })
    }

    /// initdb, unless it was done. Looks for a free port and enough room first.
    pub async fn ensure_initialised(&self) -> Result<(), ProcessError> {
        let running = self.running.lock().await;
        if running.is_some() {
            return Ok(());
        }
        let _lock = self.lock()?;
        initialise::ensure(&self.options, &self.account).await
    }

    /// Running and answering an authenticated query afterwards; dies it later, it is started again.
    pub async fn start(&self) -> Result<(), ProcessError> {
        let mut running = self.running.lock().await;
        if running.is_some() {
            return Ok(());
        }
        let lock = self.lock()?;
        let options = &self.options;
        initialise::ensure(options, &self.account).await?;
        orphan::stop(options).await?;
        preflight::port_is_free(options.port)?;
        initialise::private_dir(&options.socket_dir, &self.account)?;
        preflight::is_enterable(&options.socket_dir, &self.account)?;
        settings::write(&options.data_dir, options, &self.account.machine_users())?;
        let supervisor = Supervisor::start(options.clone(), self.account.clone())?;
        match self.until_ready(&supervisor).await {
            Ok(()) => {
                *running = Some(Running { supervisor, _lock: lock });
                Ok(())
            }
            Err(error) => {
                supervisor.stop().await;
                Err(error)
            }
        }
    }

    /// Fast shutdown; after 60 s immediate.
    pub async fn stop(&self) {
        if let Some(Running { supervisor, _lock }) = self.running.lock().await.take() {
            supervisor.stop().await;
        }
    }

    /// The postmaster's pid while there is one.
    pub async fn pid(&self) -> Option<i32> {
        self.running.lock().await.as_ref().and_then(|running| running.supervisor.pid())
    }

    /// The superuser, over the private socket.
    pub fn admin_dsn(&self) -> Dsn {
        Dsn::to_socket(&self.options.socket_dir, self.options.port, ADMIN_ROLE, "postgres")
    }

    /// Where tenants connect: add user, password and database.
    pub fn address(&self) -> (&'static str, u16) {
        ("127.0.0.1", self.options.port)
    }

    pub fn options(&self) -> &ClusterOptions {
        &self.options
    }

    async fn until_ready(&self, supervisor: &Supervisor) -> Result<(), ProcessError> {
        let dir = || self.options.data_dir.clone();
        // Crash recovery with thousands of databases takes a while, even with syncfs.
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            let error = match Admin::connect(&self.admin_dsn(), None, "freehold start").await {
                Ok(admin) => {
                    admin.close().await;
                    return Ok(());
                }
                Err(error) => error,
            };
            if supervisor.deaths() > 0 {
                return Err(ProcessError::DidNotStart { dir: dir(), log: last_words(&self.options) });
            }
            if !error.is_transient() || Instant::now() > deadline {
                return Err(ProcessError::NotReady { dir: dir(), source: error });
            }
            sleep(Duration::from_millis(30)).await;
        }
    }

    fn lock(&self) -> Result<File, ProcessError> {
        let path = initialise::sibling(&self.options.data_dir, "lock");
        let parent = path.parent().unwrap_or(Path::new("/"));
        let denied = |source| ProcessError::NotWritable { dir: parent.to_owned(), source };
        std::fs::create_dir_all(parent).map_err(denied)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(denied)?;
        file.try_lock().map_err(|_| ProcessError::Locked { dir: self.options.data_dir.clone() })?;
        Ok(file)
    }
}

impl Account {
    pub(crate) fn choose(wanted: Option<&str>) -> Result<Self, ProcessError> {
        let find = |name: &str| User::from_name(name).ok().flatten();
        let me = Uid::effective();
        let (user, switch) = match (me.is_root(), wanted) {
            (false, _) => (User::from_uid(me).ok().flatten(), false),
            (true, Some(name)) => (find(name), true),
            (true, None) => (find("postgres").or_else(|| find("nobody")), true),
        };
        let missing =
            || ProcessError::NoSuchUser { user: wanted.map_or_else(|| format!("number {me}"), str::to_owned) };
        let user = user.ok_or_else(missing)?;
        Ok(Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), switch })
    }

    /// Who is the admin on the socket: this process, and PostgreSQL's own user for hand work.
    pub(super) fn machine_users(&self) -> Vec<String> {
        let me = User::from_uid(Uid::effective()).ok().flatten().map(|user| user.name);
        let mut users = vec![self.name.clone()];
        users.extend(me.filter(|me| *me != self.name));
        users
    }

    /// A command as this user, in `dir`, with nothing of Freehold's environment: it may hold secrets.
    pub(crate) fn command(&self, program: &Path, dir: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(dir)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        if let Some(zone) = std::env::var_os("TZ") {
            command.env("TZ", zone);
        }
        if self.switch {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }
}
