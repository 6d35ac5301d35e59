//! Issue 2, item 6: work that takes long is an operation, seen and steered from outside.

use freehold_testkit::{Cluster, Plane};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::common::{
    create, dev, dev_with, exits, expect, log_in, problem, settings, stderr, stdout, stock_of, until, until_stock, walk,
};

async fn begin(plane: &Plane, body: Json) -> String {
    let answer = plane.request(Method::POST, "/v1/tenants", &[("prefer", "wait=0")], Some(body)).await;
    let location = answer.1["location"].to_str().unwrap().to_owned();
    assert_eq!(location, format!("/v1/operations/{}", expect(&answer, 202)["id"].as_str().unwrap()));
    location
}

async fn until_state(plane: &Plane, location: &str, state: &str) -> Json {
    until(state, async || {
        let operation = plane.get(location).await.2;
        if operation["state"] == state { Ok(operation) } else { Err(operation.to_string()) }
    })
    .await
}

#[tokio::test]
async fn story_long_work_is_followed_cancelled_and_frozen() {
    let settings = settings("[stock]\nper_template = 0\n");
    let plane = dev_with(&settings).start().await;
    let location = begin(&plane, json!({"id": "acme"})).await;
    let tenant = plane.get("/v1/tenants/acme").await.2;
    assert!(tenant["state"] == "creating" || tenant["state"] == "active", "{tenant}");

    // The stream ends when the operation does, tells every step in order, and can be taken up again.
    let stream = plane.get(&format!("{location}/events")).await;
    assert_eq!(stream.0, 200);
    assert!(stream.1["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let events = sse(&stream.2);
    let seqs: Vec<i64> = events.iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    assert!(seqs.is_sorted() && seqs.len() >= 2, "{events:?}");
    assert_eq!(events.last().unwrap()["state"], "succeeded");
    let middle = seqs[seqs.len() / 2];
    let rest = plane
        .request(Method::GET, &format!("{location}/events"), &[("last-event-id", &middle.to_string())], None)
        .await;
    let rest: Vec<i64> = sse(&rest.2).iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    assert_eq!(rest, seqs.iter().copied().filter(|seq| *seq > middle).collect::<Vec<_>>());
    let over = plane.get(&location).await.2;
    assert_eq!(
        (&over["state"], &over["kind"], &over["subject"]),
        (&json!("succeeded"), &json!("tenant.create"), &json!("tenant:acme"))
    );
    assert!(over["finished_at"].is_string());
    let id = over["id"].as_str().unwrap();
    let watched = exits(plane.cli(&["operation", "watch", id]), 0);
    assert!(stdout(&watched).contains("succeeded") || stderr(&watched).contains("succeeded"));
    for verb in ["cancel", "retry"] {
        problem(&plane.post(&format!("{location}/{verb}"), json!({})).await, 409, "wrong_state");
    }
    let resolve = json!({"as": "undone", "reason": "no"});
    problem(&plane.post(&format!("{location}/resolve"), resolve.clone()).await, 409, "wrong_state");
    let nobody = "/v1/operations/00000000-0000-7000-8000-000000000000";
    problem(&plane.get(nobody).await, 404, "not_found");
    problem(&plane.get(&format!("{nobody}/events")).await, 404, "not_found");
    for verb in ["cancel", "retry"] {
        problem(&plane.post(&format!("{nobody}/{verb}"), json!({})).await, 404, "not_found");
    }
    problem(&plane.post(&format!("{nobody}/resolve"), resolve).await, 404, "not_found");
    problem(&plane.get("/v1/operations/none").await, 422, "invalid");

    // Frozen, it waits; cancelled, it takes back what it did, and the id can be used again.
    expect(&plane.post("/v1/freezes", json!({"target": "operations", "for_seconds": 3600})).await, 201);
    let location = begin(&plane, json!({"id": "beta"})).await;
    let busy = plane.request(Method::DELETE, "/v1/tenants/beta?confirm=beta", &[], None).await;
    problem(&busy, 409, "busy");
    assert_eq!(expect(&plane.get("/v1/freezes").await, 200)["items"][0]["target"], "operations");
    let status = plane.get("/v1/status").await.2;
    assert!(status["frozen"].as_array().unwrap().iter().any(|frozen| frozen["target"] == "operations"));
    expect(&plane.post(&format!("{location}/cancel"), json!({})).await, 200);
    assert_eq!(plane.delete("/v1/freezes/operations").await.0, 204);
    until_state(&plane, &location, "cancelled").await;
    assert_eq!(plane.get("/v1/tenants/beta").await.2["state"], "failed");
    problem(&plane.get("/v1/tenants/beta/connection").await, 409, "wrong_state");
    log_in(&create(&plane, "beta").await["connection"]).await;
    problem(&plane.post("/v1/freezes", json!({"target": "nothing"})).await, 404, "not_found");
    problem(&plane.post("/v1/freezes", json!({"target": "stock", "for_seconds": 0})).await, 422, "invalid");
    problem(&plane.delete("/v1/freezes/nothing").await, 404, "not_found");
}

fn sse(body: &Json) -> Vec<Json> {
    let lines = body.as_str().unwrap_or_else(|| panic!("no stream: {body}")).lines();
    lines.filter_map(|line| line.strip_prefix("data:")).map(|data| serde_json::from_str(data.trim()).unwrap()).collect()
}

#[tokio::test]
async fn story_frozen_stock_is_still_given_out() {
    let plane = dev().stock(3).start().await;
    until_stock(&plane, "default", 3).await;
    exits(plane.cli(&["freeze", "stock", "--for", "1h"]), 0);
    for id in ["a", "b"] {
        let answer = plane.post("/v1/tenants", json!({"id": id})).await;
        log_in(&expect(&answer, 201)["connection"]).await;
    }
    // All that could refill it has had its chance: another loop ran in between, when it was asked to.
    expect(&plane.post("/v1/servers/local-1/check", json!({})).await, 200);
    assert_eq!(stock_of(&plane, "default").await, (1, 0));
    expect(&plane.post("/v1/freezes", json!({"target": "all"})).await, 201);
    let answer = plane.post("/v1/tenants", json!({"id": "c"})).await;
    log_in(&expect(&answer, 201)["connection"]).await;
    exits(plane.cli(&["thaw", "--all"]), 0);
    exits(plane.cli(&["thaw", "stock"]), 0);
    until_stock(&plane, "default", 3).await;
    assert_eq!(walk(&plane, "/v1/audit?action=freeze", 50).await.len(), 2);
    assert_eq!(walk(&plane, "/v1/audit?action=thaw", 50).await.len(), 2);
}

#[tokio::test]
async fn story_a_stuck_operation_waits_for_a_person_who_retries_or_resolves_it() {
    let settings = settings("[stock]\nper_template = 0\n");
    let plane = dev_with(&settings).start().await;
    let cluster = Cluster::start(15);
    let dsn = cluster.dsn(freehold_testkit::ADMIN);
    let added = exits(plane.cli(&["server", "add", "outside", "--dsn", &dsn, "--capacity", "10"]), 0);
    assert!(!stdout(&added).contains(freehold_testkit::ADMIN_PASSWORD));
    exits(plane.cli(&["server", "cordon", "local-1"]), 0);
    log_in(&create(&plane, "fine").await["connection"]).await;

    let server = cluster.connect("postgres").await;
    server.batch_execute("ALTER ROLE admin PASSWORD 'somethingElse1'").await.unwrap();
    let retried = begin(&plane, json!({"id": "retried"})).await;
    let resolved = begin(&plane, json!({"id": "resolved"})).await;
    for location in [&retried, &resolved] {
        let stuck = until_state(&plane, location, "stuck").await;
        let error = stuck["error"].to_string();
        assert!(error.contains("password"), "the reason is named: {error}");
        assert!(!error.contains(freehold_testkit::ADMIN_PASSWORD));
    }
    let status = plane.get("/v1/status").await.2;
    let concern = &status["concerns"][0];
    assert_eq!((&concern["code"], &concern["severity"]), (&json!("operation_stuck"), &json!("high")), "{status}");
    assert!(concern["next"].as_str().unwrap().starts_with("freehold operation"));
    let told = exits(plane.cli(&["status"]), 12);
    assert!(stdout(&told).contains("stuck"), "{}", stdout(&told));
    let id = retried.rsplit('/').next().unwrap();
    exits(plane.cli(&["operation", "watch", id]), 11);
    // It is not a loop: it stays where it is until a person comes.
    let attempts = plane.get(&retried).await.2["attempt"].clone();
    problem(&plane.post("/v1/tenants/retried/suspend", json!({})).await, 409, "busy");

    let reason = "the server will not come back 🪦";
    let id = resolved.rsplit('/').next().unwrap();
    exits(plane.cli(&["operation", "resolve", id, "--as", "undone", "--reason", reason]), 0);
    assert_eq!(plane.get("/v1/tenants/resolved").await.2["state"], "failed");
    let audit = walk(&plane, "/v1/audit?action=operation.resolve", 10).await;
    assert_eq!(audit[0]["details"]["reason"], reason);
    assert_eq!(plane.get(&retried).await.2["attempt"], attempts);

    let sql = format!("ALTER ROLE admin PASSWORD '{}'", freehold_testkit::ADMIN_PASSWORD);
    server.batch_execute(&sql).await.unwrap();
    expect(&plane.post(&format!("{retried}/retry"), json!({})).await, 200);
    until_state(&plane, &retried, "succeeded").await;
    let connection = plane.get("/v1/tenants/retried/connection").await;
    log_in(expect(&connection, 200)).await;
    log_in(&create(&plane, "resolved").await["connection"]).await;
}

#[tokio::test]
async fn story_creates_from_stock_that_take_steps_go_on_while_all_is_frozen() {
    let plane = dev().stock(2).start().await;
    // The first use begins its stock. It has names by pattern: what is claimed is renamed.
    let wanted = |id: &str| json!({"id": id, "template": "railzway", "labels": {"tier": "gold"}});
    assert!(plane.post("/v1/tenants", wanted("first")).await.0 < 300);
    until_stock(&plane, "railzway", 2).await;
    expect(&plane.post("/v1/freezes", json!({"target": "all"})).await, 201);
    let answer = plane.post("/v1/tenants", wanted("second")).await;
    log_in(&expect(&answer, 201)["connection"]).await;
    let operations = plane.get("/v1/operations?subject=tenant:second").await.2;
    assert_eq!(operations["items"][0]["state"], "succeeded", "{operations}");
    expect(&plane.delete("/v1/freezes/all").await, 204);
}
