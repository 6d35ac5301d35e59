//! Issue 2, item 3: a create answers a working connection; a repeat answers the same; many at once agree.

use std::collections::HashSet;

use futures::future::join_all;
use futures::{StreamExt, stream};
use reqwest::Method;
use serde_json::json;

use crate::common::{
    admin, create, create_as, dev, expect, ids, key, log_in, problem, settings, text, until_stock, walk,
};

#[tokio::test]
async fn story_a_tenant_is_created_and_works() {
    let plane = dev().stock(3).start().await;
    until_stock(&plane, "default", 3).await;

    let answer =
        plane.post("/v1/tenants", json!({"id": "acme", "name": "Acme & Söhne 🦆", "labels": {"tier": "gold"}})).await;
    let made = expect(&answer, 201).clone();
    assert_eq!(answer.1["location"], "/v1/tenants/acme");
    assert!(answer.1.contains_key("etag"));
    assert_eq!((&made["state"], &made["plan"]), (&json!("active"), &json!("standard")));
    let client = log_in(&made["connection"]).await;
    let user = text(&client, "SELECT current_user::text").await;
    let session = text(&client, "SELECT session_user::text").await;
    assert_eq!(session, made["connection"]["direct"]["user"]);
    assert_ne!(user, session, "the login works as the owner role");
    let owner = text(&client, "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'public'").await;
    assert_eq!(user, owner);
    client.batch_execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1); CREATE SCHEMA s").await.unwrap();

    // A repeat gives the same; only what the caller says counts.
    for body in [json!({"id": "acme"}), json!({"id": "acme", "plan": "standard", "labels": {"tier": "gold"}})] {
        let again = plane.post("/v1/tenants", body).await;
        let again = expect(&again, 200);
        assert_eq!(again["connection"], made["connection"]);
    }
    for body in [
        json!({"id": "acme", "name": "Other"}),
        json!({"id": "acme", "labels": {}}),
        json!({"id": "acme", "region": "eu"}),
        json!({"id": "acme", "template": "railzway"}),
        json!({"id": "acme", "deletion_protection": true}),
    ] {
        problem(&plane.post("/v1/tenants", body).await, 409, "tenant_exists");
    }
    problem(&plane.post("/v1/tenants", json!({"id": "beta", "plan": "gold"})).await, 422, "unknown_plan");
    problem(&plane.post("/v1/tenants", json!({"id": "beta", "template": "none"})).await, 422, "unknown_template");
    problem(&plane.get("/v1/tenants/beta").await, 404, "not_found");
    let nowhere = plane.post("/v1/tenants", json!({"id": "beta", "region": "moon"})).await;
    assert!(matches!(nowhere.0, 422 | 503), "{}", nowhere.2);
    problem(&plane.get("/v1/tenants/beta").await, 404, "not_found");

    // A key without `credentials` sees what it made itself, once.
    let provision = key(&plane, &["provision"], None).await;
    let as_provision = [("authorization", provision.as_str())];
    let own = plane.request(Method::POST, "/v1/tenants", &as_provision, Some(json!({"id": "own"}))).await;
    log_in(&expect(&own, 201)["connection"]).await;
    for id in ["own", "acme"] {
        let again = plane.request(Method::POST, "/v1/tenants", &as_provision, Some(json!({"id": id}))).await;
        assert_eq!(expect(&again, 200).get("connection"), None);
    }
    problem(&plane.request(Method::GET, "/v1/tenants/own/connection", &as_provision, None).await, 403, "denied");
    let shown = plane.get("/v1/tenants/own").await;
    assert_eq!(expect(&shown, 200).get("connection"), None);

    // Every read of a credential is in the audit, with who and which request.
    let read = key(&plane, &["credentials"], None).await;
    let headers = [("authorization", read.as_str()), ("x-request-id", "reading-1")];
    let connection = plane.request(Method::GET, "/v1/tenants/acme/connection", &headers, None).await;
    assert_eq!(*expect(&connection, 200), made["connection"]);
    let reads = walk(&plane, "/v1/audit?action=credential.read&subject=tenant:acme", 500).await;
    assert_eq!(reads.len(), 3, "two repeats and one read: {reads:?}");
    assert_eq!(reads[0]["request_id"], "reading-1");
    assert_eq!(reads[0]["actor_name"], "test [\"credentials\"]");
    assert_eq!(reads[0]["client"], "127.0.0.1");
    let created = walk(&plane, "/v1/audit?action=tenant.create&subject=tenant:acme&outcome=success", 500).await;
    assert_eq!(created.len(), 1);
    let denied = walk(&plane, "/v1/audit?outcome=denied", 500).await;
    assert_eq!(denied.len(), 1);
    assert_eq!(denied[0]["reason"], "denied");
    let everything = serde_json::to_string(&walk(&plane, "/v1/audit", 7).await).unwrap();
    assert!(!everything.contains(made["connection"]["direct"]["password"].as_str().unwrap()));
}

