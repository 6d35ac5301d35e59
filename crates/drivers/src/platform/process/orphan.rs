//! Stops what a killed Freehold left running in a data directory. Found by the directory a postgres process works
//! in, never by a pid alone: pids are given out again.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::cluster::ClusterOptions;
use super::error::ProcessError;

/// Answers whether there was anything to stop.
pub(super) async fn stop(options: &ClusterOptions) -> Result<bool, ProcessError> {
    let Ok(dir) = fs::canonicalize(&options.data_dir) else { return Ok(false) };
    if running_in(&dir).is_empty() {
        forget(options)?;
        return Ok(false);
    }
    tracing::warn!(dir = %dir.display(), "stopping a PostgreSQL that an earlier Freehold left behind");
    // Fast shutdown of the postmaster; when only its children are left, they end by themselves or are told to.
    for (signal, patience) in [(Signal::SIGINT, 60), (Signal::SIGQUIT, 10), (Signal::SIGKILL, 5)] {
        let running = running_in(&dir);
        let targets: Vec<i32> = match postmaster(&dir).filter(|pid| running.contains(pid)) {
            Some(pid) => vec![pid],
            None => running,
        };
        for pid in targets {
            // Gone meanwhile is what we want.
            let _ = kill(Pid::from_raw(pid), signal);
        }
        let deadline = Instant::now() + Duration::from_secs(patience);
        while Instant::now() < deadline {
            if running_in(&dir).is_empty() {
                forget(options)?;
                return Ok(true);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    match running_in(&dir).first() {
        Some(&pid) => Err(ProcessError::OrphanStays { dir, pid }),
        None => {
            forget(options)?;
            Ok(true)
        }
    }
}

/// A postmaster does not wait for its log collector, which ends when the last line is written.
pub(super) async fn none_left(data_dir: &Path) {
    let Ok(dir) = fs::canonicalize(data_dir) else { return };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !running_in(&dir).is_empty() && Instant::now() < deadline {
        sleep(Duration::from_millis(5)).await;
    }
}

/// Whoever makes a cluster in `working`, which a killed or dropped Freehold began: initdb and what it runs, which outlives
/// it for a moment and writes on. Nobody writes there afterwards.
pub(super) async fn end_initdb(working: &Path) -> Result<(), ProcessError> {
    let is_one = |pid| has_argument(pid, working) && runs(pid, "initdb") || has_pgdata(pid, working);
    let end = |pid| {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    };
    match until_none(working, is_one, end).await {
        Some(pid) => Err(ProcessError::OrphanStays { dir: working.to_owned(), pid }),
        None => Ok(()),
    }
}

/// A pg_ctl that nobody waits for any more, and the shell that becomes its postmaster (`exec postgres …`): until they work
/// in the directory, or gave up.
pub(super) async fn begun(dir: &Path) {
    let is_about_to = |pid| {
        let is_one = runs(pid, "pg_ctl") || runs(pid, "postgres") || mentions(pid, "exec ");
        is_one && mentions(pid, dir) && !is_postgres_in(pid, dir)
    };
    until_none(dir, is_about_to, drop).await;
}

/// Answers one that stays. None means that two looks in a row found none: during a look, one may become another.
async fn until_none(dir: &Path, is_wanted: impl Fn(i32) -> bool, meanwhile: impl Fn(i32)) -> Option<i32> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut looks = 0;
    loop {
        let found = pids(&is_wanted);
        looks = if found.is_empty() && !any_becoming(dir) { looks + 1 } else { 0 };
        if looks == 2 {
            return None;
        }
        if Instant::now() > deadline {
            return found.first().copied();
        }
        found.into_iter().for_each(&meanwhile);
        sleep(Duration::from_millis(5)).await;
    }
}

fn forget(options: &ClusterOptions) -> Result<(), ProcessError> {
    forget_postmaster(&options.data_dir, &options.socket_dir, options.port)
}

/// Nobody works here: the pid in the lock files is a zombie's, or by now somebody else's, and PostgreSQL would not start
/// because of it.
pub(super) fn forget_postmaster(data_dir: &Path, socket_dir: &Path, port: u16) -> Result<(), ProcessError> {
    for file in [data_dir.join("postmaster.pid"), socket_dir.join(format!(".s.PGSQL.{port}.lock"))] {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(ProcessError::io("remove", file)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Every postgres process working in this directory: the postmaster and its children alike. None means that two looks in a
/// row found none: a child that began during a look may be all that is left of a postmaster that ended during it.
pub(super) fn running_in(dir: &Path) -> Vec<i32> {
    let look = || pids(|pid| is_postgres_in(pid, dir));
    Some(look()).filter(|found| !found.is_empty()).unwrap_or_else(look)
}

pub(super) fn is_postgres_in(pid: i32, dir: &Path) -> bool {
    runs(pid, "postgres") && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == dir)
}

fn pids(is_wanted: impl Fn(i32) -> bool) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| is_wanted(*pid))
        .collect()
}

/// A package upgrade replaces the binary under a running server: "postgres (deleted)".
fn runs(pid: i32, program: &str) -> bool {
    fs::read_link(format!("/proc/{pid}/exe"))
        .is_ok_and(|exe| exe.file_name().is_some_and(|name| name.to_string_lossy().starts_with(program)))
}

/// Somebody of the directory's owner begins another program at this moment: the kernel names it already, and not yet what
/// it was told, so that nobody knows whether it is about the directory. That takes as long as its loading does.
fn any_becoming(dir: &Path) -> bool {
    let owner = |path: &Path| fs::metadata(path).map(|found| found.uid()).ok();
    let Some(wanted) = owner(dir) else { return false };
    let is_becoming = |pid: i32| {
        let process = format!("/proc/{pid}");
        owner(Path::new(&process)) == Some(wanted) && runs(pid, "") && arguments(pid).is_empty()
    };
    !pids(is_becoming).is_empty()
}

fn has_argument(pid: i32, path: &Path) -> bool {
    arguments(pid).split(|byte| *byte == 0).any(|argument| argument == path.as_os_str().as_bytes())
}

fn mentions(pid: i32, text: impl AsRef<OsStr>) -> bool {
    let text = text.as_ref().as_bytes();
    arguments(pid).windows(text.len()).any(|part| part == text)
}

fn arguments(pid: i32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// initdb tells its children by it where they work.
fn has_pgdata(pid: i32, dir: &Path) -> bool {
    let wanted = [b"PGDATA=", dir.as_os_str().as_bytes()].concat();
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|variables| variables.split(|byte| *byte == 0).any(|one| one == wanted))
}

pub(super) fn postmaster(dir: &Path) -> Option<i32> {
    fs::read_to_string(dir.join("postmaster.pid")).ok()?.lines().next()?.trim().parse().ok()
}
