//! The control store goes away, and the sealing key: the first is waited for, the second is refused.

use freehold_drivers::secrets::Sealer;
use freehold_testkit::{Cluster, as_tenant};
use serde_json::json;

use crate::rig::{Rig, Wanted};
use crate::scenario::until_tenant;
use crate::serving::{Serve, until};

/// 503 with its code while it is down, no tenant affected, and everything again when it is back.
#[tokio::test]
async fn store_down_answers_503_and_recovers_by_itself() {
    let mut rig = Rig::new(Wanted { apart: Some(Cluster::start(15)), ..Wanted::default() }).await;
    let serve = rig.serve("").await;
    rig.add_server(&serve, 10, None).await;
    let (status, body) = serve.post("/v1/tenants", json!({"id": "acme"})).await;
    assert_eq!(status, 201, "{body}");
    let connection = serve.get("/v1/tenants/acme/connection").await.1;
    for round in 0..2 {
        if round == 0 {
            rig.store.stop_immediate();
        } else {
            rig.store.kill();
        }
        for path in ["/v1/tenants", "/v1/tenants/acme/connection", "/v1/operations"] {
            let (status, body) = serve.get(path).await;
            assert_eq!((status, body["code"].as_str()), (503, Some("store_unavailable")), "{path}: {body}");
        }
        let (status, body) = serve.post("/v1/tenants", json!({"id": "beta"})).await;
        assert_eq!((status, body["code"].as_str()), (503, Some("store_unavailable")), "{body}");
        assert_eq!(serve.get("/health/ready").await.0, 503);
        assert_eq!(serve.get("/health/live").await.0, 200);
        as_tenant(&connection).await.expect("the tenant logs in without the control store");
        rig.store.start_again();
        until("it is ready again", async || serve.get("/health/ready").await.0 == 200).await;
        let id = format!("after-{round}");
        let (status, body) = serve.post("/v1/tenants", json!({"id": id})).await;
        assert!(status == 201 || status == 202, "{status} {body}\n{}", serve.output());
        until_tenant(&serve, &id, "active").await;
    }
}

/// The store dies in the middle of a create: the step ends, and its record waits for the store.
#[tokio::test]
async fn store_down_in_mid_create_loses_nothing() {
    let mut rig = Rig::new(Wanted { apart: Some(Cluster::start(15)), ..Wanted::default() }).await;
    let mut serve = rig.serve("").await;
    rig.add_server(&serve, 10, None).await;
    rig.settled(&mut serve, &[("default", 0)]).await;
    serve.kill().await;
    rig.let_leases_run_out().await;
    let serve = rig.serve("tenant.create/Create/roles=sleep:1500*1").await;
    serve.begin(reqwest::Method::POST, "/v1/tenants", Some(json!({"id": "acme"}))).await;
    until("the step is inside", async || serve.output().contains("fault point fires")).await;
    rig.store.stop_immediate();
    rig.store.start_again();
    rig.sql = rig.store.connect(crate::rig::STORE).await;
    until_tenant(&serve, "acme", "active").await;
    rig.logs_in(&serve, "acme").await.expect("the tenant logs in");
}

/// Neither a lost key nor another one starts anything, and neither changes the store.
#[tokio::test]
async fn store_sealing_key_lost_or_wrong_is_refused() {
    let rig = Rig::new(Wanted::default()).await;
    let mut serve = rig.serve("").await;
    rig.add_server(&serve, 10, None).await;
    assert_eq!(serve.post("/v1/tenants", json!({"id": "acme"})).await.0, 201);
    serve.kill().await;
    let key = rig.directory().join("sealing.key");
    let kept = rig.directory().join("kept.key");
    std::fs::rename(&key, &kept).expect("lose the key");
    let since = rig.since().await;
    let before = rig.picture(&since, "acme").await;

    let mut refused = Serve::spawn(&rig.settings, &rig.key, &[]);
    assert_eq!(refused.exit_code().await, Some(3), "{}", refused.output());
    assert!(
        refused.output().contains("there is no key file") && refused.output().contains("sealing.key"),
        "{}",
        refused.output()
    );
    assert!(!key.exists(), "a lost key is never replaced");

    Sealer::create_file(&key).expect("make another key");
    let mut refused = Serve::spawn(&rig.settings, &rig.key, &[]);
    assert_eq!(refused.exit_code().await, Some(3), "{}", refused.output());
    assert!(
        refused.output().contains("is not the one that this control store was sealed with"),
        "{}",
        refused.output()
    );
    assert_eq!(before, rig.picture(&since, "acme").await);

    std::fs::rename(&kept, &key).expect("find the key");
    let serve = rig.serve("").await;
    rig.logs_in(&serve, "acme").await.expect("with the right key everything is there");
}
