//! The suite on this machine, and what only processes can do.

mod life;
mod log;
mod owner;
mod place;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freehold_drivers::platform::process::{Processes, ProcessesOptions};
use freehold_drivers::platform::{Image, Network, Platform, Storage};
use freehold_drivers::server::managed::{Log, Transport};
use freehold_testkit::{Directory, Port, engine, processes_under};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::case::World;

struct Machine {
    major: u16,
    ports: std::sync::Mutex<Vec<Port>>,
    // Last: what runs ends with its directory.
    directory: Directory,
}

impl Machine {
    fn new(major: u16) -> Self {
        Self { major, ports: Default::default(), directory: Directory::new() }
    }

    fn dir(&self) -> PathBuf {
        self.directory.path().join("services")
    }

    fn home(&self, service: &str) -> PathBuf {
        self.dir().join(service)
    }

    fn processes(&self) -> Processes {
        let mut options = ProcessesOptions::new(self.dir());
        options.engines.insert(self.major, engine(u32::from(self.major)));
        options.watch_every = Duration::from_millis(100);
        Processes::new(options).unwrap()
    }

    fn postmaster(&self, service: &str) -> Pid {
        let file = self.home(service).join("data/postmaster.pid");
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Pid::from_raw(text.lines().next().unwrap().parse().unwrap())
    }
}

#[async_trait]
impl World for Machine {
    fn major(&self) -> u16 {
        self.major
    }

    // The build that carries 16 has none.
    fn transport(&self) -> Transport {
        if self.major == 16 { Transport::Loopback } else { Transport::Tls }
    }

    fn log(&self) -> Log {
        Log::Files
    }

    fn image(&self) -> Option<Image> {
        None
    }

    fn storage(&self) -> Storage {
        Storage::Volume
    }

    fn network(&self) -> Network {
        let port = Port::reserve();
        let number = port.number;
        self.ports.lock().unwrap().push(port);
        Network::Port { host: "localhost".into(), port: number }
    }

    async fn platform(&self) -> Arc<dyn Platform> {
        Arc::new(self.processes())
    }

    async fn kill(&self, service: &str) {
        kill(self.postmaster(service), Signal::SIGKILL).unwrap();
    }

    async fn hold(&self, service: &str) {
        kill(self.postmaster(service), Signal::SIGSTOP).unwrap();
    }

    async fn release(&self, service: &str) {
        kill(self.postmaster(service), Signal::SIGCONT).unwrap();
    }

    async fn visible(&self, service: &str) -> Vec<(String, String)> {
        let home = self.home(service);
        let mut seen = Vec::new();
        for pid in processes_under(&home) {
            for what in ["cmdline", "environ"] {
                let text = std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
                seen.push((format!("{what} of process {pid}"), String::from_utf8_lossy(&text).into_owned()));
            }
        }
        assert!(seen.len() > 2, "the postmaster and its children");
        files(&home, &mut seen);
        assert!(seen.iter().any(|(place, _)| place.ends_with("service.json")));
        seen
    }
}

fn files(dir: &Path, seen: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files(&path, seen),
            kind if kind.is_file() => {
                let text = std::fs::read(&path).unwrap_or_default();
                seen.push((path.display().to_string(), String::from_utf8_lossy(&text).into_owned()));
            }
            _ => {}
        }
    }
}

stories!(pg15, crate::process::world(15));
stories!(pg16, crate::process::world(16));
stories!(pg17, crate::process::world(17));
stories!(pg18, crate::process::world(18));

fn world(major: u16) -> Machine {
    Machine::new(major)
}
