//! A PgBouncer for one test. Its files are whoever's test it is; [`Pgbouncer::with_files`] takes simple ones.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::directory::Directory;
use crate::engine::{pooler_engine, unprivileged_user};
use crate::port::Port;
use crate::process::{PATIENCE, Running};

/// Runs until it is dropped or stopped.
#[derive(Debug)]
pub struct Pgbouncer {
    program: PathBuf,
    home: PathBuf,
    port: Port,
    running: Option<Running>,
    // Last: what runs ends before its directory goes.
    directory: Directory,
}

impl Pgbouncer {
    /// Not started: a program (`1.18`, `1.24`), a port, and a directory of the user that it runs as.
    pub fn new(version: &str) -> Self {
        let program = pooler_engine(version);
        let directory = Directory::new();
        let home = directory.path().join("pooler");
        fs::create_dir(&home).expect("make the directory of a pooler");
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("permit the directory of a pooler");
        let pooler = Self { program, home, port: Port::reserve(), running: None, directory };
        pooler.give_away(&pooler.home);
        pooler
    }

    /// Started. `ini` is all of `pgbouncer.ini`, but for where it listens (`127.0.0.1`, [`Pgbouncer::port`]) and
    /// `auth_file`, which holds `users`.
    pub fn with_files(version: &str, databases: &str, settings: &str, users: &str) -> Self {
        let mut pooler = Self::new(version);
        let users_file = pooler.home.join("users.txt");
        let ini = format!(
            "[databases]\n{databases}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir = {}\nauth_file = {}\n{settings}\n",
            pooler.port(),
            pooler.home.display(),
            users_file.display(),
        );
        for (path, text) in [(users_file, users), (pooler.ini(), ini.as_str())] {
            fs::write(&path, text).expect("write a file of a pooler");
            pooler.give_away(&path);
        }
        pooler.start();
        pooler
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its files go here.
    pub fn directory(&self) -> &Path {
        &self.home
    }

    pub fn ini(&self) -> PathBuf {
        self.home.join("pgbouncer.ini")
    }

    pub fn port(&self) -> u16 {
        self.port.number
    }

    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("the pooler runs").pid()
    }

    /// With the `pgbouncer.ini` that is there; returns when it listens.
    pub fn start(&mut self) {
        assert!(self.running.is_none(), "the pooler runs already");
        let mut command = Command::new(&self.program);
        command.arg(self.ini()).current_dir(&self.home).env_clear().env("LC_ALL", "C.UTF-8");
        if let Some(user) = unprivileged_user() {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        // Its private socket comes after the port.
        let socket = self.home.join(format!(".s.PGSQL.{}", self.port.number));
        let has_socket = fs::read_to_string(self.ini()).is_ok_and(|ini| ini.contains("unix_socket_dir"));
        let running = self.running.insert(Running::spawn(&mut command, &self.directory.path().join("log")));
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port.number)).is_err()
            || has_socket && UnixStream::connect(&socket).is_err()
        {
            if let Some(status) = running.ended() {
                panic!("PgBouncer ended with {status}:\n{}", running.output());
            }
            assert!(Instant::now() < deadline, "PgBouncer does not listen:\n{}", running.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// At once: clients are thrown out.
    pub fn stop(&mut self) {
        self.end(&[Signal::SIGINT, Signal::SIGTERM]);
    }

    pub fn kill(&mut self) {
        self.end(&[Signal::SIGKILL]);
    }

    /// SIGSTOP: it listens and says nothing. SIGCONT: it goes on.
    pub fn signal(&mut self, signal: Signal) {
        self.running.as_mut().expect("the pooler runs").signal(signal);
    }

    /// All that it logged since it was made.
    pub fn log(&self) -> String {
        let log = fs::read(self.directory.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// To the user that it runs as.
    pub fn give_away(&self, path: &Path) {
        if let Some(user) = unprivileged_user() {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("give a file of a pooler away");
        }
    }

    fn end(&mut self, signals: &[Signal]) {
        let mut running = self.running.take().expect("the pooler runs");
        for signal in signals {
            running.signal(*signal);
        }
        running.signal(Signal::SIGCONT);
        running.wait(PATIENCE);
    }
}
