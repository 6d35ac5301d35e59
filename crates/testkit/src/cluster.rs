//! A PostgreSQL cluster for one test. `initdb` runs once per version and machine; each cluster is a copy of its result.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use postgres_protocol::password::scram_sha_256;
use tokio_postgres::{Client, Config, NoTls};

use crate::directory::{self, Directory};
use crate::engine::{engine, unprivileged_user};
use crate::port::Port;
use crate::process::{PATIENCE, Running, processes_under, wait_for_none_under};

mod standby;

/// The superuser.
pub const ADMIN: &str = "admin";
pub const ADMIN_PASSWORD: &str = "testkitAdminPassword1";
pub const WEAK_ADMIN: &str = "weak_admin";
pub const WEAK_ADMIN_PASSWORD: &str = "testkitWeakPassword1";

#[derive(Debug, Clone)]
pub struct ClusterBuilder {
    version: u32,
    settings: Vec<(String, String)>,
    env: Vec<(String, String)>,
    own_identity: bool,
}

impl ClusterBuilder {
    /// Not the system identifier that all others of its version have: an `initdb` of its own, which takes a second.
    pub fn own_identity(mut self) -> Self {
        self.own_identity = true;
        self
    }

    /// Of the server's own processes.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A line of `postgresql.conf`; the last one of a name counts.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Every statement is in [`Cluster::log`]: for tests that look for what must not be in it.
    pub fn log_statements(self) -> Self {
        self.setting("log_statement", "all").setting("log_min_duration_statement", "0").setting("log_connections", "on")
    }

    pub fn start(self) -> Cluster {
        let bin = engine(self.version);
        let directory = Directory::new();
        let data = directory.path().join("data");
        if self.own_identity {
            initialise(&bin, &data);
        } else {
            copy(&initialised(self.version, &bin), &data);
        }
        let socket = directory.path().join("socket");
        fs::create_dir(&socket).expect("make the directory of the socket");
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o755)).expect("permit the directory of the socket");
        if let Some(user) = unprivileged_user() {
            chown(&socket, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .expect("give the directory of the socket away");
        }
        let port = Port::reserve();
        let env = self.env;
        let mut cluster = Cluster { version: self.version, bin, data, socket, port, env, postmaster: None, directory };
        for (name, value) in [
            ("listen_addresses", "127.0.0.1"),
            ("port", &cluster.port.number.to_string()),
            ("unix_socket_directories", &cluster.socket.display().to_string()),
            ("password_encryption", "scram-sha-256"),
            // Nothing here outlives the machine's crash. A kill of PostgreSQL loses nothing: commits are still written.
            ("fsync", "off"),
            ("full_page_writes", "off"),
            ("shared_buffers", "32MB"),
            ("max_connections", "100"),
            ("log_line_prefix", "%m [%p] %q%u@%d "),
        ] {
            cluster.set(name, value);
        }
        for (name, value) in &self.settings {
            cluster.set(name, value);
        }
        cluster.start_again();
        cluster
    }
}

/// Runs until it is dropped or stopped.
#[derive(Debug)]
pub struct Cluster {
    version: u32,
    bin: PathBuf,
    data: PathBuf,
    socket: PathBuf,
    port: Port,
    env: Vec<(String, String)>,
    postmaster: Option<Running>,
    // Last: what runs ends before its directory goes.
    directory: Directory,
}

impl Cluster {
    /// With the usual settings.
    pub fn start(version: u32) -> Self {
        Self::builder(version).start()
    }

    pub fn builder(version: u32) -> ClusterBuilder {
        ClusterBuilder { version, settings: Vec::new(), env: Vec::new(), own_identity: false }
    }

    pub fn version(&self) -> u32 {
        self.version
    }

    pub fn port(&self) -> u16 {
        self.port.number
    }

    pub fn bin(&self) -> &Path {
        &self.bin
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The postmaster's.
    pub fn pid(&self) -> u32 {
        self.postmaster.as_ref().expect("the cluster runs").pid()
    }

    /// For [`ADMIN`] and the weak admin, with the password; for anybody else without one.
    pub fn dsn(&self, user: &str) -> String {
        match user {
            ADMIN => self.dsn_with(ADMIN, ADMIN_PASSWORD, "postgres"),
            WEAK_ADMIN => self.dsn_with(WEAK_ADMIN, WEAK_ADMIN_PASSWORD, "postgres"),
            _ => format!("postgres://{user}@127.0.0.1:{}/postgres?sslmode=disable", self.port()),
        }
    }

    /// User, password and database as they are: nothing is escaped.
    pub fn dsn_with(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}?sslmode=disable", self.port())
    }

    /// A login with CREATEDB and CREATEROLE alone, as managed services give it; its DSN. May be called again.
    pub async fn weak_admin(&self) -> String {
        let admin = self.connect("postgres").await;
        // What is in no log is looked for there.
        let verifier = scram_sha_256(WEAK_ADMIN_PASSWORD.as_bytes());
        let made = admin
            .batch_execute(&format!("CREATE ROLE {WEAK_ADMIN} LOGIN CREATEDB CREATEROLE PASSWORD '{verifier}'"))
            .await;
        if let Err(error) = made
            && error.code() != Some(&tokio_postgres::error::SqlState::DUPLICATE_OBJECT)
        {
            panic!("make the weak admin: {error}");
        }
        self.dsn(WEAK_ADMIN)
    }

    /// As the superuser.
    pub async fn connect(&self, database: &str) -> Client {
        let client = self.connect_as(ADMIN, ADMIN_PASSWORD, database).await;
        client.unwrap_or_else(|error| panic!("connect to {database:?}: {error:?}\n{}", self.log()))
    }

