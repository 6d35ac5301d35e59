//! Issue 5, item 7: a tenant gets another plan, now or at its time, in place or by a move.

use freehold_client::api::plan_change::{ChangePlan, PlanStep};
use freehold_testkit::{ADMIN, Cluster, Plane};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::common::{
    SettingsFile, admin, create, dev_with, exits, expect, key, log_in, problem, settings, stdout, store, text, until,
    walk,
};
use crate::server_pool::{Place, pool};

const PLANS: &str = "[[plan]]\nname = \"basic\"\nrank = 10\ndefault = true\nconnection_limit = 5\nstatement_timeout_ms = 30000\n\
    [[plan]]\nname = \"plus\"\nrank = 20\nconnection_limit = 9\nwork_mem_kb = 2048\nextensions = [\"citext\"]\n\
    [[plan]]\nname = \"twin\"\nrank = 20\n[[plan]]\nname = \"tiny\"\nstorage_quota = 1000\non_storage_quota = \"notify\"\n\
    [[plan]]\nname = \"odd\"\nrank = 30\nextensions = [\"never_heard_of\"]\n\
    [[plan]]\nname = \"own\"\nrank = 40\nserver = \"dedicated\"\nconnection_limit = 50\nextensions = [\"citext\"]\n";

fn plans() -> SettingsFile {
    settings(&format!("[stock]\nper_template = 0\n[stats]\nperiod_seconds = 1\nsize_period_seconds = 1\n{PLANS}"))
}

async fn change(plane: &Plane, id: &str, body: Json) -> freehold_testkit::Answer {
    plane.request(Method::POST, &format!("/v1/tenants/{id}/plan"), &[("prefer", "wait=30")], Some(body)).await
}

async fn tenant(plane: &Plane, id: &str) -> Json {
    plane.get(&format!("/v1/tenants/{id}")).await.2
}

/// Connection limit and defaults of the login, as its server has them.
async fn limits(plane: &Plane, made: &Json) -> (i32, String) {
    let login = made["connection"]["direct"]["user"].as_str().unwrap();
    let sql = "SELECT rolconnlimit, coalesce(array_to_string(setconfig, ' '), '') FROM pg_roles r
        LEFT JOIN pg_db_role_setting s ON s.setrole = r.oid WHERE rolname = $1";
    let row = admin(plane, "postgres").await.query_one(sql, &[&login]).await.unwrap();
    (row.get(0), row.get(1))
}

/// As if the time had come, and pauses were over; the loop looks.
async fn time_passes(plane: &Plane) {
    let sql = "UPDATE plan_change SET due_at = least(due_at, now()), retry_at = CASE WHEN retry_at IS NOT NULL THEN now() END;
        UPDATE loop_lease SET next_run_at = now() WHERE name = 'plans'; NOTIFY freehold_loop, 'plans'";
    store(plane).await.batch_execute(sql).await.unwrap();
}

async fn until_plan(plane: &Plane, id: &str, plan: &str) -> Json {
    until(&format!("{id} has plan {plan}"), async || match tenant(plane, id).await {
        found if found["plan"] == plan && found["operation"].is_null() => Ok(found),
        found => Err(format!("{found:#} {}", plane.output())),
    })
    .await
}

/// Why the change that is kept waits.
async fn until_waits(plane: &Plane, id: &str, code: &str) -> Json {
    until(&format!("{id} waits: {code}"), async || {
        time_passes(plane).await;
        match tenant(plane, id).await {
            found if found["plan_change"]["waits"]["code"] == code => Ok(found["plan_change"].clone()),
            found => Err(found.to_string()),
        }
    })
    .await
}

async fn audited(plane: &Plane, action: &str) -> usize {
    walk(plane, &format!("/v1/audit?action={action}"), 50).await.len()
}

const LATER: &str = "2999-01-01T00:00:00Z";

