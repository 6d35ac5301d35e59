//! Moves by dump that are cancelled, take too long, meet a write that nobody should have made, or whose servers die: whoever
//! was shut out comes in again where he was, and nothing that was not compared ever serves.

use std::time::Duration;

use freehold_testkit::as_tenant;
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::moves::{OTHER, SLOW, over};
use crate::rig::{Rig, SERVER};
use crate::scenario::Scenario;
use crate::serving::{Serve, until};
use crate::sides::{over_by_itself, restarted, rig, served_by};
use crate::writer::{Writer, connection};

const MOVE: &str = "tenant.move";

async fn begin(serve: &Serve, more: Json) {
    let mut body = json!({"to": {"server": OTHER}, "method": "dump"});
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    serve.begin(Method::POST, "/v1/tenants/acme/move", Some(body)).await;
}

async fn ended(rig: &Rig, serve: &Serve) -> Json {
    let operation = rig.newest_id(MOVE).await;
    let mut last = Json::Null;
    until("the move is over", async || {
        last = serve.get(&format!("/v1/operations/{operation}")).await.1;
        ["succeeded", "failed", "cancelled", "stuck"].iter().any(|state| last["state"] == *state)
    })
    .await;
    last
}

/// Catalogs have no order.
async fn sorted(rig: &Rig) -> Vec<String> {
    let mut lines = rig.of_moves().await;
    lines.sort();
    lines
}

async fn is_at(rig: &Rig, step: &str) {
    until(&format!("it is at {step}"), async || rig.newest(MOVE).await.is_some_and(|(_, now, ..)| now == step)).await;
}

async fn make(serve: &Serve, sql: &str) {
    let client = as_tenant(&connection(serve, "acme").await).await.expect("the tenant logs in");
    client.batch_execute(sql).await.expect("make what is moved");
}

/// In the middle of the rows, when nobody is let in: cancelled, or longer than was allowed. Each time all is as it was.
#[tokio::test]
async fn move_by_dump_that_is_given_up_leaves_everything_as_it_was() {
    let (rig, serve) = rig(20).await;
    Scenario::MoveByDump.prepare_move(&rig, &serve, "acme").await;
    make(&serve, SLOW).await;
    let nothing = sorted(&rig).await;
    let writer = Writer::start(&rig, &serve, "acme").await;
    writer.more().await;

    begin(&serve, json!({})).await;
    is_at(&rig, "Stream").await;
    assert!(as_tenant(&connection(&serve, "acme").await).await.is_err(), "somebody is let in");
    let operation = rig.newest_id(MOVE).await;
    serve.request(Method::POST, &format!("/v1/operations/{operation}/cancel"), None).await;
    assert_eq!(ended(&rig, &serve).await["state"], "cancelled");
    served_by(&rig, &serve, "acme", SERVER).await;
    writer.more().await;

    begin(&serve, json!({"deadline_seconds": 1})).await;
    let late = ended(&rig, &serve).await;
    assert_eq!((&late["state"], &late["error"]["code"]), (&json!("failed"), &json!("stop_too_long")), "{late}");
    served_by(&rig, &serve, "acme", SERVER).await;
    writer.more().await;
    writer.end(&serve, "acme").await;
    make(&serve, "DROP TABLE ledger").await;
    assert_eq!(sorted(&rig).await, nothing);
}

/// A row that a superuser writes after the snapshot, and a schema that is changed before anybody is shut out.
#[tokio::test]
async fn move_by_dump_finds_what_was_written_behind_its_back() {
    let (rig, mut serve) = rig(20).await;
    Scenario::MoveByDump.prepare_move(&rig, &serve, "acme").await;
    let nothing = sorted(&rig).await;
    restarted(&rig, &mut serve, "tenant.move/Build/before=sleep:1500*1,tenant.move/Stop/before=sleep:1500*2").await;
    begin(&serve, json!({})).await;
    is_at(&rig, "Build").await;
    let behind = rig.server().connect("made_acme").await;
    behind.batch_execute("INSERT INTO scratch VALUES (8)").await.expect("write behind its back");
    let found = ended(&rig, &serve).await;
    assert_eq!((&found["state"], &found["error"]["code"]), (&json!("failed"), &json!("digests_differ")), "{found}");
    assert!(found["error"]["message"].as_str().is_some_and(|message| message.contains("scratch")), "{found}");
    served_by(&rig, &serve, "acme", SERVER).await;
    assert_eq!(sorted(&rig).await, nothing);

    begin(&serve, json!({"keep_seconds": 600})).await;
    is_at(&rig, "Stop").await;
    make(&serve, "CREATE TABLE late (id int PRIMARY KEY); INSERT INTO late VALUES (1)").await;
    over_by_itself(&rig, &serve, MOVE, "its schema changed").await;
    served_by(&rig, &serve, "acme", OTHER).await;
    make(&serve, "DO $$ BEGIN ASSERT (SELECT id FROM late) = 1; ASSERT (SELECT count(*) FROM scratch) = 2; END $$")
        .await;
    let (status, refused) = serve.post("/v1/tenants/acme/move/rollback", json!({})).await;
    assert_eq!((status, &refused["code"]), (409, &json!("wrong_state")), "{refused}");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("--method dump")), "{refused}");
    over(&serve, "/v1/tenants/acme/move/finish", json!({})).await;
    served_by(&rig, &serve, "acme", OTHER).await;
}

/// Kill -9 of either server while rows come over: it goes on once that server is back.
#[tokio::test]
async fn move_by_dump_goes_on_when_a_server_that_died_is_back() {
    for first in [true, false] {
        let (mut rig, serve) = rig(20).await;
        Scenario::MoveByDump.prepare_move(&rig, &serve, "acme").await;
        make(&serve, SLOW).await;
        make(&serve, "ALTER TABLE scratch SET LOGGED").await;
        let writer = Writer::start(&rig, &serve, "acme").await;
        writer.more().await;
        begin(&serve, json!({})).await;
        is_at(&rig, "Stream").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let server = if first { rig.apart.as_mut() } else { rig.second.as_mut() };
        server.expect("two servers").kill();
        until("it is noticed", async || rig.newest(MOVE).await.is_some_and(|(state, ..)| state != "running")).await;
        let server = if first { rig.apart.as_mut() } else { rig.second.as_mut() };
        server.expect("two servers").start_again();
        over_by_itself(&rig, &serve, MOVE, "a server died").await;
        served_by(&rig, &serve, "acme", OTHER).await;
        writer.more().await;
        writer.end(&serve, "acme").await;
    }
}