#[tokio::test]
async fn story_a_create_without_stock_is_only_slower() {
    let settings = settings("[stock]\nper_template = 0\n");
    let plane = crate::common::dev_with(&settings).start().await;
    let made = create(&plane, "slow").await;
    let client = log_in(&made["connection"]).await;
    client.batch_execute("CREATE TABLE t (id int)").await.unwrap();
    let operations = walk(&plane, "/v1/operations?subject=tenant:slow", 10).await;
    assert_eq!(operations.len(), 1);
    assert_eq!((&operations[0]["kind"], &operations[0]["state"]), (&json!("tenant.create"), &json!("succeeded")));
}

#[tokio::test]
async fn story_fifty_creates_of_one_id_make_one_tenant() {
    // Once from stock, once from nothing.
    for stock in [3, 0] {
        let plane = dev().stock(stock).start().await;
        until_stock(&plane, "default", u64::from(stock)).await;
        let one = || plane.request(Method::POST, "/v1/tenants", &[("prefer", "wait=60")], Some(json!({"id": "acme"})));
        let answers = join_all((0..50).map(|_| one())).await;
        let count = |status| answers.iter().filter(|answer| answer.0 == status).count();
        let seen: HashSet<u16> = answers.iter().map(|answer| answer.0).collect();
        assert_eq!((count(201), count(200)), (1, 49), "stock {stock}: {seen:?}");
        let connections: HashSet<String> = answers.iter().map(|answer| answer.2["connection"].to_string()).collect();
        assert_eq!(connections.len(), 1);
        log_in(&answers[0].2["connection"]).await;
        assert_eq!(ids(&walk(&plane, "/v1/tenants", 50).await), ["acme"]);
        let server = admin(&plane, "postgres").await;
        let name = answers[0].2["connection"]["direct"]["database"].as_str().unwrap();
        let databases = server.query("SELECT FROM pg_database WHERE datname = $1", &[&name]).await.unwrap();
        assert_eq!(databases.len(), 1);
    }
}

#[tokio::test]
async fn story_two_hundred_creates_at_once_with_stock_of_twenty_all_succeed() {
    let plane = dev().stock(20).start().await;
    until_stock(&plane, "default", 20).await;
    let id = |n: u32| format!("tenant-{n:03}");
    let answers = join_all((0..200).map(|n| {
        let body = json!({"id": id(n)});
        plane.request(Method::POST, "/v1/tenants", &[("prefer", "wait=60")], Some(body))
    }))
    .await;
    for answer in &answers {
        assert!(matches!(answer.0, 201 | 202), "{}: {}", answer.0, answer.2);
    }
    // Who did not want to wait any longer was told where to look.
    for (_, headers, _) in answers.iter().filter(|answer| answer.0 == 202) {
        let path = headers["location"].to_str().unwrap();
        crate::common::until("create", async || match plane.get(path).await.2["state"].as_str() {
            Some("succeeded") => Ok(()),
            state => Err(format!("{state:?}")),
        })
        .await;
    }
    let tenants = walk(&plane, "/v1/tenants?state=active", 37).await;
    assert_eq!(tenants.len(), 200);
    let databases: HashSet<String> = stream::iter(0..200)
        .map(async |n| {
            let answer = plane.get(&format!("/v1/tenants/{}/connection", id(n))).await;
            let client = log_in(expect(&answer, 200)).await;
            text(&client, "SELECT current_database()::text").await
        })
        .buffer_unordered(4)
        .collect()
        .await;
    assert_eq!(databases.len(), 200, "each has its own");
    // A create after the storm is as it was before.
    create_as(&plane, json!({"id": "after"})).await;
}