#[tokio::test]
async fn story_a_plan_is_changed_in_place_with_its_limits() {
    let file = plans();
    let plane = dev_with(&file).start().await;
    let made = create(&plane, "acme").await;
    let open = log_in(&made["connection"]).await;
    assert_eq!(limits(&plane, &made).await.0, 5);

    let preview = change(&plane, "acme", json!({"plan": "plus", "dry_run": true})).await;
    let preview = expect(&preview, 200);
    assert_eq!(
        (&preview["step"], &preview["moves"], &preview["against"]),
        (&json!("upgrade"), &json!(false), &json!([]))
    );
    assert_eq!(tenant(&plane, "acme").await["plan"], "basic", "nothing is begun");

    let before = plane.get("/v1/tenants/acme").await;
    let changed = change(&plane, "acme", json!({"plan": "plus"})).await;
    assert_eq!(expect(&changed, 200)["plan"], "plus");
    assert_ne!(before.1["etag"], changed.1["etag"]);
    let (limit, config) = limits(&plane, &made).await;
    assert!(
        limit == 9 && config.contains("work_mem=2048kB") && !config.contains("statement_timeout=30000"),
        "{config}"
    );
    let session = log_in(&made["connection"]).await;
    assert_eq!(text(&session, "SELECT extname::text FROM pg_extension WHERE extname = 'citext'").await, "citext");
    assert_eq!(text(&session, "SHOW work_mem").await, "2MB");
    assert_eq!(text(&open, "SHOW work_mem").await, "4MB", "who is in keeps what he began with");
    until("what it may use is told", async || match tenant(&plane, "acme").await {
        found if found["usage"]["connection_limit"] == 9 => Ok(()),
        found => Err(found.to_string()),
    })
    .await;

    // Down again, at once; a time that is past is now.
    let changed = change(&plane, "acme", json!({"plan": "basic", "at": "2001-01-01T00:00:00Z"})).await;
    assert_eq!(expect(&changed, 200)["plan"], "basic");
    let (limit, config) = limits(&plane, &made).await;
    assert!(limit == 5 && config.contains("statement_timeout=30000") && !config.contains("work_mem"), "{config}");
    assert_eq!(audited(&plane, "tenant.plan").await, 2);
    assert_eq!(audited(&plane, "tenant.plan.begin").await, 2);
    // The truth is the new plan's.
    store(&plane)
        .await
        .batch_execute("UPDATE loop_lease SET next_run_at = now() WHERE name = 'truth'; NOTIFY freehold_loop, 'truth'")
        .await
        .unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(limits(&plane, &made).await.0, 5);

    // Suspended tenants too, where they stay where they are.
    expect(&plane.post("/v1/tenants/acme/suspend", json!({})).await, 200);
    assert_eq!(expect(&change(&plane, "acme", json!({"plan": "twin"})).await, 200)["plan"], "twin");
    expect(&plane.post("/v1/tenants/acme/resume", json!({})).await, 200);
    log_in(&made["connection"]).await;
}

#[tokio::test]
async fn story_what_cannot_be_a_change_of_plan_is_refused() {
    let file = plans();
    let plane = dev_with(&file).start().await;
    let made = create(&plane, "acme").await;
    problem(&change(&plane, "acme", json!({"plan": "none"})).await, 422, "unknown_plan");
    problem(&change(&plane, "acme", json!({"plan": "plus", "at": "soon"})).await, 422, "invalid");
    problem(&change(&plane, "acme", json!({"plan": "plus", "when": "now"})).await, 422, "invalid");
    problem(&change(&plane, "nobody", json!({"plan": "plus"})).await, 404, "not_found");
    problem(&change(&plane, "acme", json!({"plan": "basic"})).await, 409, "same_plan");
    problem(&change(&plane, "acme", json!({"plan": "basic", "at": LATER})).await, 409, "same_plan");
    problem(&plane.delete("/v1/tenants/acme/plan").await, 404, "not_found");
    let detail =
        problem(&change(&plane, "acme", json!({"plan": "odd"})).await, 422, "extension_missing")["detail"].clone();
    assert!(detail.as_str().unwrap().contains("never_heard_of"), "{detail}");
    let room = change(&plane, "acme", json!({"plan": "own"})).await;
    assert!(problem(&room, 503, "no_room")["detail"].as_str().unwrap().contains("dedicated"), "{}", room.2);
    let preview = change(&plane, "acme", json!({"plan": "own", "dry_run": true})).await;
    let preview = expect(&preview, 200);
    assert_eq!((&preview["moves"], &preview["against"][0]["code"]), (&json!(true), &json!("no_room")), "{preview}");
    let moved = plane.post("/v1/tenants/acme/move", json!({"to": {"plan": "own"}})).await;
    assert!(problem(&moved, 422, "invalid").to_string().contains("freehold tenant plan acme own"), "{}", moved.2);

    // Numbers, and a way to say that it is meant.
    until("it was measured", async || match tenant(&plane, "acme").await {
        found if found["usage"]["size_bytes"].is_u64() => Ok(()),
        found => Err(found.to_string()),
    })
    .await;
    for body in [json!({"plan": "tiny"}), json!({"plan": "tiny", "at": LATER})] {
        let refused = change(&plane, "acme", body).await;
        let detail = problem(&refused, 409, "quota_exceeded")["detail"].as_str().unwrap().to_owned();
        let size = tenant(&plane, "acme").await["usage"]["size_bytes"].to_string();
        assert!(detail.contains("allows 1000") && detail.contains(&size), "{detail}");
    }
    assert_eq!(expect(&change(&plane, "acme", json!({"plan": "tiny", "over_quota": true})).await, 200)["plan"], "tiny");

    // Nobody touches a tenant that is not there any more, nor one of others.
    let bound = key(&plane, &["provision"], Some(&["acme"])).await;
    let headers = [("authorization", bound.as_str()), ("prefer", "wait=30")];
    let by = async |id: &str, body: Json| {
        plane.request(Method::POST, &format!("/v1/tenants/{id}/plan"), &headers, Some(body)).await
    };
    assert_eq!(expect(&by("acme", json!({"plan": "plus"})).await, 200)["plan"], "plus");
    problem(&by("globex", json!({"plan": "plus"})).await, 403, "denied");
    let preview = by("acme", json!({"plan": "own", "dry_run": true})).await;
    assert!(expect(&preview, 200)["movability"].is_null(), "the fleet is not his business");
    let reader = key(&plane, &["read"], None).await;
    let headers = [("authorization", reader.as_str())];
    let body = Some(json!({"plan": "plus"}));
    problem(&plane.request(Method::POST, "/v1/tenants/acme/plan", &headers, body).await, 403, "denied");
    drop(made);
    expect(&plane.delete("/v1/tenants/acme?confirm=acme").await, 200);
    problem(&change(&plane, "acme", json!({"plan": "plus"})).await, 409, "wrong_state");
}

