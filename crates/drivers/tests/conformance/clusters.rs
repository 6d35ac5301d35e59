//! Clusters of this machine: what stands in the way is named, and nothing is left half-made.

use std::time::Duration;

use freehold_drivers::platform::process::{Cluster, ProcessError};
use freehold_drivers::server::sql::Admin;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bench::{Engine, directory, options};

#[tokio::test]
async fn cluster_names_a_taken_port_before_it_makes_anything() {
    let dir = directory();
    let options = options(Engine::Pg15, dir.path());
    let _other = std::net::TcpListener::bind(("127.0.0.1", options.port)).unwrap();
    let error = Cluster::new(options.clone()).unwrap().ensure_initialised().await.unwrap_err();
    assert!(matches!(error, ProcessError::PortTaken { .. }), "{error}");
    assert!(!options.data_dir.exists());
}

#[tokio::test]
async fn cluster_names_a_foreign_or_closed_directory() {
    let dir = directory();
    let options = options(Engine::Pg15, dir.path());
    std::fs::create_dir(&options.data_dir).unwrap();
    std::fs::write(options.data_dir.join("precious"), "x").unwrap();
    let error = Cluster::new(options.clone()).unwrap().ensure_initialised().await.unwrap_err();
    assert!(matches!(error, ProcessError::NotACluster { .. }), "{error}");

    let mut long = options;
    long.socket_dir = dir.path().join("x".repeat(100));
    assert!(matches!(Cluster::new(long), Err(ProcessError::SocketPathTooLong { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_comes_back_when_its_postmaster_is_killed() {
    for engine in [Engine::Pg15, Engine::Pg18] {
        let dir = directory();
        let cluster = Cluster::new(options(engine, dir.path())).unwrap();
        cluster.ensure_initialised().await.unwrap();
        for _ in 0..2 {
            cluster.start().await.unwrap();
        }
        let rival = Cluster::new(cluster.options().clone()).unwrap().start().await.unwrap_err();
        assert!(matches!(rival, ProcessError::Locked { .. }), "{rival}");
        let before = cluster.pid().await.unwrap();
        kill(Pid::from_raw(before), Signal::SIGKILL).unwrap();
        let mut after = None;
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            after = cluster.pid().await.filter(|pid| *pid != before);
            if after.is_some() && Admin::connect(&cluster.admin_dsn(), None, "t").await.is_ok() {
                break;
            }
        }
        assert!(after.is_some());
        Admin::connect(&cluster.admin_dsn(), None, "t").await.unwrap().ping().await.unwrap();
        for _ in 0..2 {
            cluster.stop().await;
        }
        assert!(Admin::connect(&cluster.admin_dsn(), None, "t").await.err().unwrap().is_transient());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_stops_what_a_killed_freehold_left_behind() {
    let dir = directory();
    let cluster = Cluster::new(options(Engine::Pg15, dir.path())).unwrap();
    cluster.start().await.unwrap();
    cluster.stop().await;
    let options = cluster.options();
    let mut orphan = std::process::Command::new(options.binaries.tool("postgres"));
    orphan.arg("-D").arg(&options.data_dir).stdin(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    if nix::unistd::Uid::effective().is_root() {
        let user = nix::unistd::User::from_name("postgres").unwrap().unwrap();
        std::os::unix::process::CommandExt::uid(&mut orphan, user.uid.as_raw());
    }
    let mut orphan = orphan.spawn().unwrap();
    let reaper = tokio::task::spawn_blocking(move || orphan.wait().unwrap());
    for _ in 0..100 {
        if Admin::connect(&cluster.admin_dsn(), None, "t").await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.start().await.unwrap();
    assert!(reaper.await.unwrap().success(), "the orphan was stopped in good order");
    Admin::connect(&cluster.admin_dsn(), None, "t").await.unwrap().ping().await.unwrap();
    cluster.stop().await;
}
