//! Clients wait, and nobody waits for ever.

use std::time::{Duration, Instant};

use freehold_drivers::pooler::{Pause, Pooler, PoolerErrorKind};

use crate::bench::{Bench, ask};

pub async fn a_paused_database_makes_clients_wait_without_an_error(version: &str) {
    let bench = Bench::start(version).await;
    let tenants = bench.tenants(2).await;
    bench.apply(2, &tenants).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let session = bench.login(&tenants[0]).await.unwrap();
        ask(&session, "select 1").await;
        clients.push(session);
    }
    assert_eq!(bench.driver.pause("tenant0", Duration::from_secs(20)).await.unwrap(), Pause::Drained);
    // Twice changes nothing.
    assert_eq!(bench.driver.pause("tenant0", Duration::from_secs(20)).await.unwrap(), Pause::Drained);
    let waiting: Vec<_> = clients
        .into_iter()
        .map(|session| tokio::spawn(async move { ask(&session, "select 'waited'").await }))
        .collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let stats = bench.driver.stats().await.unwrap();
        let paused = stats.iter().find(|one| one.name == "tenant0").unwrap();
        assert!(paused.paused);
        if paused.waiting() == 4 {
            break;
        }
        assert!(Instant::now() < deadline, "{stats:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(waiting.iter().all(|client| !client.is_finished()));
    // Somebody else's reload does not wake them.
    bench.apply(3, &tenants).await;
    assert_eq!(bench.driver.observe().await.unwrap().paused.into_iter().collect::<Vec<_>>(), ["tenant0"]);
    assert_eq!(ask(&bench.login(&tenants[1]).await.unwrap(), "select 1").await, "1");
    assert!(waiting.iter().all(|client| !client.is_finished()));
    for _ in 0..2 {
        bench.driver.resume("tenant0").await.unwrap();
    }
    for client in waiting {
        assert_eq!(client.await.unwrap(), "waited");
    }
    for error in [
        bench.driver.pause("nobody", Duration::from_secs(20)).await.unwrap_err(),
        bench.driver.resume("nobody").await.unwrap_err(),
    ] {
        assert_eq!(error.kind, PoolerErrorKind::Missing, "{error}");
    }
}

pub async fn a_pause_that_cannot_drain_is_given_up_and_names_who_held_it(version: &str) {
    let bench = Bench::start(version).await;
    let tenants = bench.tenants(1).await;
    bench.apply(2, &tenants).await;
    let holder = bench.login(&tenants[0]).await.unwrap();
    holder.execute_script("begin; select 1").await.unwrap();
    let other = bench.login(&tenants[0]).await.unwrap();
    let Pause::Held(holders) = bench.driver.pause("tenant0", Duration::from_millis(400)).await.unwrap() else {
        panic!("an open transaction holds it")
    };
    assert_eq!(holders.len(), 1, "{holders:?}");
    let found = &holders[0];
    assert_eq!((found.user.as_str(), found.application.as_str()), (tenants[0].role.as_str(), "app"));
    assert!(
        found.address.starts_with("127.0.0.1:") && found.state == "active" && found.silent_for.is_some(),
        "{found}"
    );
    let pid: i32 = ask(&holder, "select pg_backend_pid()").await.parse().unwrap();
    assert_eq!(found.server_pid, pid);
    // It goes on for everybody, the holder included.
    assert!(bench.driver.observe().await.unwrap().paused.is_empty());
    assert_eq!(ask(&other, "select 1").await, "1");
    holder.execute_script("commit").await.unwrap();
    assert_eq!(bench.driver.pause("tenant0", Duration::from_secs(20)).await.unwrap(), Pause::Drained);
    bench.driver.resume("tenant0").await.unwrap();

    // Who asked for it may go away at any moment: the deadline holds.
    holder.execute_script("begin; select 1").await.unwrap();
    let pausing = bench.driver.pause("tenant0", Duration::from_millis(300));
    let _ = tokio::time::timeout(Duration::from_millis(100), pausing).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while !bench.driver.observe().await.unwrap().paused.is_empty() {
        assert!(Instant::now() < deadline, "it is left paused");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ask(&other, "select 2").await, "2");
}

/// PgBouncer's own answer to a PAUSE waits for every paused database.
pub async fn pauses_do_not_wait_for_each_other(version: &str) {
    let bench = Bench::start(version).await;
    let tenants = bench.tenants(2).await;
    bench.apply(2, &tenants).await;
    let holder = bench.login(&tenants[0]).await.unwrap();
    holder.execute_script("begin; select 1").await.unwrap();
    let other = bench.login(&tenants[1]).await.unwrap();
    ask(&other, "select 1").await;
    let held = bench.driver.pause("tenant0", Duration::from_secs(60));
    let drained = async {
        while bench.driver.observe().await.unwrap().paused.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let drained = bench.driver.pause("tenant1", Duration::from_secs(20)).await.unwrap();
        bench.driver.resume("tenant1").await.unwrap();
        assert_eq!(ask(&other, "select 1").await, "1");
        holder.execute_script("commit").await.unwrap();
        drained
    };
    let (held, drained) = tokio::join!(held, drained);
    assert_eq!((held.unwrap(), drained), (Pause::Drained, Pause::Drained));
    bench.driver.resume("tenant0").await.unwrap();
}