#[tokio::test]
async fn story_a_change_that_is_kept_is_seen_replaced_taken_back_and_carried_out_after_a_restart() {
    let file = plans();
    let mut plane = dev_with(&file).start().await;
    let made = create(&plane, "acme").await;
    expect(&change(&plane, "acme", json!({"plan": "plus"})).await, 200);

    let kept = change(&plane, "acme", json!({"plan": "twin", "at": LATER})).await;
    assert_eq!(expect(&kept, 200)["plan_change"]["step"], "lateral");
    let kept = change(&plane, "acme", json!({"plan": "basic", "at": LATER})).await;
    let body = expect(&kept, 200);
    assert_eq!(
        (&body["plan"], &body["plan_change"]["plan"]),
        (&json!("plus"), &json!("basic")),
        "the later one stands"
    );
    assert_eq!((&body["plan_change"]["step"], &body["plan_change"]["at"]), (&json!("downgrade"), &json!(LATER)));
    assert_eq!(plane.get("/v1/tenants").await.2["items"][0]["plan_change"], body["plan_change"]);
    let shown = stdout(&exits(plane.cli(&["tenant", "show", "acme"]), 0));
    assert!(shown.contains("basic from") && shown.contains("downgrade"), "{shown}");
    let stands = stdout(&exits(plane.cli(&["tenant", "plan", "acme"]), 0));
    assert!(stands.contains("plus") && stands.contains("basic from"), "{stands}");
    assert!(stdout(&exits(plane.cli(&["tenant", "list"]), 0)).contains("plus (basic"));
    let back = stdout(&exits(plane.cli(&["tenant", "plan", "acme", "--cancel"]), 0));
    assert!(!back.contains("basic"), "{back}");
    exits(plane.cli(&["tenant", "plan", "acme", "--cancel"]), 4);
    exits(plane.cli(&["tenant", "plan", "acme", "plus"]), 5);
    exits(plane.cli(&["tenant", "plan", "acme", "--at", "30d"]), 2);
    time_passes(&plane).await;
    exits(plane.cli(&["tenant", "plan", "acme", "basic", "--dry-run"]), 0);
    exits(plane.cli(&["tenant", "plan", "acme", "odd", "--dry-run"]), 12);
    exits(plane.cli(&["tenant", "plan", "acme", "basic", "--at", "30d"]), 0);
    assert_eq!(tenant(&plane, "acme").await["plan"], "plus", "what was taken back does not come");

    // Killed, and started again when its time has come.
    plane.kill_everything().await;
    plane.start_again().await;
    assert_eq!(tenant(&plane, "acme").await["plan_change"]["plan"], "basic");
    time_passes(&plane).await;
    let done = until_plan(&plane, "acme", "basic").await;
    assert!(done["plan_change"].is_null(), "{done}");
    assert_eq!(limits(&plane, &made).await.0, 5);
    let begun = walk(&plane, "/v1/audit?action=tenant.plan.begin", 50).await;
    assert_eq!(begun[0]["actor"], "loop:plans", "{begun:?}");
    assert_eq!(audited(&plane, "tenant.plan.schedule").await, 3);
    assert_eq!(audited(&plane, "tenant.plan.cancel").await, 1);

    // One that has come about by itself is void.
    expect(&change(&plane, "acme", json!({"plan": "twin", "at": LATER})).await, 200);
    store(&plane).await.batch_execute("UPDATE plan_change SET plan = 'basic'").await.unwrap();
    time_passes(&plane).await;
    until("it is void", async || match audited(&plane, "tenant.plan.void").await {
        1 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    // A change that is made at once takes the place of one that is kept.
    expect(&change(&plane, "acme", json!({"plan": "twin", "at": LATER})).await, 200);
    assert!(expect(&change(&plane, "acme", json!({"plan": "plus"})).await, 200)["plan_change"].is_null());
}

#[tokio::test]
async fn story_a_change_that_is_due_says_why_it_waits_and_goes_on_by_itself() {
    let file = plans();
    let plane = dev_with(&file).env("FREEHOLD_FAULTS", "tenant.plan/Narrow/before=permanent*1").start().await;
    let made = create(&plane, "acme").await;
    let later = |plan: &str| json!({"plan": plan, "at": LATER});
    expect(&change(&plane, "acme", later("own")).await, 200);
    let waits = until_waits(&plane, "acme", "no_room").await;
    assert!(waits["waits"]["message"].as_str().unwrap().contains("dedicated"), "{waits}");
    let stands = stdout(&exits(plane.cli(&["tenant", "plan", "acme"]), 0));
    assert!(stands.contains("no_room"), "{stands}");
    store(&plane).await.batch_execute("UPDATE plan_change SET due_at = now() - interval '2 hours'").await.unwrap();
    let status = plane.get("/v1/status").await.2;
    let concern = status["concerns"].as_array().unwrap().iter().find(|concern| concern["code"] == "plan_changes_wait");
    assert_eq!(concern.unwrap()["next"], "freehold tenant plan acme", "{status}");
    expect(&change(&plane, "acme", later("odd")).await, 200);
    until_waits(&plane, "acme", "extension_missing").await;

    // Somebody else is at work, and stuck.
    expect(&change(&plane, "acme", later("plus")).await, 200);
    let sql = "INSERT INTO operation (id, kind, subject, state, step, step_name) VALUES (gen_random_uuid(), 'tenant.test', 'tenant:acme', 'stuck', '{}', 'Test')";
    store(&plane).await.batch_execute(sql).await.unwrap();
    until_waits(&plane, "acme", "busy").await;
    // What does not touch the plan does not hinder another time either.
    expect(&change(&plane, "acme", later("plus")).await, 200);
    store(&plane)
        .await
        .batch_execute("UPDATE operation SET state = 'failed', finished_at = now() WHERE kind = 'tenant.test'")
        .await
        .unwrap();
    // Whoever carries it out fails, and takes it back: it says so, and is tried again.
    time_passes(&plane).await;
    until("it was tried", async || match tenant(&plane, "acme").await["plan_change"].clone() {
        change if change["waits"]["code"] == "fault" && change["operation"].is_string() => Ok(()),
        change => Err(change.to_string()),
    })
    .await;
    assert_eq!((&tenant(&plane, "acme").await["plan"], limits(&plane, &made).await.0), (&json!("basic"), 5));
    time_passes(&plane).await;
    until_plan(&plane, "acme", "plus").await;
    assert_eq!(limits(&plane, &made).await.0, 9);
}

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
    time_passes(&plane).await;
    let down = until_plan(&plane, "acme", "plus").await;
    assert_eq!((&down["server"], &down["plan_change"]), (&json!("local-1"), &Json::Null), "{down}");
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

#[tokio::test]
async fn story_the_client_changes_plans_as_the_api_does() {
    let file = plans();
    let plane = dev_with(&file).start().await;
    create(&plane, "acme").await;
    let client = freehold_client::Client::new(plane.url(), plane.api_key()).unwrap();
    let id = "acme".parse().unwrap();
    let plus = ChangePlan::to("plus".parse().unwrap());
    let preview = client.plan_preview(&id, &plus).await.unwrap();
    assert!(preview.step == PlanStep::Upgrade && preview.against.is_empty() && !preview.moves, "{preview:?}");
    assert_eq!(client.change_plan(&id, &plus).await.unwrap().plan.as_str(), "plus");
    let later = ChangePlan { at: Some(LATER.parse().unwrap()), ..ChangePlan::to("basic".parse().unwrap()) };
    let kept = client.change_plan(&id, &later).await.unwrap().plan_change.unwrap();
    assert!(kept.step == PlanStep::Downgrade && kept.plan.as_str() == "basic" && kept.waits.is_none(), "{kept:?}");
    assert!(client.cancel_plan_change(&id).await.unwrap().plan_change.is_none());
    let refused = client.change_plan(&id, &plus).await.unwrap_err();
    assert!(refused.to_string().contains("has plan plus already"), "{refused}");
}
