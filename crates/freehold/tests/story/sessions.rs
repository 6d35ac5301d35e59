//! Issue 3, item 6: `tenant sessions` and `tenant terminate-sessions`.

use std::time::Duration;

use freehold_testkit::Plane;
use serde_json::{Value as Json, json};
use tokio_postgres::Client;

use crate::common::{create, dev, exits, expect, key, log_in, problem, stdout, until, until_stock};

async fn pid(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

async fn sessions(plane: &Plane, query: &str) -> Vec<Json> {
    expect(&plane.get(&format!("/v1/tenants/acme/sessions{query}")).await, 200)["items"].as_array().unwrap().clone()
}

#[track_caller]
fn one(sessions: &[Json], pid: i32) -> &Json {
    sessions.iter().find(|session| session["pid"] == pid).unwrap_or_else(|| panic!("no {pid} in {sessions:?}"))
}

#[tokio::test]
async fn story_sessions_are_shown_without_what_they_say_and_ended_by_name() {
    let plane = dev().stock(1).start().await;
    until_stock(&plane, "default", 1).await;
    let made = create(&plane, "acme").await;
    let (holder, waiter) = (log_in(&made["connection"]).await, log_in(&made["connection"]).await);
    holder.batch_execute("CREATE TABLE t (n int)").await.unwrap();
    holder.batch_execute("SET application_name = 'worker\u{7}'; BEGIN; LOCK TABLE t").await.unwrap();
    let (holder_pid, waiter_pid) = (pid(&holder).await, pid(&waiter).await);
    let waiting = tokio::spawn(async move { waiter.batch_execute("SELECT 'a secret' FROM t").await });
    until("the waiter waits", async || {
        let seen = sessions(&plane, "").await;
        match one(&seen, waiter_pid)["waits_for"] == "Lock: relation" {
            true => Ok(()),
            false => Err(format!("{seen:?}")),
        }
    })
    .await;

    let seen = sessions(&plane, "").await;
    assert_eq!(one(&seen, waiter_pid)["blocked_by"], json!([holder_pid]));
    let holding = one(&seen, holder_pid);
    assert_eq!((&holding["state"], &holding["of_tenant"]), (&json!("idle in transaction"), &json!(true)));
    assert_eq!(holding["user"], made["connection"]["direct"]["user"]);
    assert!(holding["transaction_since"].is_string() && one(&seen, waiter_pid)["client"] == "127.0.0.1");
    assert!(!format!("{seen:?}").contains("secret"), "what sessions run is the tenant's");

    // Queries: with the scope alone, and on record.
    let reader = key(&plane, &["read"], None).await;
    let as_reader = [("authorization", reader.as_str())];
    let get = async |path: &str| plane.request(reqwest::Method::GET, path, &as_reader, None).await;
    expect(&get("/v1/tenants/acme/sessions").await, 200);
    problem(&get("/v1/tenants/acme/sessions?query=true").await, 403, "denied");
    assert_eq!(one(&sessions(&plane, "?query=true").await, waiter_pid)["query"], "SELECT 'a secret' FROM t");
    let audit = plane.get("/v1/audit?action=tenant.sessions.queries").await;
    assert_eq!(expect(&audit, 200)["items"].as_array().unwrap().len(), 1);

    let shown = stdout(&exits(plane.cli(&["tenant", "sessions", "acme"]), 0));
    assert!(shown.contains(&format!("Lock: relation, held by {holder_pid}")), "{shown}");
    assert!(!shown.contains("secret") && !shown.contains('\u{7}'), "{shown}");
    let shown = stdout(&exits(plane.cli(&["tenant", "sessions", "acme", "--query"]), 0));
    assert!(shown.contains("a secret"), "{shown}");

    // One by its pid: the other goes on.
    let ended = plane.cli(&["tenant", "terminate-sessions", "acme", "--pid", &holder_pid.to_string()]);
    assert_eq!(stdout(&exits(ended, 0)), format!("ended session {holder_pid}\n"));
    waiting.await.unwrap().unwrap();
    assert!(holder.batch_execute("SELECT 1").await.is_err());

    let begun = plane.get("/v1/audit?action=tenant.terminate_sessions.begin&subject=tenant:acme").await;
    let event = &expect(&begun, 200)["items"][0];
    assert_eq!(event["details"], json!({"pid": holder_pid, "idle_for_seconds": null}));
    let done = plane.get("/v1/audit?action=tenant.terminate_sessions&subject=tenant:acme").await;
    assert_eq!(expect(&done, 200)["items"][0]["details"]["terminated"], 1);
}

#[tokio::test]
async fn story_sessions_are_ended_by_idleness_and_altogether_also_while_all_is_frozen() {
    let plane = dev().stock(1).start().await;
    until_stock(&plane, "default", 1).await;
    let made = create(&plane, "acme").await;
    let terminate = async |body: Json| {
        let answer = plane.post("/v1/tenants/acme/sessions/terminate", body).await;
        let pids = |name: &str| expect(&answer, 200)[name].as_array().unwrap().iter().map(Json::to_string).collect();
        let (ended, left): (Vec<String>, Vec<String>) = (pids("terminated"), pids("left"));
        assert!(left.is_empty());
        ended.len()
    };
    expect(&plane.post("/v1/freezes", json!({"target": "all"})).await, 201);
    let (idle, busy) = (log_in(&made["connection"]).await, log_in(&made["connection"]).await);
    let busy = tokio::spawn(async move { busy.batch_execute("SELECT pg_sleep(60)").await });
    assert_eq!(terminate(json!({"idle_for_seconds": 3600})).await, 0);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(terminate(json!({"idle_for_seconds": 1})).await, 1);
    assert!(idle.batch_execute("SELECT 1").await.is_err());
    assert!(!busy.is_finished());
    assert_eq!(terminate(json!({})).await, 1);
    assert!(busy.await.unwrap().is_err());
    assert_eq!(sessions(&plane, "").await.len(), 0);
    log_in(&made["connection"]).await.batch_execute("SELECT 1").await.unwrap();

    for body in [json!({"pid": 0}), json!({"idle_for_seconds": 0}), json!({"all": true})] {
        problem(&plane.post("/v1/tenants/acme/sessions/terminate", body).await, 422, "invalid");
    }
    problem(&plane.get("/v1/tenants/nobody/sessions").await, 404, "not_found");
    problem(&plane.get("/v1/tenants/acme/sessions?queries=true").await, 422, "invalid");
    let reader = key(&plane, &["read"], None).await;
    let denied = plane
        .request(
            reqwest::Method::POST,
            "/v1/tenants/acme/sessions/terminate",
            &[("authorization", &reader)],
            Some(json!({})),
        )
        .await;
    problem(&denied, 403, "denied");
}
