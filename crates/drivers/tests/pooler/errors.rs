//! What goes wrong has a kind, and the words to go with it.

use std::time::Duration;

use freehold_drivers::pooler::pgbouncer::{PgBouncer, PgBouncerOptions, find_program};
use freehold_drivers::pooler::{Pooler, PoolerErrorKind};
use freehold_drivers::secrets::Password;
use freehold_drivers::server::sql::Dsn;
use freehold_testkit::Cluster;
use nix::sys::signal::Signal;

use crate::bench::{ADMIN, Bench, ask};

pub async fn what_stands_in_the_way_is_named(version: &str) {
    let mut bench = Bench::start(version).await;
    let tenants = bench.tenants(1).await;
    bench.apply(2, &tenants).await;
    let wanted = bench.configuration(3, &tenants);
    let options = || bench.keys.options(bench.pooler.directory(), bench.pooler.port());
    let fails = async |options: PgBouncerOptions| PgBouncer::new(options).apply(&wanted).await.unwrap_err();

    let mut wrong = options();
    wrong.console = wrong.console.with_user(ADMIN, Password::random(20));
    let error = fails(wrong).await;
    assert_eq!((error.kind, error.code()), (PoolerErrorKind::Denied, "pooler_denied"), "{error}");
    assert!(error.message.contains(ADMIN), "{error}");

    // A tenant is nobody's administrator.
    let mut stranger = options();
    stranger.console = stranger.console.with_user(&tenants[0].role, tenants[0].password.clone());
    assert_eq!(fails(stranger).await.kind, PoolerErrorKind::Denied);

    // Who may look may not reload.
    let mut looker = options();
    looker.console = looker.console.with_user("freehold_check_2", bench.keys.check.clone());
    let error = fails(looker).await;
    assert!(error.message.contains("admin access needed"), "{error}");

    let elsewhere = PgBouncer::new(PgBouncerOptions::new("/proc/nowhere", options().console));
    let error = elsewhere.apply(&wanted).await.unwrap_err();
    assert_eq!((error.kind, error.is_transient()), (PoolerErrorKind::NotWritable, false), "{error}");
    assert!(error.message.contains("/proc/nowhere"), "{error}");

    let mut postgres = options();
    postgres.console = Dsn::parse(&bench.cluster.dsn("admin")).unwrap();
    assert_eq!(fails(postgres).await.kind, PoolerErrorKind::NotAPooler);

    let mut hostile = wanted.clone();
    hostile.entries[0].name = "two words".into();
    let error = bench.driver.apply(&hostile).await.unwrap_err();
    assert_eq!((error.kind, error.is_transient()), (PoolerErrorKind::Refused, false), "{error}");
    // Nothing of that changed anything.
    assert_eq!(bench.apply(2, &tenants).await.reloads, 0);

    let mut impatient = options();
    impatient.command_limit = Duration::from_millis(300);
    let driver = PgBouncer::new(impatient);
    bench.pooler.signal(Signal::SIGSTOP);
    let error = driver.apply(&wanted).await.unwrap_err();
    assert_eq!((error.kind, error.is_transient()), (PoolerErrorKind::Timeout, true), "{error}");
    bench.pooler.signal(Signal::SIGCONT);
    bench.driver.apply(&wanted).await.unwrap();
}

pub async fn a_pooler_that_does_not_run_finds_its_files_when_it_starts(version: &str) {
    let mut bench = Bench::stopped(version, Cluster::start(15));
    let tenants = bench.tenants(1).await;
    let wanted = bench.configuration(1, &tenants);
    let error = bench.driver.apply(&wanted).await.unwrap_err();
    assert_eq!((error.kind, error.is_transient()), (PoolerErrorKind::Unreachable, true), "{error}");
    assert!(!bench.driver.files().ini().exists(), "of an unknown version nothing is known");
    let mut options = bench.keys.options(bench.pooler.directory(), bench.pooler.port());
    options.release = Some(find_program(Some(bench.pooler.program())).unwrap().release);
    bench.driver = PgBouncer::new(options);
    let error = bench.driver.apply(&wanted).await.unwrap_err();
    assert_eq!(error.kind, PoolerErrorKind::Unreachable);
    assert!(error.message.contains("count from its start"), "{error}");
    bench.pooler.start();
    assert_eq!(bench.driver.apply(&wanted).await.unwrap().reloads, 0);
    assert_eq!(ask(&bench.login(&tenants[0]).await.unwrap(), "select 1").await, "1");
    // It was away, and changed meanwhile.
    bench.pooler.stop();
    assert_eq!(bench.driver.apply(&bench.configuration(2, &[])).await.unwrap_err().kind, PoolerErrorKind::Unreachable);
    bench.pooler.start();
    assert!(bench.login(&tenants[0]).await.is_err());
    assert_eq!(bench.driver.observe().await.unwrap().loaded, Some(2));
}
