//! To another kind of server, and back.

use freehold_testkit::{ADMIN, Cluster};
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::{LATER, PLANS, audited, change, limits, plans, tenant, time_passes, until_plan, until_waits};
use crate::common::{create, dev_with, expect, log_in, problem, text, until};
use crate::server_pool::{Place, pool};

/// Up to a server of its own, which a pool makes for it; back; up again and, when its time has come, down.
#[tokio::test]
async fn story_a_plan_with_a_server_of_its_own_moves_the_tenant_there_and_down_again() {
    let place = Place::new();
    let own = pool("own", "kind = \"dedicated\"\nminimum_spare = 0\nmaximum_servers = 1");
    let file = place.settings(&format!("{own}{PLANS}"));
    let plane = dev_with(&file).postgres(15).start().await;
    let made = create(&plane, "acme").await;
    let rows = "CREATE TABLE note (id int PRIMARY KEY, body text); INSERT INTO note SELECT g, 'n' FROM generate_series(1, 1000) g";
    log_in(&made["connection"]).await.batch_execute(rows).await.unwrap();
    let count = async || {
        let connection = plane.get("/v1/tenants/acme/connection").await.2;
        text(&log_in(&connection).await, "SELECT count(*)::text FROM note").await
    };
    let limit = async || {
        let connection = plane.get("/v1/tenants/acme/connection").await.2;
        text(&log_in(&connection).await, "SELECT rolconnlimit::text FROM pg_roles WHERE rolname = session_user").await
    };
    let up = async || {
        let begun = change(&plane, "acme", json!({"plan": "own"})).await;
        assert!(matches!(begun.0, 200 | 202), "{}", begun.2);
        let moved = until_plan(&plane, "acme", "own").await;
        assert_eq!(moved["server"], "own-1", "{moved}");
        assert_eq!((count().await.as_str(), limit().await.as_str()), ("1000", "50"));
    };
    // The server is seen to be waited for.
    let begun = plane
        .request(Method::POST, "/v1/tenants/acme/plan", &[("prefer", "wait=0")], Some(json!({"plan": "own"})))
        .await;
    assert_eq!(expect(&begun, 202)["kind"], "tenant.move");
    problem(&change(&plane, "acme", json!({"plan": "plus", "at": LATER})).await, 409, "busy");
    until("it waits for a server", async || {
        let pool = plane.get("/v1/server-pools/own").await.2;
        let there = tenant(&plane, "acme").await["server"] == "own-1";
        if pool["waiting"] == 1 || pool["growing"] == "own-1" || there { Ok(()) } else { Err(pool.to_string()) }
    })
    .await;
    let moved = until_plan(&plane, "acme", "own").await;
    assert_eq!((&moved["server"], count().await.as_str(), limit().await.as_str()), (&json!("own-1"), "1000", "50"));
    assert_eq!(plane.get("/v1/server-pools/own").await.2["waiting"], 0);
    let connection = plane.get("/v1/tenants/acme/connection").await.2;
    let inside = log_in(&connection).await;
    assert_eq!(text(&inside, "SELECT extname::text FROM pg_extension WHERE extname = 'citext'").await, "citext");
    drop(inside);

    // The way back brings plan and limits back with the rows.
    let refused = change(&plane, "acme", json!({"plan": "basic"})).await;
    assert!(problem(&refused, 409, "wrong_state")["detail"].as_str().unwrap().contains("--finish"), "{}", refused.2);
    let back = plane.request(Method::POST, "/v1/tenants/acme/move/rollback", &[("prefer", "wait=60")], None).await;
    assert!(matches!(back.0, 200 | 202), "{}", back.2);
    let back = until_plan(&plane, "acme", "basic").await;
    assert_eq!((&back["server"], count().await.as_str(), limit().await.as_str()), (&json!("local-1"), "1000", "5"));

    // Up again, and down at its time, when what was left on the former server is not kept any more.
    up().await;
    expect(&change(&plane, "acme", json!({"plan": "plus", "at": LATER})).await, 200);
    let waits = until_waits(&plane, "acme", "wrong_state").await;
    assert!(waits["waits"]["message"].as_str().unwrap().contains("--finish"), "{waits}");
    let finished = plane.request(Method::POST, "/v1/tenants/acme/move/finish", &[("prefer", "wait=60")], None).await;
    expect(&finished, 200);
    // Suspended by then, and so it stays.
    expect(&plane.post("/v1/tenants/acme/suspend", json!({})).await, 200);
    time_passes(&plane).await;
    let down = until_plan(&plane, "acme", "plus").await;
    assert_eq!((&down["server"], &down["plan_change"]), (&json!("local-1"), &Json::Null), "{down}");
    until("it is resumed", async || match plane.post("/v1/tenants/acme/resume", json!({})).await {
        (200, ..) => Ok(()),
        (_, _, busy) => Err(busy.to_string()),
    })
    .await;
    assert_eq!((count().await.as_str(), limit().await.as_str()), ("1000", "9"));
    assert_eq!(audited(&plane, "tenant.plan").await, 4, "up, back, up, down");
}

