//! A supervised pooler: it dies, it is taken over, it stops.

use std::time::{Duration, Instant};

use freehold_drivers::pooler::pgbouncer::{PgBouncer, Supervised, SupervisedOptions, find_program};
use freehold_drivers::pooler::{Listen, Pooler, PoolerErrorKind};
use freehold_testkit::{Cluster, processes_under};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bench::{Bench, Tenant, ask};

/// The bench without its own process: the driver's is started in its place.
async fn supervised(version: &str) -> (Bench, Tenant, SupervisedOptions) {
    let bench = Bench::stopped(version, Cluster::start(15));
    let tenant = bench.tenant("acme").await;
    let program = find_program(Some(bench.pooler.program())).unwrap();
    let listen = Listen { addresses: vec!["127.0.0.1".into()], port: bench.pooler.port() };
    let mut options = SupervisedOptions::new(program.clone(), bench.pooler.directory(), listen);
    options.grace = Duration::from_millis(500);
    let error = Supervised::start(options.clone()).await.err().expect("there are no files yet");
    assert!(error.message.contains("pgbouncer.ini"), "{error}");
    bench.driver.write(&bench.configuration(1, std::slice::from_ref(&tenant)), program.release).await.unwrap();
    (bench, tenant, options)
}

pub async fn a_killed_pooler_comes_back_with_the_same_files(version: &str) {
    let (bench, tenant, options) = supervised(version).await;
    let running = Supervised::start(options).await.unwrap();
    assert_eq!(bench.driver.apply(&bench.configuration(1, std::slice::from_ref(&tenant))).await.unwrap().reloads, 0);
    let session = bench.login(&tenant).await.unwrap();
    assert_eq!(ask(&session, "select 1").await, "1");
    let first = running.pid().unwrap();
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let again = loop {
        if let Ok(session) = bench.login(&tenant).await {
            break session;
        }
        assert!(Instant::now() < deadline, "it does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(ask(&again, "select 2").await, "2");
    assert_ne!(running.pid().unwrap(), first);
    assert_eq!(running.deaths(), 1);
    assert!(session.simple_query("select 3").await.is_err());
    let observed = bench.driver.observe().await.unwrap();
    assert_eq!((observed.loaded, observed.written), (Some(1), Some(1)));
    // An open transaction does not keep it for longer than its grace.
    again.execute_script("begin; select 1").await.unwrap();
    running.stop().await;
    assert!(processes_under(bench.pooler.directory()).is_empty());
    assert!(bench.login(&tenant).await.is_err());
}

pub async fn a_pooler_outlives_who_started_it(version: &str) {
    let (bench, tenant, options) = supervised(version).await;
    let running = Supervised::start(options.clone()).await.unwrap();
    let pid = running.pid().unwrap();
    let session = bench.login(&tenant).await.unwrap();
    assert_eq!(ask(&session, "select 1").await, "1");
    running.detach().await;
    assert_eq!(ask(&session, "select 2").await, "2");
    // Whoever comes next finds it as it is.
    let running = Supervised::start(options.clone()).await.unwrap();
    assert_eq!((running.pid(), running.deaths()), (Some(pid), 0));
    assert_eq!(ask(&session, "select 3").await, "3");
    let driver = PgBouncer::new(bench.keys.options(bench.pooler.directory(), bench.pooler.port()));
    driver.apply(&bench.configuration(2, std::slice::from_ref(&tenant))).await.unwrap();
    // And looks after it.
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while bench.login(&tenant).await.is_err() {
        assert!(Instant::now() < deadline, "it does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(bench.driver.observe().await.unwrap().loaded, Some(2));
    drop(running);
    while !processes_under(bench.pooler.directory()).is_empty() {
        assert!(
            Instant::now() < deadline,
            "dropped, and still there:\n{}",
            std::fs::read_to_string(bench.pooler.directory().join("pgbouncer.log")).unwrap()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn who_is_in_the_way_at_a_start_is_named(version: &str) {
    let (_bench, _tenant, options) = supervised(version).await;
    let other = std::net::TcpListener::bind(("127.0.0.1", options.listen.port)).unwrap();
    let error = Supervised::start(options.clone()).await.err().unwrap();
    assert_eq!((error.kind, error.code()), (PoolerErrorKind::PortTaken, "port_taken"), "{error}");
    drop(other);
    let running = Supervised::start(options.clone()).await.unwrap();
    let error = Supervised::start(options).await.err().unwrap();
    assert_eq!(error.kind, PoolerErrorKind::Conflict, "{error}");
    running.stop().await;
}
