//! Issue 5, item 1: what a move would take is told before anything moves, and looking changes nothing.

use freehold_testkit::{ADMIN, Cluster, Plane};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::common::{
    admin, create, dev, dev_with, exits, expect, key, log_in, problem, settings, stdout, store, text, until,
};

const PLANS: &str = "[[plan]]\nname = \"standard\"\ndefault = true\n[[plan]]\nname = \"solo\"\nserver = \"dedicated\"\n\
    [[plan]]\nname = \"team\"\n[[plan]]\nname = \"local-2\"\n";

const ZOO: &str = r#"
    create table "Ärger; --" (n int, body json);
    create table keyed (id bigint generated always as identity primary key);
    create unlogged table scratch (a int); create materialized view summed as select 1 as one;
    create table parts (k int primary key) partition by range (k);
    alter table keyed enable row level security; alter table keyed force row level security;
    select lo_from_bytea(0, 'large');
"#;

async fn judge(plane: &Plane, id: &str, body: Json) -> Json {
    expect(&plane.post(&format!("/v1/tenants/{id}/movability"), body).await, 200).clone()
}

fn finding<'a>(found: &'a Json, code: &str) -> &'a Json {
    let findings = found["findings"].as_array().unwrap();
    findings.iter().find(|finding| finding["code"] == code).unwrap_or_else(|| panic!("no {code}: {found:#}"))
}

