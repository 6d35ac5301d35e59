//! Servers that are added a second time: what is new is kept once it has led to the same cluster, and not before.

use freehold_testkit::{ADMIN, Cluster};
use serde_json::{Value as Json, json};

use crate::rig::{Rig, Wanted};
use crate::scenario::Scenario;
use crate::servers::MANAGED;
use crate::serving::Serve;
use crate::way::Way;

const QUIET: &str = "[stock]\nper_template = 0\n[health]\nperiod_seconds = 3600\ntimeout_seconds = 2\n";

/// What is kept of the way to it.
async fn kept(rig: &Rig, server: &str) -> (String, String) {
    let sql = "SELECT dsn, dsn_seal_id::text FROM server WHERE id = $1";
    let row = rig.sql.query_one(sql, &[&server]).await.expect("read the server");
    (row.get(0), row.get(1))
}

async fn add(serve: &Serve, dsn: &str, tenants: Option<String>) -> (u16, Json) {
    let mut body = json!({"id": "one", "dsn": dsn});
    if let Some(tenants) = tenants {
        body["tenant_address"] = json!(tenants);
    }
    serve.post("/v1/servers", body).await
}

#[tokio::test]
async fn again_a_way_is_kept_once_it_has_led_to_the_same_cluster() {
    let rig = Rig::new(Wanted { apart: Some(Cluster::start(15)), settings: QUIET, ..Wanted::default() }).await;
    let serve = rig.serve("").await;
    let good = rig.server().dsn(ADMIN);
    rig.add_server(&serve, 10, Some(good.clone())).await;
    let (status, body) = serve.post("/v1/tenants", json!({"id": "acme"})).await;
    assert_eq!(status, 201, "{body}");
    let before = kept(&rig, "one").await;
    // Clusters of one version are copies here, with one identity.
    let stranger = Cluster::start(16);
    let elsewhere = Way::to(rig.server().port()).await;
    let lost = Way::to(stranger.port()).await;
    for (dsn, tenants, why) in [
        (rig.server().dsn_with(ADMIN, "mistyped", "postgres"), None, "admin_denied"),
        (lost.dsn(&good), None, "cluster_swapped"),
        (good.clone(), Some(format!("127.0.0.1:{}", stranger.port())), "admin_denied"),
    ] {
        let (status, body) = add(&serve, &dsn, tenants).await;
        assert_eq!((status, body["code"].as_str()), (422, Some("prerequisite")), "{body}");
        assert!(body["detail"].as_str().is_some_and(|detail| detail.contains(why)), "{why}: {body}");
        assert_eq!(kept(&rig, "one").await, before, "what failed is not kept");
    }
    let (status, body) = add(&serve, &good.replace(ADMIN, "other"), None).await;
    assert_eq!((status, body["code"].as_str()), (409, Some("server_exists")), "{body}");
    let told = rig.count("SELECT count(*) FROM operation o WHERE o::text LIKE '%mistyped%'").await
        + rig.count("SELECT count(*) FROM audit a WHERE a::text LIKE '%mistyped%'").await;
    assert_eq!(told, 0, "no password is written down");
    let (_, server) = serve.post("/v1/servers/one/check", json!({})).await;
    assert_eq!((&server["state"], &server["health"]), (&json!("active"), &json!("healthy")), "{server}");

    // By another address, of which tenants are told where nobody says otherwise; then by one of their own.
    let (status, body) = add(&serve, &elsewhere.dsn(&good), None).await;
    assert_eq!((status, &body["port"]), (200, &json!(elsewhere.port)), "{body}\n{}", serve.output());
    assert_ne!(kept(&rig, "one").await, before);
    let port = rig.server().port();
    let (status, body) = add(&serve, &elsewhere.dsn(&good), Some(format!("localhost:{port}"))).await;
    assert_eq!((status, &body["host"], &body["port"]), (200, &json!("localhost"), &json!(port)), "{body}");
    // What was said once is not forgotten by whoever does not say it again.
    let (status, body) = add(&serve, &good, None).await;
    assert_eq!((status, &body["host"], &body["port"]), (200, &json!("localhost"), &json!(port)), "{body}");
    rig.logs_in(&serve, "acme").await.expect("the tenant logs in");
    let (_, server) = serve.post("/v1/servers/one/check", json!({})).await;
    assert_eq!((&server["state"], &server["health"]), (&json!("active"), &json!("healthy")), "{server}");
}

/// The only copy of its admin's password is Freehold's.
#[tokio::test]
async fn again_a_server_that_freehold_runs_is_not_registered() {
    let (rig, serve) = Scenario::UpdateServer.rig().await;
    Scenario::UpdateServer.prepare_server(&serve).await;
    let before = kept(&rig, MANAGED).await;
    let dsn = before.0.replacen('@', ":any@", 1);
    let (status, body) = serve.post("/v1/servers", json!({"id": MANAGED, "dsn": dsn})).await;
    assert_eq!((status, body["code"].as_str()), (409, Some("server_exists")), "{body}");
    assert!(body["detail"].as_str().is_some_and(|detail| detail.contains("Freehold runs")), "{body}");
    assert_eq!(kept(&rig, MANAGED).await, before);
}
