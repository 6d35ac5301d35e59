//! Issue 2, item 3: suspended at once, resumed as it was.

use freehold_testkit::as_tenant;
use serde_json::json;

use crate::common::{create, dev, expect, log_in, problem, until};

#[tokio::test]
async fn story_a_suspended_tenant_is_out_at_once_and_comes_back() {
    let plane = dev().stock(2).start().await;
    let made = create(&plane, "acme").await;
    let other = create(&plane, "other").await;
    let neighbour = log_in(&other["connection"]).await;
    let session = log_in(&made["connection"]).await;
    session.batch_execute("CREATE TABLE kept AS SELECT 7 AS n").await.unwrap();

    let answer = plane.post("/v1/tenants/acme/suspend", json!({"reason": "unpaid since May 🧾"})).await;
    let suspended = expect(&answer, 200);
    assert_eq!((&suspended["state"], &suspended["state_reason"]), (&json!("suspended"), &json!("unpaid since May 🧾")));
    // Nothing is waited for: the answer says that it is done.
    assert!(session.simple_query("SELECT 1").await.is_err(), "the open session is still served");
    let refused = as_tenant(&made["connection"]).await.expect_err("a suspended tenant logs in");
    assert!(refused.to_string().contains("not permitted") || refused.code().is_some(), "{refused:?}");
    assert_eq!(plane.get("/v1/tenants/acme").await.2["state_reason"], "unpaid since May 🧾");
    neighbour.simple_query("SELECT 1").await.expect("the neighbour's session goes on");

    // Once more changes nothing, not even the reason.
    let again = plane.post("/v1/tenants/acme/suspend", json!({"reason": "another"})).await;
    assert_eq!(expect(&again, 200)["state_reason"], "unpaid since May 🧾");

    let answer = plane.post("/v1/tenants/acme/resume", json!({})).await;
    let resumed = expect(&answer, 200);
    assert_eq!((&resumed["state"], &resumed["state_reason"]), (&json!("active"), &json!(null)));
    let session = log_in(&made["connection"]).await;
    assert_eq!(session.query_one("SELECT n FROM kept", &[]).await.unwrap().get::<_, i32>(0), 7);
    assert_eq!(expect(&plane.post("/v1/tenants/acme/resume", json!({})).await, 200)["state"], "active");

    problem(&plane.post("/v1/tenants/nobody/suspend", json!({})).await, 404, "not_found");
    problem(&plane.post("/v1/tenants/acme/suspend", json!({"reason": ""})).await, 422, "invalid");
    problem(&plane.post("/v1/tenants/acme/suspend", json!({"raison": "x"})).await, 422, "invalid");
}

#[tokio::test]
async fn story_a_suspended_tenant_that_keeps_connecting_stays_out() {
    let plane = dev().stock(1).start().await;
    let made = create(&plane, "acme").await;
    // An application with a pool that dials again and again.
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let dialling = {
        let (stop, connection) = (stop.clone(), made["connection"].clone());
        tokio::spawn(async move {
            let mut sessions = Vec::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                if let Ok(session) = as_tenant(&connection).await {
                    sessions.push(session);
                    sessions.truncate(5);
                }
            }
            sessions
        })
    };
    log_in(&made["connection"]).await;
    expect(&plane.post("/v1/tenants/acme/suspend", json!({})).await, 200);
    let server = crate::common::admin(&plane, "postgres").await;
    let user = made["connection"]["direct"]["user"].as_str().unwrap().to_owned();
    let open = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
    // What is still in authentication is not a session; those end by themselves.
    until("sessions end", async || match server.query_one(open, &[&user]).await.unwrap().get::<_, i64>(0) {
        0 => Ok(()),
        open => Err(format!("{open} are open")),
    })
    .await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for session in dialling.await.unwrap() {
        assert!(session.simple_query("SELECT 1").await.is_err());
    }
}
