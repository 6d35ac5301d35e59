//! Ends, and what comes after them.

use std::time::Duration;

use freehold_drivers::platform::{Phase, Platform};
use freehold_testkit::processes_under;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::Machine;
use crate::case::{Case, World, ask};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deaths_beyond_the_attempts_are_failing_until_somebody_asks() {
    let world = Machine::new(15);
    let platform = world.processes();
    let mut case = Case::new(&world, "dying");
    case.service.restart.delay = Duration::from_millis(50);
    platform.ensure(&case.service).await.unwrap();
    for _ in 0..=case.service.restart.attempts {
        case.until_open(&world, &platform).await.close().await;
        world.kill("dying").await;
        until_gone(&world, "dying").await;
    }
    let failing = case.until(&platform, Phase::Failing).await;
    let reason = failing.reason.unwrap();
    assert!(reason.contains("2 restarts within 120 s"), "{reason}");
    // The next Freehold does not begin anew by itself.
    drop(platform);
    let platform = world.processes();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(platform.observe("dying").await.unwrap().phase, Phase::Failing);
    assert_eq!(processes_under(&world.home("dying")), []);
    platform.ensure(&case.service).await.unwrap();
    case.until_open(&world, &platform).await.close().await;
    world.kill("dying").await;
    until_gone(&world, "dying").await;
    case.until_open(&world, &platform).await.close().await;
}

async fn until_gone(world: &Machine, service: &str) {
    let before = world.home(service).join("data/postmaster.pid");
    let pid = std::fs::read_to_string(&before).ok().and_then(|text| text.lines().next()?.parse().ok());
    for _ in 0..500 {
        match pid {
            Some(pid) if kill(Pid::from_raw(pid), None).is_ok() => tokio::time::sleep(Duration::from_millis(10)).await,
            _ => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_died_while_nobody_watched_is_told_and_started_by_the_next_freehold() {
    let world = Machine::new(15);
    let platform = world.processes();
    let case = Case::new(&world, "alone");
    platform.ensure(&case.service).await.unwrap();
    case.until_open(&world, &platform).await.close().await;
    drop(platform);
    world.kill("alone").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(processes_under(&world.home("alone")), [], "nobody watched");
    let (one, two) = (world.processes(), world.processes());
    assert_ne!(one.observe("alone").await.unwrap().phase, Phase::Running);
    // Two Freeholds at once start one.
    let admin = case.until_open(&world, &one).await;
    assert_eq!(two.observe("alone").await.unwrap().phase, Phase::Running);
    let started = ask(&admin, "select pg_postmaster_start_time()::text").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(ask(&admin, "select pg_postmaster_start_time()::text").await, started);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_ensure_is_finished_by_the_next() {
    let world = Machine::new(15);
    let platform = world.processes();
    let mut case = Case::new(&world, "half");
    case.postgres().settings.remove("fsync");
    for delay in [1, 50, 200, 400, 800, 1600] {
        // As a killed process would: wherever it is.
        let _ = tokio::time::timeout(Duration::from_millis(delay), platform.ensure(&case.service)).await;
        assert_ne!(platform.observe("half").await.unwrap().phase, Phase::Failing, "after {delay} ms");
    }
    platform.ensure(&case.service).await.unwrap();
    case.until_open(&world, &platform).await.close().await;
    let entries = std::fs::read_dir(world.home("half")).unwrap().flatten();
    assert!(entries.into_iter().all(|entry| !entry.file_name().to_string_lossy().contains("initialising")));
    platform.remove("half").await.unwrap();
    platform.purge("half").await.unwrap();
    assert!(!world.home("half").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_again_at_once_is_not_hindered_by_what_was_interrupted() {
    let world = Machine::new(15);
    let platform = world.processes();
    let case = Case::new(&world, "hasty");
    // In the midst of initdb, and when the postmaster is about to be.
    for delay in (0..6).map(|step| 30 + 90 * step) {
        let _ = tokio::time::timeout(Duration::from_millis(delay), platform.ensure(&case.service)).await;
        platform.ensure(&case.service).await.unwrap_or_else(|error| panic!("after {delay} ms: {error}"));
        platform.remove("hasty").await.unwrap_or_else(|error| panic!("after {delay} ms: {error}"));
        platform.purge("hasty").await.unwrap_or_else(|error| panic!("after {delay} ms: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_freeholds_that_ask_at_once_get_one_server() {
    let world = Machine::new(15);
    let (one, two) = (world.processes(), world.processes());
    let case = Case::new(&world, "contested");
    let (first, second) = tokio::join!(one.ensure(&case.service), two.ensure(&case.service));
    first.unwrap();
    second.unwrap();
    case.until_open(&world, &one).await.close().await;
    let postmasters = processes_under(&world.home("contested")).into_iter().filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("\0-D\0")
    });
    assert_eq!(postmasters.collect::<Vec<_>>(), [world.postmaster("contested")]);
    let (stopped, asked) = tokio::join!(one.stop("contested"), two.ensure(&case.service));
    stopped.unwrap();
    asked.unwrap();
    // Whoever came last is obeyed, wholly.
    match one.observe("contested").await.unwrap().phase {
        Phase::Stopped => assert_eq!(processes_under(&world.home("contested")), []),
        _ => case.until_open(&world, &one).await.close().await,
    }
}
