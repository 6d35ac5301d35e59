//! How a server is doing, as every kind of admin sees it, and who gets in where tenants do.

use std::path::Path;
use std::time::Duration;

use freehold_drivers::secrets::{Password, scram_verifier};
use freehold_drivers::server::disk;
use freehold_drivers::server::sql::{Admin, Session, SqlErrorKind, Vitals, visit};

use crate::bench::{Bench, Engine, Power, ask, tcp};

/// The vitals once nobody else is there: whoever prepared the server hangs up in their own time.
async fn alone(admin: &Admin) -> Vitals {
    for _ in 0..500 {
        let vitals = admin.vitals().await.unwrap();
        if vitals.connections == 1 {
            return vitals;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("somebody else stays connected")
}

pub async fn vitals_are_what_goes_on(bench: &Bench) {
    let admin = bench.admin().await;
    let before = alone(&admin).await;
    // 40, of which 3 are reserved for superusers.
    assert_eq!((before.in_recovery, before.connections_max, before.databases), (false, 37, 3));
    assert_eq!(before.replication_lag_bytes, None, "there is no standby and no slot");
    let now: f64 = ask(&bench.superuser_in("postgres").await, "select extract(epoch from clock_timestamp())")
        .await
        .parse()
        .unwrap();
    assert!((before.clock - now).abs() < 5.0);
    assert!(before.xid_age > 0 && before.mxid_age >= 0);
    assert!(before.findings(0.0, None).is_empty());

    let tenant = bench.tenant("watched").await;
    let session = bench.login(&tenant).await.unwrap();
    session.execute_script("begin; select 1").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let during = admin.vitals().await.unwrap();
    assert_eq!(during.databases, 4);
    assert!(during.connections > before.connections);
    assert!(during.oldest_transaction_seconds.unwrap() >= 0.3, "{during:?}");
    let stranger = bench.superuser_in("postgres").await;
    let seen = admin.vitals().await.unwrap();
    // On 15 it gave itself pg_read_all_stats.
    assert_eq!(seen.transactions_hidden, bench.power == Power::Weak && bench.engine != Engine::Pg15);
    drop(stranger);

    // A slot that nobody reads from holds WAL back.
    let superuser = bench.superuser_in("postgres").await;
    superuser.execute_script("select pg_create_physical_replication_slot('idle', true)").await.unwrap();
    superuser.execute_script("create table wal as select generate_series(1, 50000) n").await.unwrap();
    let lag = admin.vitals().await.unwrap().replication_lag_bytes.unwrap();
    assert!(lag > 1_000_000, "{lag}");
    superuser.execute_script("select pg_drop_replication_slot('idle'); drop table wal").await.unwrap();

    let identifier = admin.system_identifier().await.unwrap();
    match (bench.power, &seen.data_directory) {
        (Power::Superuser, Some(directory)) => {
            let found = disk::of_cluster(Path::new(directory), &identifier).unwrap();
            assert!(found.total_bytes >= found.free_bytes && found.total_bytes > 0);
        }
        (Power::Weak, None) => {}
        (_, directory) => panic!("{directory:?}"),
    }
}

pub async fn counters_and_sizes_are_of_every_database(bench: &Bench) {
    let tenant = bench.tenant("counted").await;
    let admin = bench.admin().await;
    let of = async |name: &str| {
        admin.counters().await.unwrap().into_iter().find(|counters| counters.database == name).unwrap()
    };
    let before = of(&tenant.database).await;
    let sizes = async || admin.sizes(&[tenant.database.clone(), "no such database".into()]).await.unwrap();
    let small = sizes().await;
    assert_eq!(small.len(), 1, "what is not there has no size: {small:?}");
    let session = bench.login(&tenant).await.unwrap();
    session.execute_script("create table t as select generate_series(1, 100000) n").await.unwrap();
    assert_eq!(ask(&session, "select count(*) from t").await, "100000");
    let sessions = admin.sessions().await.unwrap();
    let mine = sessions.iter().find(|found| found.role == "counted" && found.database == tenant.database);
    assert_eq!(mine.map(|found| found.count), Some(1));
    session.close().await;
    let mut after = of(&tenant.database).await;
    // What a session counted is written when it ends.
    for _ in 0..100 {
        if after.transactions > before.transactions && after.blocks_hit > before.blocks_hit {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        after = of(&tenant.database).await;
    }
    assert!(after.transactions > before.transactions && after.blocks_hit > before.blocks_hit, "{before:?} {after:?}");
    assert!(sizes().await[&tenant.database] > small[&tenant.database] + 3_000_000);
}

pub async fn a_visitor_gets_in_and_no_further(bench: &Bench) {
    let admin = bench.admin().await;
    let password = Password::random(32);
    let verifier = scram_verifier(&password);
    // Nobody but a superuser lets it into a database that is a superuser's: that is said, and does no harm.
    let admitted = bench.power == Power::Superuser;
    for _ in 0..2 {
        admin.ensure_visitor("fh_visitor_x", &verifier).await.unwrap();
    }
    let dsn = tcp(&bench.cluster).with_database("postgres").with_user("fh_visitor_x", password.clone());
    let found = visit(&dsn).await.unwrap();
    assert_eq!(found.in_recovery, admitted.then_some(false));
    if admitted {
        assert_eq!(found.system_identifier, admin.system_identifier().await.unwrap());
    }
    let tenant = bench.tenant("private").await;
    let refused = Session::connect(&dsn, Some(&tenant.database), "x", &[]).await.err().unwrap();
    assert_eq!(refused.kind, SqlErrorKind::Privilege);
    let wrong = dsn.with_user("fh_visitor_x", Password::random(32));
    assert_eq!(visit(&wrong).await.unwrap_err().kind, SqlErrorKind::AuthFailed);
    // Whoever bent it: the next ensure puts it back.
    let superuser = bench.superuser_in("postgres").await;
    superuser.execute_script("alter role fh_visitor_x nologin password null").await.unwrap();
    assert!(visit(&dsn).await.is_err());
    admin.ensure_visitor("fh_visitor_x", &verifier).await.unwrap();
    visit(&dsn).await.unwrap();
}
