//! Issue 5, item 6: a server lets all its tenants go, a few at a time; who cannot go is named, and nobody notices.

use std::collections::BTreeMap;

use freehold_testkit::Plane;
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::common::{create, dev, exits, expect, log_in, problem, stdout, until, walk};

const HERE: &str = "local-1";
const THERE: &str = "local-2";

/// Rows that nothing tells apart: no UPDATE of one could be applied elsewhere.
const BLOCKS: &str = "create table doc (body json); insert into doc values ('{}')";

async fn settle(plane: &Plane, begun: &Json) -> Json {
    let path = format!("/v1/operations/{}", begun["id"].as_str().unwrap_or_else(|| panic!("no operation: {begun}")));
    until("the operation is over", async || {
        let operation = plane.get(&path).await.2;
        let is_over = ["succeeded", "failed", "cancelled"].iter().any(|state| operation["state"] == *state);
        if is_over { Ok(operation) } else { Err(operation.to_string()) }
    })
    .await
}

async fn drain(plane: &Plane, server: &str, body: Json) -> Json {
    let path = format!("/v1/servers/{server}/drain");
    let begun = plane.request(Method::POST, &path, &[("prefer", "wait=0")], Some(body)).await;
    expect(&begun, 202).clone()
}

async fn stands(plane: &Plane, server: &str) -> Json {
    expect(&plane.get(&format!("/v1/servers/{server}/drain")).await, 200).clone()
}

/// Tenant → state, where to, code.
fn told(drain: &Json) -> BTreeMap<&str, [&str; 3]> {
    fn text<'a>(tenant: &'a Json, name: &str) -> &'a str {
        tenant[name].as_str().unwrap_or("-")
    }
    let tenants = drain["tenants"].as_array().unwrap().iter();
    tenants.map(|tenant| (text(tenant, "tenant"), ["state", "to", "code"].map(|name| text(tenant, name)))).collect()
}

fn counts(drain: &Json) -> [u64; 4] {
    ["moved", "moving", "waiting", "left"].map(|name| drain[name].as_u64().unwrap())
}

async fn finish(plane: &Plane, id: &str) {
    let path = format!("/v1/tenants/{id}/move/finish");
    expect(&plane.request(Method::POST, &path, &[("prefer", "wait=60")], Some(json!({}))).await, 200);
}

