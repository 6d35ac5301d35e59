//! Two `freehold serve` on one store and one server: they share the work, either may die or hang, and what a process does
//! after its lease has run out has no effect.

use std::time::Duration;

use freehold_testkit::Cluster;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::picture::same;
use crate::points::sample;
use crate::rig::{Rig, Wanted};
use crate::scenario::{SETTINGS, Scenario, add_templates, until_tenant};
use crate::serving::{stops, until};

/// Leases of two seconds, which run out by themselves here.
async fn rig() -> Rig {
    let rig = Rig::new(Wanted { apart: Some(Cluster::start(15)), lease: 2, settings: SETTINGS }).await;
    let mut serve = rig.serve("").await;
    add_templates(&serve).await;
    rig.add_server(&serve, 100, None).await;
    Scenario::FromStock.settled(&rig, &mut serve).await;
    serve.kill().await;
    rig.let_leases_run_out().await;
    rig
}

/// Both get work, and together they end all of it.
#[tokio::test]
async fn two_processes_share_the_work() {
    let rig = rig().await;
    let (a, b) = (rig.serve("").await, rig.serve("").await);
    let ids: Vec<String> = (0..8).map(|n| format!("shared-{n}")).collect();
    let creates = ids.iter().enumerate().map(|(n, id)| {
        let serve = if n % 2 == 0 { &a } else { &b };
        serve.post("/v1/tenants", json!({"id": id, "template": "made"}))
    });
    for (status, body) in futures::future::join_all(creates).await {
        assert!(status == 201 || status == 202, "{status} {body}");
    }
    for id in &ids {
        // Asked of the process that did not begin it, or did: both know.
        until_tenant(&b, id, "active").await;
        rig.logs_in(&a, id).await.expect("the tenant logs in");
    }
    for serve in [&a, &b] {
        assert!(serve.output().contains("tenant.create"), "one of them did nothing:\n{}", serve.output());
    }
    let twice = rig.count("SELECT count(*) FROM (SELECT subject FROM operation WHERE kind = 'tenant.create' GROUP BY subject HAVING count(*) > 1) x").await;
    assert_eq!(twice, 0);
}

/// Killed in mid-operation, at every step: the other finishes it without being told.
#[tokio::test]
async fn two_processes_either_may_be_killed_and_the_other_finishes() {
    let rig = rig().await;
    for (n, point) in sample(&["Create/roles", "Own/owned", "Own/made", "Claim/after"], 2).into_iter().enumerate() {
        let id = format!("killed-{n}");
        let mut a = rig.serve(&format!("tenant.create/{point}=kill*1")).await;
        let mut b = rig.serve("").await;
        Scenario::Made.act(&rig, &a, &id, 0).await;
        assert!(a.dies_by_itself(Duration::from_secs(30)).await, "it did not come to {point}:\n{}", a.output());
        until_tenant(&b, &id, "active").await;
        rig.logs_in(&b, &id).await.expect("the tenant logs in");
        let epoch =
            rig.count("SELECT epoch FROM operation WHERE kind = 'tenant.create' ORDER BY id DESC LIMIT 1").await;
        assert!(epoch >= 2, "nobody took it over: epoch {epoch}");
        b.kill().await;
        rig.let_leases_run_out().await;
    }
}

/// Stopped in mid-step past its lease, then continued: what it does then changes nothing, in store or server.
#[tokio::test]
async fn two_processes_one_stopped_past_its_lease_has_no_effect_when_it_continues() {
    let rig = rig().await;
    let points =
        ["Create/before", "Create/roles", "Create/after", "Own/before", "Own/owned", "Claim/before", "Claim/after"];
    for (n, point) in sample(&points, 3).into_iter().enumerate() {
        let id = format!("stopped-{n}");
        let mut a = rig.serve(&format!("tenant.create/{point}=stop*1")).await;
        let since = rig.since().await;
        stops(&a, point, Scenario::Made.act(&rig, &a, &id, 0)).await;
        let mut b = rig.serve("").await;
        until_tenant(&b, &id, "active").await;
        Scenario::Made.settled(&rig, &mut b).await;
        let before = rig.picture(&since, &id).await;
        let told = a.output().len();
        a.signal(Signal::SIGCONT);
        until(&format!("it lets go of {point}"), async || lets_go(&a.output()[told..])).await;
        // And it goes on: it answers, and works on what is its own.
        assert_eq!(a.get("/v1/tenants").await.0, 200);
        let after = rig.picture(&since, &id).await;
        same(&format!("stopped at {point}: the server"), &before.server, &after.server);
        same(&format!("stopped at {point}: the store"), &before.store, &after.store);
        rig.logs_in(&b, &id).await.expect("the tenant logs in");
        b.purge(&id).await;
        a.kill().await;
        b.kill().await;
        rig.let_leases_run_out().await;
    }
}

/// The same for what destroys: a purge that was stopped, and its id taken again by a new tenant meanwhile.
#[tokio::test]
async fn two_processes_a_stopped_purge_does_not_touch_the_next_tenant_of_that_name() {
    let rig = rig().await;
    for (n, point) in sample(&["Remove/before", "Remove/database_dropped", "Remove/after"], 2).into_iter().enumerate() {
        let id = format!("again-{n}");
        let mut a = rig.serve(&format!("tenant.purge/{point}=stop*1")).await;
        Scenario::Made.act(&rig, &a, &id, 0).await;
        until_tenant(&a, &id, "active").await;
        stops(&a, point, Scenario::Purge.act(&rig, &a, &id, 0)).await;
        let mut b = rig.serve("").await;
        until("the id is free", async || b.get(&format!("/v1/tenants/{id}")).await.0 == 404).await;
        // The pattern gives it the very names of the one before.
        Scenario::Made.act(&rig, &b, &id, 0).await;
        until_tenant(&b, &id, "active").await;
        Scenario::Made.settled(&rig, &mut b).await;
        let since = rig.since().await;
        let before = rig.picture(&since, &id).await;
        let told = a.output().len();
        a.signal(Signal::SIGCONT);
        until(&format!("it lets go of {point}"), async || lets_go(&a.output()[told..])).await;
        let after = rig.picture(&since, &id).await;
        same(&format!("stopped at {point}: the server"), &before.server, &after.server);
        same(&format!("stopped at {point}: the store"), &before.store, &after.store);
        rig.logs_in(&b, &id).await.expect("the next tenant logs in");
        b.purge(&id).await;
        a.kill().await;
        b.kill().await;
        rig.let_leases_run_out().await;
    }
}

/// A worker says so when it finds that another has its operation.
pub fn lets_go(output: &str) -> bool {
    ["this one lets go", "the step was dropped", "the lease ran out before", "not recorded before the lease ran out"]
        .iter()
        .any(|text| output.contains(text))
}
