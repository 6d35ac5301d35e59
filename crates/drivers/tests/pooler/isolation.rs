//! Who gets in where.

use std::time::{Duration, Instant};

use freehold_drivers::pooler::{Pooler, Standing};

use crate::bench::{Bench, ask, ident};

/// Long enough for any machine, and shorter than every time limit of PgBouncer that a client could run into.
const AT_ONCE: Duration = Duration::from_secs(9);

pub async fn logins_open_their_own_database_and_no_other(version: &str) {
    let bench = Bench::start(version).await;
    let tenants = bench.tenants(6).await;
    bench.apply(2, &tenants).await;
    for one in &tenants {
        let session = bench.login(one).await.unwrap();
        let place = ask(&session, "select current_user || ' in ' || current_database()").await;
        assert_eq!(place, format!("{} in {}", one.role, one.database));
        session.close().await;
    }
    let began = Instant::now();
    let mut refused = 0;
    for one in &tenants {
        for other in tenants.iter().filter(|other| other.entry != one.entry) {
            let error = bench.login_to(one, &other.entry).await.err().expect("a stranger is refused");
            let words = error.message();
            assert!(words.contains("login rejected") || words.contains("no authentication method"), "{error}");
            refused += 1;
        }
        for entry in ["nobody", "pgbouncer", "postgres", "template1", one.database.as_str()] {
            assert!(bench.login_to(one, entry).await.is_err(), "{} into {entry}", one.role);
        }
        let mut wrong = one.clone();
        wrong.password = tenants[0].password.clone();
        assert_eq!(bench.login(&wrong).await.is_ok(), one.entry == tenants[0].entry);
    }
    assert_eq!(refused, 30);
    assert!(began.elapsed() < AT_ONCE, "refusals come at once, not after a time limit: {:?}", began.elapsed());
    // Nothing was opened for a stranger, and no neighbour's connection was used up.
    for database in bench.driver.stats().await.unwrap() {
        let own = tenants.iter().find(|tenant| tenant.entry == database.name).unwrap();
        for pool in database.pools.iter().filter(|pool| pool.user != own.role) {
            assert_eq!(pool.sv_active + pool.sv_idle + pool.sv_used + pool.sv_login + pool.cl_waiting, 0, "{pool:?}");
        }
    }
    assert!(!bench.cluster.log().contains("permission denied for database"));
}

pub async fn a_retired_login_is_refused_while_its_connections_are_warm(version: &str) {
    let bench = Bench::start(version).await;
    let tenants = bench.tenants(2).await;
    bench.apply(2, &tenants).await;
    let warm = bench.login(&tenants[0]).await.unwrap();
    assert_eq!(ask(&warm, "select 1").await, "1");
    // Its server connection is idle in the pool, ready for whoever comes.
    let mut wanted = bench.configuration(3, &tenants);
    wanted.entries[0].logins[0].standing = Standing::Unusable;
    bench.driver.apply(&wanted).await.unwrap();
    for _ in 0..3 {
        let error = bench.login(&tenants[0]).await.err().expect("a retired login is refused");
        assert!(error.message().contains("authentication failed"), "{error}");
    }
    // What is open is the server's to end.
    assert_eq!(ask(&warm, "select 2").await, "2");
    assert_eq!(ask(&bench.login(&tenants[1]).await.unwrap(), "select 3").await, "3");
    wanted = bench.configuration(4, &tenants);
    bench.driver.apply(&wanted).await.unwrap();
    assert_eq!(ask(&bench.login(&tenants[0]).await.unwrap(), "select 4").await, "4");
}

pub async fn a_rotation_overlaps_two_logins(version: &str) {
    let bench = Bench::start(version).await;
    let old = bench.tenant("acme").await;
    bench.apply(2, std::slice::from_ref(&old)).await;
    let working = bench.login(&old).await.unwrap();
    let new = old.with_role("acme login 2");
    let admin = bench.cluster.connect("postgres").await;
    let (role, database) = (ident(&new.role), ident(&new.database));
    let sql = format!("CREATE ROLE {role} LOGIN PASSWORD '{}'", new.verifier.as_str());
    admin.batch_execute(&sql).await.unwrap();
    admin.batch_execute(&format!("GRANT CONNECT ON DATABASE {database} TO {role}")).await.unwrap();
    let mut wanted = bench.configuration(3, std::slice::from_ref(&old));
    wanted.entries[0].logins.push(new.as_login(Standing::Usable));
    bench.driver.apply(&wanted).await.unwrap();
    for tenant in [&old, &new] {
        assert_eq!(ask(&bench.login(tenant).await.unwrap(), "select session_user").await, tenant.role);
    }
    assert_eq!(ask(&working, "select 1").await, "1");
    wanted.generation = 4;
    wanted.entries[0].logins.remove(0);
    bench.driver.apply(&wanted).await.unwrap();
    assert!(bench.login(&old).await.is_err());
    assert_eq!(ask(&bench.login(&new).await.unwrap(), "select 1").await, "1");
}

pub async fn what_is_gone_is_refused_at_once(version: &str) {
    let bench = Bench::start(version).await;
    let tenants = bench.tenants(2).await;
    bench.apply(2, &tenants).await;
    let session = bench.login(&tenants[0]).await.unwrap();
    assert_eq!(ask(&session, "select 1").await, "1");
    bench.apply(3, &tenants[1..]).await;
    let began = Instant::now();
    assert!(bench.login(&tenants[0]).await.is_err());
    assert!(session.simple_query("select 1").await.is_err(), "its clients are sent away");
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert_eq!(bench.driver.observe().await.unwrap().databases, 1);
    assert_eq!(ask(&bench.login(&tenants[1]).await.unwrap(), "select 1").await, "1");
}