/// A cancel before the flip leaves the tenant where it was, with the plan that it had; nobody waits for a server any more.
#[tokio::test]
async fn story_an_upgrade_that_is_cancelled_leaves_everything_as_it_was() {
    let cluster = Cluster::builder(15).setting("wal_level", "logical").start();
    let file = plans();
    let plane =
        dev_with(&file).postgres(15).env("FREEHOLD_FAULTS", "tenant.move/Ready/before=sleep:3000*1").start().await;
    let made = create(&plane, "acme").await;
    let body = json!({"id": "big", "dsn": cluster.dsn(ADMIN), "kind": "dedicated", "capacity": 1});
    let added = plane.request(Method::POST, "/v1/servers", &[("prefer", "wait=30")], Some(body)).await;
    assert!(matches!(added.0, 200 | 201), "{}", added.2);
    expect(&change(&plane, "acme", json!({"plan": "plus", "at": LATER})).await, 200);
    let preview = change(&plane, "acme", json!({"plan": "own", "dry_run": true})).await;
    assert_eq!(expect(&preview, 200)["movability"]["to"]["server"], "big", "{}", preview.2);
    let begun = plane
        .request(Method::POST, "/v1/tenants/acme/plan", &[("prefer", "wait=0")], Some(json!({"plan": "own"})))
        .await;
    let operation = format!("/v1/operations/{}", expect(&begun, 202)["id"].as_str().unwrap());
    until("it is in the middle", async || match plane.output().contains("fault point fires") {
        true => Ok(()),
        false => Err(plane.get(&operation).await.2.to_string()),
    })
    .await;
    let cancelled = plane.post(&format!("{operation}/cancel"), json!({})).await;
    assert!(matches!(cancelled.0, 200 | 202), "{}", cancelled.2);
    let after = until_plan(&plane, "acme", "basic").await;
    assert_eq!((&after["server"], &after["plan_change"]["plan"]), (&json!("local-1"), &json!("plus")), "{after}");
    assert_eq!(limits(&plane, &made).await.0, 5);
    log_in(&made["connection"]).await;
    let theirs = cluster.connect("postgres").await;
    let name = made["connection"]["direct"]["database"].as_str().unwrap();
    let left = format!("SELECT count(*)::text FROM pg_database WHERE datname = '{name}'");
    assert_eq!(text(&theirs, &left).await, "0");
}

/// What fails once the other server serves does not take the plan back: whoever asked for it is told that he has it.
#[tokio::test]
async fn story_an_upgrade_whose_way_back_fails_is_answered_as_it_stands() {
    let cluster = Cluster::builder(15).setting("wal_level", "logical").start();
    let file = plans();
    let faults = "tenant.move/Verify/after=permanent*1";
    let plane = dev_with(&file).postgres(15).env("FREEHOLD_FAULTS", faults).start().await;
    create(&plane, "acme").await;
    let body = json!({"id": "big", "dsn": cluster.dsn(ADMIN), "kind": "dedicated", "capacity": 1});
    let added = plane.request(Method::POST, "/v1/servers", &[("prefer", "wait=30")], Some(body)).await;
    assert!(matches!(added.0, 200 | 201), "{}", added.2);
    let wanted = Some(json!({"plan": "own"}));
    let done = plane.request(Method::POST, "/v1/tenants/acme/plan", &[("prefer", "wait=60")], wanted).await;
    let told = expect(&done, 200);
    assert_eq!((&told["plan"], &told["server"]), (&json!("own"), &json!("big")), "{told}");
    let moves = plane.get("/v1/operations?kind=tenant.move&subject=tenant:acme").await.2;
    assert_eq!(moves["items"][0]["state"], "failed", "{moves}");
}

/// Nobody goes on waiting for a server once its upgrade is cancelled.
#[tokio::test]
async fn story_an_upgrade_that_waits_for_a_server_can_be_cancelled() {
    let place = Place::new();
    let own = pool("own", "kind = \"dedicated\"\nminimum_spare = 0\nmaximum_servers = 1");
    let file = place.settings(&format!("{own}{PLANS}"));
    let faults = "server.provision/Secrets/before=sleep:6000*1";
    let plane = dev_with(&file).postgres(15).env("FREEHOLD_FAULTS", faults).start().await;
    create(&plane, "acme").await;
    let wanted = Some(json!({"plan": "own"}));
    let begun = plane.request(Method::POST, "/v1/tenants/acme/plan", &[("prefer", "wait=0")], wanted).await;
    let operation = format!("/v1/operations/{}", expect(&begun, 202)["id"].as_str().unwrap());
    until("it waits, and says for what", async || {
        let (waits, pool) = (plane.get(&operation).await.2, plane.get("/v1/server-pools/own").await.2);
        let said = waits["error"]["code"] == "waiting_for_server" && waits["step"] == "Reserve";
        if said && pool["waiting"] == 1 { Ok(()) } else { Err(format!("{waits} {pool}")) }
    })
    .await;
    // Nor is there a second place in the only server that there may be.
    create(&plane, "globex").await;
    problem(&change(&plane, "globex", json!({"plan": "own"})).await, 503, "no_room");
    let cancelled = plane.post(&format!("{operation}/cancel"), json!({})).await;
    assert!(matches!(cancelled.0, 200 | 202), "{}", cancelled.2);
    until("nobody waits", async || match plane.get("/v1/server-pools/own").await.2 {
        pool if pool["waiting"] == 0 => Ok(()),
        pool => Err(pool.to_string()),
    })
    .await;
    assert_eq!(until_plan(&plane, "acme", "basic").await["server"], "local-1");
}
