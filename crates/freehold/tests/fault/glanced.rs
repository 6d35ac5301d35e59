//! Whoever writes at the side that follows, behind the move's back, is found under the fence where there is time to read what he
//! wrote: that side does not come to serve.

use freehold_testkit::Cluster;
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::moves::{OTHER, over};
use crate::rig::{Rig, SERVER};
use crate::scenario::Scenario;
use crate::serving::{Serve, until};
use crate::sides::{restarted, rig, served_by};

/// On a machine that is busy with other things there may be no time to read anything: then it is found after the fence, and the
/// next tenant moves.
const ATTEMPTS: usize = 5;

async fn bend(server: &Cluster, id: &str, sql: &str) {
    let inside = server.connect(&format!("made_{}", id.replace('-', "_"))).await;
    inside.batch_execute(sql).await.expect("write behind its back");
}

/// How it ended; None: there was no time.
async fn found(rig: &Rig, serve: &Serve, kind: &str, table: &str) -> Option<Json> {
    let operation = rig.newest_id(kind).await;
    let mut last = Json::Null;
    until("it is over", async || {
        last = serve.get(&format!("/v1/operations/{operation}")).await.1;
        ["succeeded", "failed", "cancelled", "stuck"].iter().any(|state| last["state"] == *state)
    })
    .await;
    assert_eq!(last["error"]["code"], "digests_differ", "{last:#}");
    if last["state"] == "stuck" {
        return None;
    }
    let message = last["error"]["message"].as_str().unwrap_or_default();
    assert!(last["state"] == "failed" && message.contains(table) && message.contains("goes on"), "{last:#}");
    Some(last)
}

#[tokio::test]
async fn move_to_a_side_that_was_changed_behind_its_back_ends_under_the_fence() {
    let (rig, mut serve) = rig(20).await;
    for attempt in 0..ATTEMPTS {
        let id = format!("bent-{attempt}");
        Scenario::Move.prepare_move(&rig, &serve, &id).await;
        let mut nothing = rig.of_moves().await;
        nothing.sort();
        restarted(&rig, &mut serve, "tenant.move/Ready/before=sleep:1500*1").await;
        let body = json!({"to": {"server": OTHER}, "deadline_seconds": 10});
        serve.begin(Method::POST, &format!("/v1/tenants/{id}/move"), Some(body)).await;
        let compared = async || rig.newest("tenant.move").await.is_some_and(|(_, step, ..)| step == "Ready");
        until("both sides were compared", compared).await;
        bend(rig.second.as_ref().expect("two servers"), &id, "UPDATE info SET name = 'bent'").await;
        if found(&rig, &serve, "tenant.move", "info").await.is_none() {
            continue;
        }
        served_by(&rig, &serve, &id, SERVER).await;
        let mut left = rig.of_moves().await;
        left.sort();
        assert_eq!(left, nothing);
        // With nobody behind its back it moves.
        over(&serve, &format!("/v1/tenants/{id}/move"), json!({"to": {"server": OTHER}})).await;
        served_by(&rig, &serve, &id, OTHER).await;
        return;
    }
    panic!("not once was there time to compare a table of one row");
}

#[tokio::test]
async fn move_back_to_a_side_that_was_changed_behind_its_back_ends_under_the_fence() {
    let (rig, serve) = rig(20).await;
    for attempt in 0..ATTEMPTS {
        let id = format!("bent-{attempt}");
        Scenario::MoveBack.prepare_move(&rig, &serve, &id).await;
        bend(rig.server(), &id, "DELETE FROM keyless WHERE n = 7").await;
        serve.begin(Method::POST, &format!("/v1/tenants/{id}/move/rollback"), Some(json!({}))).await;
        if found(&rig, &serve, "tenant.roll_back_move", "keyless").await.is_none() {
            continue;
        }
        served_by(&rig, &serve, &id, OTHER).await;
        over(&serve, &format!("/v1/tenants/{id}/move/finish"), json!({})).await;
        served_by(&rig, &serve, &id, OTHER).await;
        return;
    }
    panic!("not once was there time to compare a table of a hundred rows");
}
