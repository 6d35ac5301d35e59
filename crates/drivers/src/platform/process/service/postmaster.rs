//! One postmaster, seen from outside: found by the directory it works in, started in a session of its own, ended.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::super::ProcessError;
use super::super::binaries::Binaries;
use super::super::cluster::Account;
use super::super::orphan;
use super::place::Place;
use super::record::Definition;
use super::refuse::failed;
use crate::platform::{PlatformError, PlatformErrorKind};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    None,
    /// The postmaster is gone, and what it left has not noticed yet.
    Remains,
    Alive {
        pid: i32,
        doing: Doing,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    Starting,
    /// Lets sessions in.
    Ready,
    Stopping,
    /// By a signal: it is there and does nothing.
    Held,
}

pub(super) fn look(data: &Path) -> Seen {
    let Ok(dir) = fs::canonicalize(data) else { return Seen::None };
    if let Some(pid) = orphan::postmaster(&dir).filter(|pid| orphan::is_postgres_in(*pid, &dir)) {
        return Seen::Alive { pid, doing: doing(&dir, pid) };
    }
    match orphan::running_in(&dir).as_slice() {
        [] => Seen::None,
        // Before it has written its file it is alone.
        [pid] if is_postmaster(*pid) => Seen::Alive { pid: *pid, doing: Doing::Starting },
        _ => Seen::Remains,
    }
}

/// Its children have other command lines: `postgres: checkpointer`.
fn is_postmaster(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.windows(4).any(|part| part == b"\0-D\0"))
}

fn doing(dir: &Path, pid: i32) -> Doing {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    if matches!(state, Some('T' | 't')) {
        return Doing::Held;
    }
    let file = fs::read_to_string(dir.join("postmaster.pid")).unwrap_or_default();
    match file.lines().nth(7).map(str::trim) {
        Some("ready" | "standby") => Doing::Ready,
        Some("stopping") => Doing::Stopping,
        _ => Doing::Starting,
    }
}

/// Starts it and returns when it is there; whether it stays is another question. Nobody worked there when it was called.
pub(super) async fn start(
    place: &Place,
    definition: &Definition,
    binaries: &Binaries,
    account: &Account,
) -> Result<(), PlatformError> {
    let data = place.data(definition);
    // Whoever was interrupted in the midst of this may have begun one.
    orphan::begun(&data).await;
    if matches!(look(&data), Seen::Alive { .. }) {
        return Ok(());
    }
    orphan::forget_postmaster(&data, &place.socket_dir(), definition.port).map_err(failed)?;
    let log = place.log_dir().join(super::words::STARTUP);
    match fs::remove_file(&log) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(failed(ProcessError::io("remove", &log)(error)));
        }
        _ => {}
    }
    // pg_ctl puts it into a session of its own and leaves: neither a terminal nor Freehold's end reaches it.
    let pg_ctl = binaries.tool("pg_ctl");
    let mut command = account.command(&pg_ctl, &data);
    command.args(["start", "-W", "-s", "-D"]).arg(&data).arg("-l").arg(&log);
    // The kernel shall take a session before the postmaster, which would take all sessions along.
    command.env("PG_OOM_ADJUST_FILE", "/proc/self/oom_score_adj").env("PG_OOM_ADJUST_VALUE", "0");
    let output = command.output().await.map_err(|error| failed(ProcessError::io("run", &pg_ctl)(error)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(failed(ProcessError::DidNotStart { dir: data, log: said }));
    }
    let deadline = Instant::now() + Duration::from_secs(3);
    while Instant::now() < deadline {
        if let Seen::Alive { pid, .. } = look(&data) {
            // Only root may; without it the kernel chooses by size.
            let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), "-900");
            return Ok(());
        }
        if fs::read_to_string(&log).is_ok_and(|text| text.contains("FATAL")) {
            return Ok(());
        }
        sleep(Duration::from_millis(10)).await;
    }
    // On a machine that hardly comes to anything it is still on its way: who stops it next has to find it.
    orphan::begun(&data).await;
    Ok(())
}

pub(super) fn reload(pid: i32) {
    // One that is gone meanwhile reads its files when it is started.
    let _ = kill(Pid::from_raw(pid), Signal::SIGHUP);
}

/// Fast shutdown within the grace, then immediate, then whatever it takes.
pub(super) async fn stop(data: &Path, grace: Duration) -> Result<(), PlatformError> {
    let fast = [(Signal::SIGINT, grace)];
    let hard = [(Signal::SIGQUIT, Duration::from_secs(10)), (Signal::SIGKILL, Duration::from_secs(5))];
    for (signal, patience) in fast.into_iter().chain(hard) {
        match look(data) {
            Seen::None => return Ok(()),
            Seen::Alive { pid, .. } if signal != Signal::SIGKILL => {
                tell(pid, signal);
                tell(pid, Signal::SIGCONT);
            }
            // Without their postmaster they have nothing to finish.
            Seen::Alive { .. } | Seen::Remains => {
                let hard = if signal == Signal::SIGKILL { signal } else { Signal::SIGQUIT };
                let dir = fs::canonicalize(data).unwrap_or_else(|_| data.to_owned());
                for pid in orphan::running_in(&dir) {
                    tell(pid, hard);
                    tell(pid, Signal::SIGCONT);
                }
            }
        }
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            match look(data) {
                Seen::None => return Ok(()),
                // It died on the way: the next signal is for what it left.
                Seen::Remains if signal == Signal::SIGINT => break,
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
        if look(data) != Seen::None && signal != Signal::SIGINT {
            tracing::warn!(dir = %data.display(), ?signal, "PostgreSQL does not stop");
        }
    }
    match look(data) {
        Seen::None => Ok(()),
        _ => Err(PlatformError::new(
            PlatformErrorKind::Other,
            format!("PostgreSQL in {} does not end, not even when it is killed: look at its disk", data.display()),
        )),
    }
}

fn tell(pid: i32, signal: Signal) {
    // Gone meanwhile is what we want.
    let _ = kill(Pid::from_raw(pid), signal);
}
