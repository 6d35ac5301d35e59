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
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../scripts/docker");
        let output = Command::new(&script).args(["start", &major.to_string()]).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", script.display());
        let socket = String::from_utf8(output.stdout).unwrap().trim().to_owned();
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

impl Drop for DockerEngine {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.clean();
        }
    }
}