#[tokio::test]
async fn story_drain_moves_everybody_who_can_and_names_who_cannot() {
    let plane = dev().stock(1).arg("--servers").arg("2").start().await;
    expect(&plane.post(&format!("/v1/servers/{THERE}/cordon"), json!({})).await, 200);
    let mut sessions = BTreeMap::new();
    for id in ["acme", "docs", "globex", "initech"] {
        let made = create(&plane, id).await;
        let session = log_in(&made["connection"]).await;
        session
            .batch_execute(&format!(
                "create table own (id int primary key, name text); insert into own values (1, '{id}')"
            ))
            .await
            .unwrap();
        sessions.insert(id, session);
    }
    sessions["docs"].batch_execute(BLOCKS).await.unwrap();
    expect(&plane.post(&format!("/v1/servers/{THERE}/uncordon"), json!({})).await, 200);
    refusals(&plane).await;

    // What it would do is told, and nothing is begun.
    let shown = stdout(&exits(plane.cli(&["server", "drain", HERE, "--dry-run"]), 12));
    assert!(shown.contains("3 would go, 1 could not") && shown.contains("no_equality"), "{shown}");
    let would = expect(&plane.post(&format!("/v1/servers/{HERE}/drain"), json!({"dry_run": true})).await, 200).clone();
    assert_eq!((counts(&would), &would["operation"]), ([0, 0, 3, 1], &Json::Null), "{would:#}");
    assert_eq!(told(&would)["acme"], ["waiting", THERE, "-"]);
    assert_eq!(told(&would)["docs"], ["left", "-", "not_movable"]);
    assert_eq!(plane.get(&format!("/v1/servers/{HERE}")).await.2["state"], "active");
    problem(&plane.get(&format!("/v1/servers/{HERE}/drain")).await, 404, "not_found");

    // Then for real: it ends with who is left, and why.
    let begun = drain(&plane, HERE, json!({"keep_seconds": 600})).await;
    problem(&plane.post(&format!("/v1/servers/{HERE}/drain"), json!({})).await, 409, "busy");
    let over = settle(&plane, &begun).await;
    assert_eq!((&over["state"], &over["error"]["code"]), (&json!("failed"), &json!("tenants_left")), "{over:#}");
    let message = over["error"]["message"].as_str().unwrap();
    assert!(message.contains("1 of 4") && message.contains("docs") && message.contains("no_equality"), "{message}");
    let found = stands(&plane, HERE).await;
    assert_eq!(
        (counts(&found), &found["stock"], &found["state"]),
        ([3, 0, 0, 1], &json!(0), &json!("failed")),
        "{found:#}"
    );
    assert_eq!(told(&found)["globex"], ["moved", THERE, "-"]);
    assert_eq!(told(&found)["docs"], ["left", "-", "not_movable"]);
    let server = plane.get(&format!("/v1/servers/{HERE}")).await.2;
    assert_eq!((&server["state"], &server["tenants"], &server["stock"]), (&json!("cordoned"), &json!(1), &json!(0)));
    for id in ["acme", "globex", "initech"] {
        let connection = expect(&plane.get(&format!("/v1/tenants/{id}/connection")).await, 200).clone();
        let name: String = log_in(&connection).await.query_one("select name from own", &[]).await.unwrap().get(0);
        assert_eq!(name, id);
    }
    // Whoever waits for the answer is told the same.
    let path = format!("/v1/servers/{HERE}/drain");
    let again = plane.request(Method::POST, &path, &[("prefer", "wait=60")], Some(json!({}))).await;
    assert!(problem(&again, 409, "tenants_left").to_string().contains("no_equality"), "{}", again.2);
    let shown = stdout(&exits(plane.cli(&["server", "drain", HERE, "--status"]), 0));
    assert!(shown.contains("0 elsewhere, 0 on their way, 0 to come, 1 left"), "{shown}");

    // What was in the way goes, and so does the last one.
    sessions["docs"].batch_execute("drop table doc").await.unwrap();
    let begun = drain(&plane, HERE, json!({"to": {"server": THERE}, "order": "smallest"})).await;
    assert_eq!(settle(&plane, &begun).await["state"], "succeeded");
    assert_eq!(counts(&stands(&plane, HERE).await), [1, 0, 0, 0]);
    for id in ["acme", "docs", "globex", "initech"] {
        let moves = walk(&plane, &format!("/v1/operations?kind=tenant.move&subject=tenant:{id}"), 10).await;
        assert_eq!(moves.len(), if id == "docs" { 3 } else { 1 }, "{id}: {moves:?}");
    }

    // Back again, which somebody thinks better of: no more are begun, and what is under way comes to its end.
    for id in ["acme", "docs", "globex", "initech"] {
        finish(&plane, id).await;
    }
    expect(&plane.post(&format!("/v1/servers/{HERE}/uncordon"), json!({})).await, 200);
    let begun = drain(&plane, THERE, json!({"at_once": 1})).await;
    until("one is on its way", async || {
        let found = stands(&plane, THERE).await;
        if found["moving"] == 1 { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
    let id = begun["id"].as_str().unwrap();
    expect(&plane.post(&format!("/v1/operations/{id}/cancel"), json!({})).await, 200);
    assert_eq!(settle(&plane, &begun).await["state"], "cancelled");
    let found = until("what was under way is over", async || {
        let found = stands(&plane, THERE).await;
        if found["moving"] == 0 { Ok(found) } else { Err(found.to_string()) }
    })
    .await;
    let [moved, _, waiting, left] = counts(&found);
    assert!(moved >= 1 && waiting >= 1 && moved + waiting == 4 && left == 0, "{found:#}");
    assert_eq!(plane.get(&format!("/v1/servers/{THERE}")).await.2["state"], "cordoned");
}

async fn refusals(plane: &Plane) {
    let path = format!("/v1/servers/{HERE}/drain");
    let refuse = async |body: Json, says: &str| {
        let answer = plane.post(&path, body).await;
        let told = problem(&answer, 422, "invalid").to_string();
        assert!(told.contains(says), "{told}");
    };
    refuse(json!({"to": {"server": HERE}}), "is the one that is drained").await;
    refuse(json!({"to": {"server": "nowhere"}}), "there is no server nowhere").await;
    refuse(json!({"to": {"plan": "standard"}}), "tenants keep theirs").await;
    refuse(json!({"at_once": 0}), "use 1 to 16").await;
    refuse(json!({"keep_seconds": 99_999_999}), "90 days").await;
    refuse(json!({"order": "tallest"}), "tallest").await;
    problem(&plane.post("/v1/servers/nowhere/drain", json!({})).await, 404, "not_found");
    problem(&plane.get(&path).await, 404, "not_found");
    exits(plane.cli(&["server", "drain", HERE, "--status", "--dry-run"]), 2);
}
