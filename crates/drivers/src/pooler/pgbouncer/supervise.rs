//! Keeps one PgBouncer running: starts it again when it dies, takes over one that runs, stops it when told.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::super::PoolerError;
use super::process::{self, SupervisedOptions, ports_are_free, spawn};
use crate::platform::process::{Account, Seen, pid_of};

pub(super) struct Supervisor {
    order: watch::Sender<Order>,
    task: JoinHandle<()>,
    seen: Arc<Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    KeepRunning,
    Stop,
    LeaveIt,
}

/// A child, or one that was found running.
enum Running {
    Child(Child),
    Found(i32, PathBuf),
}

/// The first death costs tenants their connections already: they come back at once.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LAST_BACKOFF: Duration = Duration::from_secs(10);
const STEADY: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(200);
const LOG_LOOK: Duration = Duration::from_secs(30);
const LONGEST_LOG: u64 = 16 * 1024 * 1024;

impl Supervisor {
    pub(super) fn start(options: SupervisedOptions, account: Account) -> Result<Self, PoolerError> {
        let running = match running_in(&options.directory) {
            Some(pid) => Running::Found(pid, options.directory.clone()),
            None => {
                ports_are_free(&options)?;
                Running::Child(spawn(&options, &account)?)
            }
        };
        let seen = Arc::new(Seen::default());
        seen.runs(running.pid());
        let (order, orders) = watch::channel(Order::KeepRunning);
        let task = tokio::spawn(watch_over(running, options, account, seen.clone(), orders));
        Ok(Self { order, task, seen })
    }

    pub(super) async fn stop(mut self) {
        let _ = self.order.send(Order::Stop);
        let _ = (&mut self.task).await;
    }

    pub(super) async fn detach(mut self) {
        let _ = self.order.send(Order::LeaveIt);
        let _ = (&mut self.task).await;
        self.seen.gone();
    }

    pub(super) fn deaths(&self) -> u32 {
        self.seen.deaths()
    }

    pub(super) fn pid(&self) -> Option<i32> {
        self.seen.pid()
    }
}

impl Drop for Supervisor {
    /// Nobody said what to do: it ends, without anybody waiting for it.
    fn drop(&mut self) {
        // Asked first: an abort may be over at once.
        let is_told = self.task.is_finished();
        self.task.abort();
        if !is_told {
            // The second one ends it at once, on every version.
            for signal in [Signal::SIGINT, Signal::SIGTERM] {
                self.seen.signal(signal);
            }
        }
    }
}

impl Running {
    fn pid(&self) -> i32 {
        match self {
            Self::Child(child) => pid_of(child),
            Self::Found(pid, _) => *pid,
        }
    }

    async fn ended(&mut self) {
        match self {
            Self::Child(child) => drop(child.wait().await),
            Self::Found(pid, directory) => {
                while is_ours(*pid, directory) {
                    sleep(LOOK).await;
                }
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let is_there = match self {
            // An id that was waited for is not told any more.
            Self::Child(child) => child.id().is_some(),
            Self::Found(pid, directory) => is_ours(*pid, directory),
        };
        if is_there {
            let _ = kill(Pid::from_raw(self.pid()), signal);
        }
    }
}

async fn watch_over(
    mut running: Running,
    options: SupervisedOptions,
    account: Account,
    seen: Arc<Seen>,
    mut orders: watch::Receiver<Order>,
) {
    let dir = options.directory.clone();
    let mut backoff = FIRST_BACKOFF;
    let mut started = Instant::now();
    loop {
        tokio::select! {
            () = sleep(LOG_LOOK) => {
                if let Err(error) = shorten(&process::log(&dir)) {
                    tracing::warn!(%error, dir = %dir.display(), "the pooler's log grows on");
                }
                continue;
            }
            () = running.ended() => {
                seen.died();
                tracing::warn!(dir = %dir.display(), said = process::last_words(&dir), "PgBouncer died; it is started again");
            }
            order = told(&mut orders) => {
                if order == Order::Stop {
                    shut_down(&mut running, &dir, options.grace).await;
                    seen.gone();
                }
                return;
            }
        }
        if started.elapsed() > STEADY {
            backoff = FIRST_BACKOFF;
        }
        running = loop {
            tokio::select! {
                () = sleep(backoff) => {}
                _ = told(&mut orders) => return,
            }
            backoff = (backoff * 2).min(LAST_BACKOFF);
            match ports_are_free(&options).and_then(|()| spawn(&options, &account)) {
                Ok(child) => break Running::Child(child),
                Err(error) => tracing::warn!(%error, "not started again yet"),
            }
        };
        seen.runs(running.pid());
        started = Instant::now();
    }
}

/// Also when the one who could tell is gone.
async fn told(orders: &mut watch::Receiver<Order>) -> Order {
    match orders.wait_for(|order| *order != Order::KeepRunning).await {
        Ok(order) => *order,
        Err(_) => Order::Stop,
    }
}

/// Transactions end; then at once, which is SIGTERM before 1.23 and SIGTERM on top of SIGINT since; then whatever it takes.
async fn shut_down(running: &mut Running, dir: &Path, grace: Duration) {
    let patience = Duration::from_secs(5);
    for (signal, patience) in [(Signal::SIGINT, grace), (Signal::SIGTERM, patience), (Signal::SIGKILL, patience)] {
        running.signal(signal);
        if timeout(patience, running.ended()).await.is_ok() {
            return;
        }
        tracing::debug!(dir = %dir.display(), ?signal, "PgBouncer still has work to do");
    }
}

/// Ends the PgBouncer that works in this directory, whoever started it; open transactions have the grace.
pub(crate) async fn end_in(directory: &Path, grace: Duration) {
    if let Some(pid) = running_in(directory) {
        shut_down(&mut Running::Found(pid, directory.to_owned()), directory, grace).await;
    }
}

/// The PgBouncer that works in this directory. Found by that, never by a pid alone: pids are given out again.
fn running_in(directory: &Path) -> Option<i32> {
    let entries = fs::read_dir("/proc").ok()?;
    let mut pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid| is_ours(*pid, directory))
}

fn is_ours(pid: i32, directory: &Path) -> bool {
    let link = |what: &str| fs::read_link(format!("/proc/{pid}/{what}")).ok();
    // A package upgrade replaces the program under it: "pgbouncer (deleted)".
    let is_pgbouncer = link("exe")
        .is_some_and(|exe| exe.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pgbouncer")));
    is_pgbouncer && link("cwd").is_some_and(|cwd| cwd == directory)
}

/// Copied to `….1` and cut: PgBouncer appends to it, so it needs no reload to go on.
fn shorten(log: &Path) -> std::io::Result<()> {
    if fs::metadata(log).map_or(0, |meta| meta.len()) <= LONGEST_LOG {
        return Ok(());
    }
    let mut file = File::options().read(true).write(true).open(log)?;
    file.seek(SeekFrom::End(-i64::try_from(LONGEST_LOG).unwrap_or(0)))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    File::create(log.with_extension("log.1"))?.write_all(&text)?;
    file.set_len(0)
}