fn codes(found: &Json) -> Vec<&str> {
    found["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn story_movability_is_told_before_anything_moves() {
    let file = settings(PLANS);
    let plane = dev_with(&file).stock(0).arg("--servers").arg("2").start().await;
    expect(&plane.post("/v1/servers/local-2/cordon", json!({})).await, 200);
    let made = create(&plane, "acme").await;
    create(&plane, "globex").await;
    expect(&plane.post("/v1/servers/local-2/uncordon", json!({})).await, 200);

    let empty = judge(&plane, "acme", json!({"to": {"server": "local-2"}})).await;
    assert_eq!((&empty["server"], &empty["to"]["server"]), (&json!("local-1"), &json!("local-2")));
    assert_eq!(empty["methods"], json!(["logical", "dump"]), "{empty:#}");
    assert!(!codes(&empty).iter().any(|code| code.starts_with("target_") && *code != "target_disk"), "{empty:#}");
    assert!(empty["traffic"]["rows_per_second"].is_number(), "{empty:#}");

    let tenant = log_in(&made["connection"]).await;
    tenant.batch_execute("set client_min_messages = warning").await.unwrap();
    tenant.batch_execute(ZOO).await.unwrap();
    let found = judge(&plane, "acme", json!({"to": {"server": "local-2"}})).await;
    assert_eq!(found["methods"], json!(["dump"]), "{found:#}");
    assert!((1..=40).contains(&found["score"].as_u64().unwrap()), "{found:#}");
    let blocking = finding(&found, "no_equality");
    assert_eq!((&blocking["severity"], &blocking["blocks"]), (&json!("blocks"), &json!(["logical"])));
    assert_eq!((&blocking["count"], &blocking["objects"]), (&json!(1), &json!(["public.\"Ärger; --\""])));
    assert_eq!(found["findings"][0], *blocking, "what blocks comes first");
    for (code, severity) in [
        ("no_replica_identity", "slows"),
        ("unlogged_table", "slows"),
        ("large_objects", "slows"),
        ("forced_row_security", "slows"),
        ("session_mode_clients", "slows"),
        ("sequences", "note"),
        ("identity_column", "note"),
        ("materialized_view", "note"),
        ("partitioned_table", "note"),
        ("row_security", "note"),
    ] {
        assert_eq!(finding(&found, code)["severity"], severity, "{found:#}");
    }
    // A transaction that writes, a neighbour's too, holds up every replication slot of the server.
    assert!(judge(&plane, "globex", json!({})).await["to"].is_null());
    tenant.batch_execute("begin; insert into scratch values (1)").await.unwrap();
    until("the transaction is old", async || {
        let found = judge(&plane, "globex", json!({})).await;
        codes(&found).contains(&"long_transaction").then_some(()).ok_or_else(|| found.to_string())
    })
    .await;
    tenant.batch_execute("rollback; drop table \"Ärger; --\"").await.unwrap();

    // People read the same.
    let shown = plane.cli(&["tenant", "movability", "acme", "--to", "server:local-2"]);
    let shown = stdout(&exits(shown, 10));
    let at = |what: &str| shown.find(what).unwrap_or_else(|| panic!("no {what:?}: {shown}"));
    assert!(at("slows:") < at("unlogged_table") && at("unlogged_table") < at("notes:"), "{shown}");
    assert!(at("methods  logical, dump") < at("score    ") && shown.contains("public.scratch"), "{shown}");
    let printed = stdout(&exits(plane.cli(&["tenant", "movability", "acme", "--json"]), 10));
    assert_eq!(serde_json::from_str::<Json>(&printed).unwrap()["server"], "local-1");

    // Nothing was changed by all of it.
    assert_eq!(text(&tenant, "select relreplident::text from pg_class where relname = 'scratch'").await, "d");
    let left = "select (select count(*) from pg_publication)::text || (select count(*) from pg_replication_slots)";
    assert_eq!(text(&tenant, left).await, "00");

    placement_and_errors(&plane).await;
}

async fn placement_and_errors(plane: &Plane) {
    let path = "/v1/tenants/acme/movability";
    let refuse = async |to: Json, status: u16, code: &str, says: &str| {
        let answer = plane.post(path, json!({"to": to})).await;
        let told = problem(&answer, status, code).to_string();
        assert!(told.contains(says), "{told}");
    };
    refuse(json!({"server": "nowhere"}), 422, "invalid", "there is no server nowhere").await;
    refuse(json!({"server": "local-1"}), 422, "invalid", "is on server local-1: name another one").await;
    refuse(json!({"name": "local-1"}), 422, "invalid", "name another one").await;
    refuse(json!({"name": "nowhere"}), 422, "invalid", "no server, server pool, plan or region").await;
    refuse(json!({"name": "local-2"}), 422, "invalid", "a server and a plan: say which").await;
    refuse(json!({"name": "\u{0}"}), 422, "invalid", "NUL").await;
    refuse(json!({"server_pool": "none"}), 422, "invalid", "there is no server pool none").await;
    refuse(json!({"plan": "none"}), 422, "unknown_plan", "there is no plan none").await;
    refuse(json!({"plan": "team"}), 422, "invalid", "it need not move").await;
    refuse(json!({"region": "moon"}), 422, "invalid", "no server and no server pool").await;
    refuse(json!({"server": "Not a Slug"}), 422, "invalid", "not valid").await;
    refuse(json!({}), 422, "invalid", "`to` names one thing").await;
    refuse(json!({"plan": "team", "region": "moon"}), 422, "invalid", "`to` names one thing").await;
    problem(&plane.post("/v1/tenants/nobody/movability", json!({})).await, 404, "not_found");

    // No server of the kind that the plan wants.
    let found = judge(plane, "acme", json!({"to": {"plan": "solo"}})).await;
    assert_eq!((&found["methods"], &found["score"], &found["to"]["plan"]), (&json!([]), &json!(0), &json!("solo")));
    assert!(finding(&found, "target_full")["message"].as_str().unwrap().contains("no server"), "{found:#}");
    assert!(found["to"]["server"].is_null());
    exits(plane.cli(&["tenant", "movability", "acme", "--to", "plan:solo"]), 12);
    expect(&plane.post("/v1/servers/local-2/cordon", json!({})).await, 200);
    let found = judge(plane, "acme", json!({"to": {"server": "local-2"}})).await;
    assert!(finding(&found, "target_unfit")["message"].as_str().unwrap().contains("cordoned"), "{found:#}");
    expect(&plane.post("/v1/servers/local-2/uncordon", json!({})).await, 200);

    // Where a tenant could go is not the tenant's business; what is in its database is.
    let bound = key(plane, &["read"], Some(&["acme"])).await;
    let as_bound = [("authorization", bound.as_str())];
    let ask = async |body: Json| plane.request(Method::POST, path, &as_bound, Some(body)).await;
    problem(&ask(json!({"to": {"server": "local-2"}})).await, 403, "denied");
    expect(&ask(json!({})).await, 200);

    // It works while everything is frozen, and of a suspended tenant; not of one that was deleted.
    expect(&plane.post("/v1/tenants/globex/suspend", json!({})).await, 200);
    expect(&plane.post("/v1/freezes", json!({"target": "all"})).await, 201);
    judge(plane, "globex", json!({})).await;
    expect(&plane.delete("/v1/freezes/all").await, 204);
    expect(&plane.delete("/v1/tenants/globex?confirm=globex").await, 200);
    let answer = plane.post("/v1/tenants/globex/movability", json!({})).await;
    assert!(problem(&answer, 409, "wrong_state")["detail"].as_str().unwrap().contains("is deleted"));
}

#[tokio::test]
async fn story_movability_between_versions_and_of_servers_that_are_away() {
    let file = settings(PLANS);
    let plane = dev_with(&file).stock(0).start().await;
    let mut cluster = Cluster::start(18);
    create(&plane, "here").await;
    expect(&plane.post("/v1/servers", json!({"id": "eighteen", "dsn": cluster.dsn(ADMIN)})).await, 201);
    expect(&plane.post("/v1/servers/local-1/cordon", json!({})).await, 200);
    let made = create(&plane, "there").await;
    expect(&plane.post("/v1/servers/local-1/uncordon", json!({})).await, 200);
    let tenant = log_in(&made["connection"]).await;
    let newer = "create table t (id int primary key, v int generated always as (id + 1) virtual)";
    tenant.batch_execute(newer).await.unwrap();

    let here = store(&plane).await.query_one("select version_num from server where id = 'local-1'", &[]).await.unwrap();
    let from: i32 = here.get::<_, i32>(0) / 10_000;
    let up = judge(&plane, "here", json!({"to": {"name": "eighteen"}})).await;
    let down = judge(&plane, "there", json!({"to": {"name": "local-1"}})).await;
    if from < 18 {
        assert_eq!(finding(&up, "newer_target")["message"], format!("PostgreSQL {from} becomes 18"));
        assert_eq!(finding(&down, "older_target")["severity"], "slows");
        assert_eq!(finding(&down, "newer_feature")["objects"], json!(["virtual column of public.t"]));
        assert_eq!(down["methods"], json!([]));
    }
    // A server that nobody set up for moves is told as it is.
    assert_eq!(finding(&down, "source_wal_level")["blocks"], json!(["logical"]));
    assert_eq!(finding(&up, "target_wal_level")["severity"], "slows");

    drop(tenant);
    cluster.stop();
    let found = judge(&plane, "here", json!({"to": {"server": "eighteen"}})).await;
    assert_eq!(found["methods"], json!([]));
    assert!(
        finding(&found, "target_unreachable")["message"].as_str().unwrap().contains("does not answer"),
        "{found:#}"
    );
    let answer = plane.post("/v1/tenants/there/movability", json!({})).await;
    problem(&answer, 503, "server_unreachable");
    exits(plane.cli(&["tenant", "movability", "there"]), 7);
}

/// Every tenant but a new one is judged by itself, and what was found is kept.
#[tokio::test]
async fn story_movability_is_judged_every_day_and_kept() {
    let plane = dev().stock(0).start().await;
    let (acme, globex) = (create(&plane, "acme").await, create(&plane, "globex").await);
    create(&plane, "initech").await;
    let database = acme["connection"]["direct"]["database"].as_str().unwrap();
    let subscribe = "create subscription away connection 'dbname=nowhere' publication p with (connect = false)";
    admin(&plane, database).await.batch_execute(subscribe).await.unwrap();
    log_in(&globex["connection"]).await.batch_execute("create table t (body json)").await.unwrap();
    // Suspended it can be moved as well, and it is to be known how.
    expect(&plane.post("/v1/tenants/globex/suspend", json!({})).await, 200);
    let store = store(&plane).await;
    let aged =
        "update tenant_database set claimed_at = now() - interval '2 hours' where tenant_id in ('acme', 'globex')";
    store.batch_execute(&format!("{aged}; select pg_notify('freehold_loop', 'movability')")).await.unwrap();
    let show = async |id: &str| expect(&plane.get(&format!("/v1/tenants/{id}")).await, 200)["movability"].clone();
    let judged = async |id: &str| {
        until("it is judged", async || match show(id).await {
            Json::Null => Err(format!("{id} is not judged")),
            found => Ok(found),
        })
        .await
    };
    let found = judged("acme").await;
    assert_eq!(
        (&found["method"], &found["score"], &found["codes"]),
        (&Json::Null, &json!(0), &json!(["subscription"]))
    );
    let found = judged("globex").await;
    assert_eq!((&found["method"], &found["codes"]), (&json!("dump"), &json!(["no_replica_identity", "no_equality"])));
    assert_eq!(show("initech").await, Json::Null, "it is new");

    let shown = stdout(&exits(plane.cli(&["tenant", "show", "acme"]), 0));
    assert!(shown.contains("not at all, score 0 (subscription)"), "{shown}");
    let listed = stdout(&exits(plane.cli(&["tenant", "list", "--movable", "none"]), 0));
    assert!(listed.contains("acme") && !listed.contains("globex") && !listed.contains("initech"), "{listed}");
    let status = plane.get("/v1/status").await;
    let concerns = expect(&status, 200)["concerns"].as_array().unwrap();
    let told = concerns.iter().find(|concern| concern["code"] == "tenants_immovable").unwrap();
    assert_eq!(told["message"], "1 tenants cannot be moved to another server, and 1 only with writes stopped");
    let metrics = plane.get("/metrics").await.2;
    let metrics = metrics.as_str().unwrap();
    for (method, count) in [("logical", 0), ("dump", 1), ("none", 1)] {
        assert!(metrics.contains(&format!("freehold_tenants_movable{{method=\"{method}\"}} {count}")), "{metrics}");
    }
    assert_eq!(expect(&plane.get("/v1/tenants?movable=dump").await, 200)["items"][0]["id"], "globex");
    // What became of it since is seen at its next turn; where its database went away, what was known stays.
    admin(&plane, database)
        .await
        .batch_execute("alter subscription away set (slot_name = none); drop subscription away")
        .await
        .unwrap();
    store
        .batch_execute("update movability set due_at = now(); select pg_notify('freehold_loop', 'movability')")
        .await
        .unwrap();
    until("it is judged anew", async || match show("acme").await {
        found if found["method"] == "logical" => Ok(()),
        found => Err(found.to_string()),
    })
    .await;
}