    pub async fn connect_as(
        &self,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<Client, tokio_postgres::Error> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port()).user(user).password(password).dbname(database);
        connect(&config).await
    }

    /// Adds a line to `postgresql.conf`; counts from the next start, or reload.
    pub fn set(&self, name: &str, value: &str) {
        let value = value.replace('\\', "\\\\").replace('\'', "''");
        let conf = OpenOptions::new().append(true).open(self.data.join("postgresql.conf"));
        writeln!(conf.expect("open postgresql.conf"), "{name} = '{value}'").expect("write postgresql.conf");
    }

    /// Restarts it with this certificate; who comes without TLS is let in as before.
    pub fn speak_tls(&mut self, certificate_pem: &str, key_pem: &str) {
        for (name, text) in [("server.crt", certificate_pem), ("server.key", key_pem)] {
            let path = self.data.join(name);
            fs::write(&path, text).expect("write a certificate");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("permit a certificate");
            if let Some(user) = unprivileged_user() {
                chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("give a certificate away");
            }
        }
        self.set("ssl", "on");
        self.stop();
        self.start_again();
    }

    pub fn reload(&mut self) {
        self.signal(Signal::SIGHUP);
    }

    /// To the postmaster. SIGSTOP stops it, not its sessions.
    pub fn signal(&mut self, signal: Signal) {
        self.postmaster.as_mut().expect("the cluster runs").signal(signal);
    }

    /// Everybody is thrown out, everything is written.
    pub fn stop(&mut self) {
        self.end(Signal::SIGINT);
    }

    /// SIGQUIT: nothing is written; the next start recovers.
    pub fn stop_immediate(&mut self) {
        self.end(Signal::SIGQUIT);
    }

    /// SIGKILL to the postmaster; returns when its children have noticed.
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// On the same data and the same port. With a `standby.signal` in its data it comes up as a standby of nobody.
    pub fn start_again(&mut self) {
        assert!(self.postmaster.is_none(), "the cluster runs already");
        let mut command = Command::new(self.bin.join("postgres"));
        command.arg("-D").arg(&self.data).current_dir(&self.data).env("LC_ALL", "C.UTF-8").env_remove("PGDATA");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        as_unprivileged(&mut command);
        let postmaster = self.postmaster.insert(Running::spawn(&mut command, &self.directory.path().join("log")));
        let deadline = Instant::now() + PATIENCE;
        // The postmaster writes into its own file when it accepts sessions; an older one's file has another id.
        let ready = |pid: u32| {
            let file = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
            let mut lines = file.lines();
            let ready = |line: &str| ["ready", "standby"].contains(&line.trim());
            lines.next() == Some(&pid.to_string()) && lines.nth(6).is_some_and(ready)
        };
        while !ready(postmaster.pid()) {
            if let Some(status) = postmaster.ended() {
                panic!("PostgreSQL {} ended with {status}:\n{}", self.version, postmaster.output());
            }
            assert!(Instant::now() < deadline, "PostgreSQL {} does not start:\n{}", self.version, postmaster.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// All that it logged since it was made.
    pub fn log(&self) -> String {
        let log = fs::read(self.directory.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn end(&mut self, signal: Signal) {
        let mut postmaster = self.postmaster.take().expect("the cluster runs");
        postmaster.signal(signal);
        // One that was stopped only notices when it goes on.
        postmaster.signal(Signal::SIGCONT);
        if postmaster.ends_within(PATIENCE).is_none() {
            let title = |id| fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
            let left: Vec<_> = processes_under(&self.data).into_iter().map(title).collect();
            panic!("PostgreSQL did not end; it still has {left:?}:\n{}", postmaster.output());
        }
        assert!(wait_for_none_under(&self.data, PATIENCE), "left of PostgreSQL: {:?}", processes_under(&self.data));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            postmaster.signal(Signal::SIGQUIT);
            postmaster.signal(Signal::SIGCONT);
            let deadline = Instant::now() + Duration::from_secs(5);
            while postmaster.ended().is_none() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

pub(crate) async fn connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Std leaves the supplementary groups as well when it changes the user.
fn as_unprivileged(command: &mut Command) {
    if let Some(user) = unprivileged_user() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
}

/// The result of `initdb`, made by whoever comes first: it appears by a rename, whole.
fn initialised(version: u32, bin: &Path) -> PathBuf {
    let cache = directory::shared("initdb");
    // Another build of the same version may not read the files of this one.
    let bin_key: String =
        bin.to_string_lossy().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let name = cache.join(format!("{version}-{bin_key}"));
    if name.join("PG_VERSION").exists() {
        return name;
    }
    let work = Directory::new();
    let data = work.path().join("data");
    initialise(bin, &data);
    // Whoever was faster made the same.
    if fs::rename(&data, &name).is_err() {
        assert!(name.join("PG_VERSION").exists(), "cannot put {} in place", name.display());
    }
    name
}

fn initialise(bin: &Path, data: &Path) {
    let work = Directory::new();
    let password = work.path().join("password");
    fs::create_dir(data).expect("make a data directory");
    fs::write(&password, ADMIN_PASSWORD).expect("write the admin's password");
    if let Some(user) = unprivileged_user() {
        chown(data, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("give the data directory away");
    }
    let mut initdb = Command::new(bin.join("initdb"));
    initdb.arg("-D").arg(data).arg("-U").arg(ADMIN).arg(format!("--pwfile={}", password.display()));
    initdb.args(["-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--data-checksums", "--no-sync"]);
    initdb.current_dir(work.path()).env("LC_ALL", "C.UTF-8");
    as_unprivileged(&mut initdb);
    run(&mut initdb);
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}
