use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The tests' own Docker Engine (`scripts/docker`), and what carries one label there: removed before and after.
///
/// One test at a time (`.config/nextest.toml`): names are the engine's names.
pub struct DockerEngine {
    pub socket: String,
    instance: &'static str,
}

impl DockerEngine {
    /// The engine runs, with an image of this major version, and nothing of an earlier test's.
    pub fn start(instance: &'static str, major: u16) -> Self {
        Self::with(instance, &[&major.to_string()])
    }

    /// The same with the image of a pooler, made of this `freehold`.
    pub fn for_poolers(instance: &'static str, program: &str) -> Self {
        let engine = Self::with(instance, &[]);
        let mut build = Command::new(shipped("deploy/images/pooler/build"));
        build.arg(Self::POOLER_IMAGE).env("DOCKER_HOST", format!("unix://{}", engine.socket));
        said(build.env("FREEHOLD", program).env("ACCEPT_EXPIRED", "yes"));
        engine
    }

    pub const POOLER_IMAGE: &str = "localhost/freehold/pooler:tests";

    fn with(instance: &'static str, majors: &[&str]) -> Self {
        let socket = said(Command::new(shipped("scripts/docker")).arg("start").args(majors)).trim().to_owned();
        let engine = Self { socket, instance };
        // A test that was killed has left its things.
        engine.clean();
        engine
    }

    pub fn image(major: u16) -> String {
        format!("localhost/freehold/postgres:{major}")
    }

    /// Its output; fails with what it said.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Of this instance, as `docker … ls` tells them.
    pub fn ids(&self, arguments: &[&str]) -> Vec<String> {
        let filter = format!("label=freehold.instance={}", self.instance);
        let mut all = arguments.to_vec();
        all.extend(["--quiet", "--filter", &filter]);
        self.docker(&all).split_whitespace().map(str::to_owned).collect()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", format!("unix://{}", self.socket)).args(arguments).stdin(Stdio::null());
        command
    }

    /// Of the label alone: nothing else on the engine is a test's.
    fn clean(&self) {
        let remove = |list: &[&str], remove: &[&str]| {
            let ids = self.ids(list);
            if !ids.is_empty() {
                let all: Vec<&str> = remove.iter().copied().chain(ids.iter().map(String::as_str)).collect();
                // Swarm removes containers too: one that is gone meanwhile is no failure.
                let _ = self.command(&all).output();
            }
        };
        remove(&["service", "ls"], &["service", "rm"]);
        for _ in 0..50 {
            remove(&["ps", "--all"], &["rm", "--force"]);
            remove(&["volume", "ls"], &["volume", "rm", "--force"]);
            if self.ids(&["volume", "ls"]).is_empty() && self.ids(&["ps", "--all"]).is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        remove(&["network", "ls"], &["network", "rm"]);
        remove(&["secret", "ls"], &["secret", "rm"]);
        remove(&["config", "ls"], &["config", "rm"]);
    }
}

fn shipped(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn said(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Drop for DockerEngine {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.clean();
        }
    }
}
