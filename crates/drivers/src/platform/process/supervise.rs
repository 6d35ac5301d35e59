//! Keeps one postmaster running: starts it again when it dies, stops it when told.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::cluster::{Account, ClusterOptions};
use super::error::ProcessError;
use super::seen::{Seen, pid_of, telling};
use super::{orphan, settings};

pub(super) struct Supervisor {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    seen: Arc<Seen>,
}

const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LAST_BACKOFF: Duration = Duration::from_secs(30);
/// How often the number of databases is looked at.
const LOOK: Duration = Duration::from_secs(30);

impl Supervisor {
    pub(super) fn start(options: ClusterOptions, account: Account) -> Result<Self, ProcessError> {
        let child = spawn(&options, &account)?;
        let seen = Arc::new(Seen::default());
        seen.runs(pid_of(&child));
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(watch_over(child, options, account, seen.clone(), stopped));
        Ok(Self { stop, task, seen })
    }

    pub(super) async fn stop(mut self) {
        let _ = self.stop.send(true);
        let _ = (&mut self.task).await;
    }

    pub(super) fn deaths(&self) -> u32 {
        self.seen.deaths()
    }

    pub(super) fn pid(&self) -> Option<i32> {
        self.seen.pid()
    }
}

impl Drop for Supervisor {
    /// Nobody called `stop`: a fast shutdown all the same, without waiting for it.
    fn drop(&mut self) {
        // Asked first: an abort may be over at once.
        let is_told = self.task.is_finished();
        self.task.abort();
        if !is_told {
            self.seen.signal(Signal::SIGINT);
        }
    }
}

async fn watch_over(
    mut child: Child,
    options: ClusterOptions,
    account: Account,
    seen: Arc<Seen>,
    mut stopped: watch::Receiver<bool>,
) {
    let dir = options.data_dir.clone();
    let mut backoff = FIRST_BACKOFF;
    let mut naptime = settings::Naptime::new(&options);
    let mut started = Instant::now();
    loop {
        tokio::select! {
            () = sleep(LOOK) => {
                match naptime.follow(&options) {
                    // It reads its settings again.
                    Ok(true) => seen.signal(Signal::SIGHUP),
                    Ok(false) => {}
                    Err(error) => tracing::warn!(%error, "autovacuum keeps its pace"),
                }
                continue;
            }
            status = child.wait() => {
                seen.died();
                tracing::warn!(dir = %dir.display(), status = ?status.ok(), "PostgreSQL died; it is started again");
            }
            () = told(&mut stopped) => {
                shut_down(&mut child, &dir).await;
                orphan::none_left(&dir).await;
                seen.gone();
                return;
            }
        }
        if started.elapsed() > Duration::from_secs(60) {
            backoff = FIRST_BACKOFF;
        }
        child = loop {
            tokio::select! {
                () = sleep(backoff) => {}
                () = told(&mut stopped) => return,
            }
            backoff = (backoff * 2).min(LAST_BACKOFF);
            // Its children may outlive a killed postmaster for a moment and hold the shared memory.
            if let Err(error) = orphan::stop(&options).await {
                tracing::warn!(%error, "not started again yet");
                continue;
            }
            match spawn(&options, &account) {
                Ok(child) => break child,
                Err(error) => tracing::warn!(%error, "not started again yet"),
            }
        };
        seen.runs(pid_of(&child));
        started = Instant::now();
    }
}

/// Also when the one who could tell is gone.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Fast, then immediate, then whatever it takes.
async fn shut_down(child: &mut Child, dir: &Path) {
    for (signal, patience) in [(Signal::SIGINT, 60), (Signal::SIGQUIT, 10), (Signal::SIGKILL, 10)] {
        let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) else { return };
        let _ = kill(Pid::from_raw(pid), signal);
        if timeout(Duration::from_secs(patience), child.wait()).await.is_ok() {
            return;
        }
        tracing::warn!(dir = %dir.display(), ?signal, "PostgreSQL does not stop");
    }
}

fn spawn(options: &ClusterOptions, account: &Account) -> Result<Child, ProcessError> {
    let path = startup_log(options);
    let log = File::create(&path).map_err(ProcessError::io("create", &path))?;
    let stderr = log.try_clone().map_err(ProcessError::io("open", &path))?;
    let postgres = options.binaries.tool("postgres");
    account
        .command(&postgres, &options.data_dir)
        .arg("-D")
        .arg(&options.data_dir)
        .stdout(Stdio::from(log))
        .stderr(Stdio::from(stderr))
        // Ctrl-C in a terminal is for Freehold, which then stops this in good order.
        .process_group(0)
        .spawn()
        .map_err(ProcessError::io("run", &postgres))
}

/// What postgres says before its own log exists.
pub(super) fn startup_log(options: &ClusterOptions) -> PathBuf {
    options.data_dir.join("startup.log")
}

/// The end of it, for an error message.
pub(super) fn last_words(options: &ClusterOptions) -> String {
    let mut text = fs::read_to_string(startup_log(options)).unwrap_or_default();
    let newest = fs::read_dir(options.data_dir.join("log")).ok().and_then(|entries| {
        entries.flatten().max_by_key(|entry| entry.metadata().and_then(|meta| meta.modified()).ok())
    });
    if let Some(entry) = newest {
        text.push_str(&fs::read_to_string(entry.path()).unwrap_or_default());
    }
    telling(&text, &["FATAL", "PANIC", "HINT"])
}
