//! A tenant that is to be suspended for its size while something else is at work on it, and while processes die.

use std::time::Duration;

use freehold_testkit::Cluster;
use reqwest::Method;
use serde_json::json;

use crate::rig::{Rig, Wanted};
use crate::scenario::{until_stuck, until_tenant};
use crate::serving::{Serve, until};

const SETTINGS: &str = "[stock]\nper_template = 0\n[stats]\nperiod_seconds = 1\nsize_period_seconds = 1\n\
    [[plan]]\nname = \"strict\"\ndefault = true\nstorage_quota = 1000000\non_storage_quota = \"suspend\"\n";

async fn rig(faults: &str) -> (Rig, Serve) {
    let rig = Rig::new(Wanted { apart: Some(Cluster::start(15)), lease: 3, settings: SETTINGS }).await;
    let mut serve = rig.serve("").await;
    rig.add_server(&serve, 20, None).await;
    rig.settled(&mut serve, &[("default", 0)]).await;
    serve.kill().await;
    rig.let_leases_run_out().await;
    let serve = rig.serve(faults).await;
    (rig, serve)
}

async fn crossings(rig: &Rig) -> i64 {
    rig.count("SELECT count(*) FROM audit WHERE action = 'tenant.quota.reach'").await
}

/// Whoever is at it first ends first; the suspend comes then, once.
#[tokio::test]
async fn quota_waits_for_whoever_works_on_the_tenant() {
    let (rig, serve) = rig("tenant.create/Claim/before=sleep:6000*1,tenant.suspend/Refuse/before=stuck*1").await;
    // Any database is larger than this quota: it is reached as soon as it is measured.
    serve.begin(Method::POST, "/v1/tenants", Some(json!({"id": "acme"}))).await;
    until_tenant(&serve, "acme", "active").await;
    // Its own suspend is parked first, as something that works on the tenant.
    until_stuck(&rig, &serve, "tenant.suspend").await;
    assert_eq!(crossings(&rig).await, 1);
    rig.sql.batch_execute("UPDATE quota_level SET suspend_due = true").await.expect("due once more");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let begun = "SELECT count(*) FROM operation WHERE kind = 'tenant.suspend'";
    assert_eq!(rig.count(begun).await, 1, "nothing is begun beside it");
    assert_eq!(rig.count("SELECT count(*) FROM quota_level WHERE suspend_due").await, 1, "and nothing is forgotten");
    let operation = rig.newest_id("tenant.suspend").await;
    let (status, body) = serve.request(Method::POST, &format!("/v1/operations/{operation}/cancel"), None).await;
    assert!(status < 300, "{body}");
    let tenant = until_tenant(&serve, "acme", "suspended").await;
    assert!(tenant["state_reason"].as_str().is_some_and(|reason| reason.contains("storage quota")), "{tenant}");
    assert_eq!((rig.count(begun).await, crossings(&rig).await), (2, 1));
    assert_eq!(rig.count("SELECT count(*) FROM quota_level WHERE suspend_due").await, 0);
}

/// Killed in the middle of it: told once, suspended once.
#[tokio::test]
async fn quota_survives_a_kill_and_tells_once() {
    let (rig, mut serve) = rig("tenant.suspend/Refuse/after=kill*1").await;
    assert_eq!(serve.post("/v1/tenants", json!({"id": "acme"})).await.0, 201);
    assert!(serve.dies_by_itself(Duration::from_secs(60)).await, "{}", serve.output());
    rig.let_leases_run_out().await;
    let serve = rig.serve("").await;
    until_tenant(&serve, "acme", "suspended").await;
    until("rounds pass", async || {
        rig.count("SELECT count(*) FROM loop_lease WHERE name = 'quota' AND finished_at > clock_timestamp() - interval '1 second'").await == 1
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(crossings(&rig).await, 1);
    assert_eq!(
        rig.count("SELECT count(*) FROM audit WHERE action = 'tenant.suspend' AND outcome = 'success'").await,
        1
    );
}
