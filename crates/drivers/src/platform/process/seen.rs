//! What a supervisor tells of its process without being asked.

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;

#[derive(Default)]
pub(crate) struct Seen {
    /// 0: none at the moment.
    pid: AtomicI32,
    deaths: AtomicU32,
}

/// 0: it was waited for.
pub(crate) fn pid_of(child: &Child) -> i32 {
    child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or(0)
}

impl Seen {
    pub(crate) fn runs(&self, pid: i32) {
        self.pid.store(pid, Ordering::Relaxed);
    }

    pub(crate) fn gone(&self) {
        self.runs(0);
    }

    pub(crate) fn died(&self) {
        self.gone();
        self.deaths.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn pid(&self) -> Option<i32> {
        Some(self.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    pub(crate) fn deaths(&self) -> u32 {
        self.deaths.load(Ordering::Relaxed)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// Of a log the last lines with one of these words, for an error message.
pub(crate) fn telling(log: &str, words: &[&str]) -> String {
    let wanted: Vec<&str> = log.lines().filter(|line| words.iter().any(|word| line.contains(word))).collect();
    match wanted.as_slice() {
        [] => log.lines().last().unwrap_or("it said nothing").to_owned(),
        lines => lines[lines.len().saturating_sub(3)..].join("; "),
    }
}
