//! Issue 5: a suspended tenant moves like any other, and stays suspended: nobody comes in on either server, before, while
//! and after it moves; where it is resumed it works.

use freehold_testkit::{Plane, as_tenant};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::common::{create, dev, exits, expect, log_in, problem, stdout, store, text, until};

const HERE: &str = "local-1";
const THERE: &str = "local-2";
const CONTENTS: &str = "create table book (id bigserial primary key, title text);
    insert into book (title) select 'book ' || g from generate_series(1, 500) g;
    create unlogged table cache (k int primary key); insert into cache values (7)";
const SUMS: &str =
    "select concat_ws(' ', (select count(*) from book), (select k from cache), (select last_value from book_id_seq))";

async fn post(plane: &Plane, path: &str, body: Json) -> Json {
    let path = format!("/v1/tenants/acme/{path}");
    expect(&plane.request(Method::POST, &path, &[("prefer", "wait=60")], Some(body)).await, 200).clone()
}

async fn connection(plane: &Plane) -> Json {
    expect(&plane.get("/v1/tenants/acme/connection").await, 200).clone()
}

/// Suspended, with its reason, on this server, and nobody gets in by what was handed out then or now.
async fn stays_out(plane: &Plane, server: &str, others: &[&Json]) -> Json {
    let tenant = expect(&plane.get("/v1/tenants/acme").await, 200).clone();
    assert_eq!(
        (&tenant["state"], &tenant["state_reason"], &tenant["server"]),
        (&json!("suspended"), &json!("unpaid"), &json!(server)),
        "{tenant:#}"
    );
    let now = connection(plane).await;
    for connection in others.iter().copied().chain([&now]) {
        let refused = as_tenant(connection).await.expect_err("a suspended tenant logs in");
        // Its login is refused, or is not there.
        assert!(refused.code().is_some_and(|code| ["28000", "28P01"].contains(&code.code())), "{refused:?}");
    }
    now
}

#[tokio::test]
async fn story_a_suspended_tenant_moves_and_stays_out() {
    let plane = dev().stock(1).arg("--servers").arg("2").start().await;
    expect(&plane.post(&format!("/v1/servers/{THERE}/cordon"), json!({})).await, 200);
    let made = create(&plane, "acme").await;
    expect(&plane.post(&format!("/v1/servers/{THERE}/uncordon"), json!({})).await, 200);
    let tenant = log_in(&made["connection"]).await;
    tenant.batch_execute(CONTENTS).await.unwrap();
    let sums = text(&tenant, SUMS).await;
    assert_eq!(sums, "500 7 500");
    let here = made["connection"].clone();
    post(&plane, "suspend", json!({"reason": "unpaid"})).await;

    // What it would take: nobody's time.
    let looked = stdout(&exits(plane.cli(&["tenant", "move", "acme", "--to", THERE, "--dry-run"]), 10));
    assert!(looked.contains("suspended: it is suspended: nobody waits"), "{looked}");
    assert!(looked.contains("methods  logical, dump") && !looked.contains("writes stopped for"), "{looked}");

    // There, by replication; its address is the new one.
    post(&plane, "move", json!({"to": {"server": THERE}})).await;
    let there = stays_out(&plane, THERE, &[&here]).await;
    assert_ne!(there["direct"]["port"], here["direct"]["port"]);
    let stands = expect(&plane.get("/v1/tenants/acme/move").await, 200).clone();
    assert_eq!(
        [&stands["digests"], &stands["follows"], &stands["stall_ms"]],
        [&json!("equal"), &json!(true), &Json::Null],
        "{stands:#}"
    );

    // Back, and there once more; resumed it works there, and what it writes comes along when it goes back suspended.
    post(&plane, "move/rollback", json!({})).await;
    stays_out(&plane, HERE, &[&there]).await;
    post(&plane, "move", json!({"to": {"server": THERE}})).await;
    post(&plane, "resume", json!({})).await;
    let tenant = log_in(&connection(&plane).await).await;
    assert_eq!(text(&tenant, SUMS).await, sums);
    tenant.batch_execute("insert into book (title) values ('one more')").await.unwrap();
    assert!(as_tenant(&here).await.is_err(), "the server that was left lets it in");
    post(&plane, "suspend", json!({"reason": "unpaid"})).await;
    post(&plane, "move/rollback", json!({})).await;
    stays_out(&plane, HERE, &[&there]).await;

    // By dump, and ended; of a deleted tenant nothing moves.
    let moved = plane.cli(&["tenant", "move", "acme", "--to", THERE, "--method", "dump"]);
    assert!(!String::from_utf8_lossy(&moved.stderr).contains("nobody is let in"), "{moved:?}");
    exits(moved, 0);
    stays_out(&plane, THERE, &[&here]).await;
    let stands = expect(&plane.get("/v1/tenants/acme/move").await, 200).clone();
    assert_eq!((&stands["digests"], &stands["stall_ms"]), (&json!("equal"), &Json::Null), "{stands:#}");
    post(&plane, "move/finish", json!({})).await;
    stays_out(&plane, THERE, &[&here]).await;

    // A drain takes it along, and the loop ends what is left of it.
    let path = format!("/v1/servers/{THERE}/drain");
    let would = plane.post(&path, json!({"dry_run": true})).await;
    assert_eq!(expect(&would, 200)["tenants"][0]["to"], HERE, "{}", would.2);
    let body = Some(json!({"keep_seconds": 0}));
    expect(&plane.request(Method::POST, &path, &[("prefer", "wait=60")], body).await, 200);
    stays_out(&plane, HERE, &[&there]).await;
    // As if the minutes had passed for which the loop leaves a tenant alone whose move was ended just now.
    let later = "UPDATE operation SET finished_at = finished_at - interval '1 hour' WHERE kind = 'tenant.finish_move'";
    store(&plane).await.batch_execute(later).await.unwrap();
    until("nothing of it is kept", async || match plane.get("/v1/tenants/acme/move").await {
        (404, ..) => Ok(()),
        (_, _, stands) => Err(stands.to_string()),
    })
    .await;
    stays_out(&plane, HERE, &[&there]).await;
    post(&plane, "resume", json!({})).await;
    let tenant = log_in(&connection(&plane).await).await;
    assert_eq!(text(&tenant, SUMS).await, "501 7 501");
    expect(&plane.delete("/v1/tenants/acme?confirm=acme").await, 200);
    problem(&plane.post("/v1/tenants/acme/move", json!({"to": {"server": THERE}})).await, 409, "wrong_state");
}
