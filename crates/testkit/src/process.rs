//! A process of ours, in a group of its own, with its output in a file. Absent: processes that we did not start.

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// Long enough for a machine that builds and tests at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub struct Running {
    child: Child,
    status: Option<ExitStatus>,
    output: PathBuf,
}

impl Running {
    /// Standard output and error are appended to `output`.
    pub fn spawn(command: &mut Command, output: &Path) -> Self {
        let file =
            OpenOptions::new().create(true).append(true).open(output).expect("open the file for a process's output");
        let both = file.try_clone().expect("share the file for a process's output");
        let child = command.stdin(Stdio::null()).stdout(file).stderr(both).process_group(0).spawn();
        let child = child.unwrap_or_else(|error| panic!("start {}: {error}", command.get_program().to_string_lossy()));
        Self { child, status: None, output: output.to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote since the file began, restarts included.
    pub fn output(&self) -> String {
        fs::read(&self.output).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("look after a child process");
        }
        self.status
    }

    /// To this process alone. Nothing where it has ended: its id may be somebody else's.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let _ = kill(self.id(), signal);
        }
    }

    /// To its whole group, which may outlive it. Once it was waited for, its id may be reused, so then only
    /// [`processes_under`] finds what is left.
    pub fn signal_group(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let _ = killpg(self.id(), signal);
        }
    }

    /// Panics with the output when it does not end in time.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let ended = self.ends_within(patience);
        ended.unwrap_or_else(|| panic!("process {} did not end in {patience:?}:\n{}", self.pid(), self.output()))
    }

    pub(crate) fn ends_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        while self.ended().is_none() && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        self.ended()
    }

    /// The same, and the runtime goes on with its other tasks.
    pub async fn wait_async(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "process {} did not end in {patience:?}:\n{}",
                self.pid(),
                self.output()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    fn id(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal_group(Signal::SIGCONT);
        self.signal_group(Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// The processes whose working directory is in this directory of a test: PostgreSQL and its children are always in theirs.
pub fn processes_under(directory: &Path) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            let works_in = fs::read_link(entry.path().join("cwd")).ok()?;
            works_in.starts_with(directory).then_some(Pid::from_raw(id))
        })
        .collect()
}

/// By a signal: it is there, and does nothing (state T).
pub fn is_stopped(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

pub(crate) fn end_processes_under(directory: &Path) {
    // SIGQUIT lets a postmaster give its shared memory back; SIGKILL does not.
    for signal in [Signal::SIGQUIT, Signal::SIGKILL] {
        for id in processes_under(directory) {
            let _ = kill(id, Signal::SIGCONT);
            let _ = kill(id, signal);
        }
        if wait_for_none_under(directory, Duration::from_secs(5)) {
            return;
        }
    }
}

pub(crate) fn wait_for_none_under(directory: &Path, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while !processes_under(directory).is_empty() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
    true
}
