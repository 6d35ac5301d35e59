//! Loops are led by one process. Two that both believe they lead have one effect, and one that hangs holds nobody up.

use freehold_testkit::Cluster;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::rig::{Rig, STORE, Wanted};
use crate::scenario::{SETTINGS, Scenario, add_templates};
use crate::serving::{Serve, until};

/// The leader of the stock loop is about to fill up: behind a lock, past every look at its lease but the last. Then it
/// is stopped, and another one leads and comes to the same place.
async fn two_leaders(rig: &Rig, lock: &tokio_postgres::Client, id: &str) -> (Serve, Serve) {
    let a = rig.serve("").await;
    lock.batch_execute("BEGIN; SELECT FROM server FOR NO KEY UPDATE").await.expect("take the lock");
    // Stock is claimed, and the loop wants to fill it.
    let (status, body) = a.post("/v1/tenants", json!({"id": id, "template": "kept"})).await;
    assert_eq!(status, 201, "{body}\n{}", a.output());
    until("the first leader waits for the lock", async || waiting(rig).await == 1).await;
    let mut a = a;
    a.signal(Signal::SIGSTOP);
    until("it is stopped", async || a.is_stopped()).await;
    let b = rig.serve("").await;
    until("the second leader waits for the lock", async || waiting(rig).await == 2).await;
    (a, b)
}

async fn waiting(rig: &Rig) -> i64 {
    rig.count(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%capacity FROM server%'",
    )
    .await
}

async fn rig(lease: u64) -> Rig {
    let rig = Rig::new(Wanted { apart: Some(Cluster::start(15)), lease, settings: SETTINGS }).await;
    let mut serve = rig.serve("").await;
    add_templates(&serve).await;
    rig.add_server(&serve, 100, None).await;
    Scenario::FromStock.settled(&rig, &mut serve).await;
    serve.kill().await;
    rig.let_leases_run_out().await;
    rig
}

/// The lease is long, so the first leader goes on believing while another has taken its place.
#[tokio::test]
async fn leaders_two_that_both_believe_they_lead_have_one_effect() {
    let rig = rig(20).await;
    let lock = rig.store.connect(STORE).await;
    for round in 0..2 {
        let builds = rig.count("SELECT count(*) FROM operation WHERE kind = 'stock.build'").await;
        let mut a = rig.serve("").await;
        lock.batch_execute("BEGIN; SELECT FROM server FOR NO KEY UPDATE").await.expect("take the lock");
        let body = json!({"id": format!("led-{round}"), "template": "kept"});
        let (status, body) = a.post("/v1/tenants", body).await;
        assert_eq!(status, 201, "{body}\n{}", a.output());
        until("the first leader waits for the lock", async || waiting(&rig).await == 1).await;
        let mut b = rig.serve("").await;
        let sql = "UPDATE loop_lease SET lease_until = now(), next_run_at = now() WHERE name = 'stock'; NOTIFY freehold_loop, 'stock'";
        rig.sql.batch_execute(sql).await.expect("let the lease run out");
        until("the second leader waits for the lock", async || waiting(&rig).await == 2).await;
        // It goes to the first that asked, which does not know yet that it leads no more.
        lock.batch_execute("COMMIT").await.expect("give the lock back");
        until("the first knows", async || a.output().contains("another process leads the loop")).await;
        Scenario::FromStock.settled(&rig, &mut b).await;
        let after = rig.count("SELECT count(*) FROM operation WHERE kind = 'stock.build'").await;
        assert_eq!(after - builds, 1, "both filled the same gap\n{}\n---\n{}", a.output(), b.output());
        a.kill().await;
        b.kill().await;
        rig.let_leases_run_out().await;
    }
}

/// It is never continued: its open transaction is ended by the store, and the other goes on.
#[tokio::test]
async fn leaders_one_that_hangs_in_a_transaction_holds_nobody_up() {
    let rig = rig(2).await;
    let lock = rig.store.connect(STORE).await;
    let (a, mut b) = two_leaders(&rig, &lock, "hung").await;
    lock.batch_execute("COMMIT").await.expect("give the lock back");
    Scenario::FromStock.settled(&rig, &mut b).await;
    assert!(a.is_stopped());
}
