//! Issue 2, item 3: plans from the settings arrive as limits on the roles.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio_postgres::Client;

use crate::common::{
    admin, create_as, dev_with, expect, log_in, problem, settings, shipped, text, until, until_stock, walk,
};

async fn role(server: &Client, made: &Json) -> (i32, String) {
    let sql = "SELECT rolconnlimit, coalesce(array_to_string(setconfig, ' '), '') FROM pg_roles r
        LEFT JOIN pg_db_role_setting s ON s.setrole = r.oid WHERE rolname = $1";
    let row = server.query_one(sql, &[&made["connection"]["direct"]["user"].as_str().unwrap()]).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn story_each_plan_brings_its_limits() {
    let mut text_of = std::fs::read_to_string(shipped("deploy/plans/railzway.toml")).unwrap();
    text_of.push_str(
        "\n[[plan]]\nname = \"tight\"\nrank = 1\nserver = \"shared\"\nconnection_limit = 2\nstatement_timeout_ms = 1234\n\
         work_mem_kb = 2048\ntemp_file_limit_kb = 4096\nidle_in_transaction_timeout_ms = 400\nextensions = [\"citext\"]\n[stock]\nper_template = 2\n",
    );
    let settings = settings(&text_of);
    let plane = dev_with(&settings).start().await;
    let plans = walk(&plane, "/v1/plans", 2).await;
    let names: Vec<&str> = plans.iter().map(|plan| plan["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["tight", "free-trial", "starter", "pro", "team", "enterprise"], "by rank");
    assert_eq!(plans[3]["metadata"]["cpu_mhz"], "1000");
    assert_eq!(expect(&plane.get("/v1/plans/team").await, 200)["connection_limit"], 80);
    problem(&plane.get("/v1/plans/none").await, 404, "not_found");

    until_stock(&plane, "default", 2).await;
    let server = admin(&plane, "postgres").await;
    let free = create_as(&plane, json!({"id": "free"})).await;
    assert_eq!(free["plan"], "free-trial");
    let (limit, config) = role(&server, &free).await;
    assert_eq!(limit, 10);
    assert!(config.contains("statement_timeout=30000"), "{config}");
    // Taken from the stock of another plan, it still gets its own.
    let pro = create_as(&plane, json!({"id": "pro", "plan": "pro"})).await;
    let (limit, config) = role(&server, &pro).await;
    assert_eq!(limit, 40);
    assert!(!config.contains("statement_timeout=30000"), "{config}");
    let tight = create_as(&plane, json!({"id": "tight", "plan": "tight"})).await;
    let (limit, _) = role(&server, &tight).await;
    assert_eq!(limit, 2);
    let session = log_in(&tight["connection"]).await;
    for (name, value) in [("statement_timeout", "1234ms"), ("work_mem", "2MB"), ("temp_file_limit", "4MB")] {
        assert_eq!(text(&session, &format!("SELECT current_setting('{name}')")).await, value, "{name}");
    }
    assert_eq!(text(&session, "SELECT extname::text FROM pg_extension WHERE extname = 'citext'").await, "citext");
    let second = log_in(&tight["connection"]).await;
    let third = freehold_testkit::as_tenant(&tight["connection"]).await.expect_err("a third session of two");
    assert!(format!("{third:?}").contains("53300") || format!("{third:?}").contains("too many"), "{third:?}");
    drop(second);
    // Who holds a transaction open and does nothing is put out; who does nothing without one is not.
    tokio::time::sleep(Duration::from_millis(800)).await;
    session.batch_execute("BEGIN; SELECT 1").await.expect("idle, and in no transaction");
    until("the session is ended", async || if session.is_closed() { Ok(()) } else { Err("it is open".into()) }).await;
    let ended = session.batch_execute("COMMIT").await.expect_err("idle in a transaction");
    assert!(ended.is_closed(), "{ended:?}");
    let again = log_in(&tight["connection"]).await;
    assert_eq!(text(&again, "SELECT current_setting('idle_in_transaction_session_timeout')").await, "400ms");
    drop(again);
    for tenant in ["free", "pro", "tight"] {
        assert_eq!(
            plane.get(&format!("/v1/tenants?plan={}", if tenant == "free" { "free-trial" } else { tenant })).await.2["items"]
                [0]["id"],
            tenant
        );
    }
}

#[tokio::test]
async fn story_a_plan_for_dedicated_servers_waits_for_one() {
    let mut text = std::fs::read_to_string(shipped("deploy/plans/saasodoo.toml")).unwrap();
    text.push_str("\n[stock]\nper_template = 0\n");
    let settings = settings(&text);
    let plane = dev_with(&settings).start().await;
    let answer = plane.post("/v1/tenants", json!({"id": "big", "plan": "premium"})).await;
    let detail = problem(&answer, 503, "no_room")["detail"].as_str().unwrap();
    assert!(detail.contains("dedicated"), "{detail}");
    assert!(answer.1.contains_key("retry-after"));
    problem(&plane.get("/v1/tenants/big").await, 404, "not_found");

    let cluster = freehold_testkit::Cluster::start(15);
    let dsn = cluster.dsn(freehold_testkit::ADMIN);
    let body = json!({"id": "own", "dsn": dsn, "kind": "dedicated", "capacity": 1});
    let headers = [("prefer", "wait=30")];
    let added = plane.request(reqwest::Method::POST, "/v1/servers", &headers, Some(body)).await;
    assert!(matches!(added.0, 200 | 201), "{}", added.2);
    let made = create_as(&plane, json!({"id": "big", "plan": "premium"})).await;
    assert_eq!((&made["server"], &made["connection"]["direct"]["port"]), (&json!("own"), &json!(cluster.port())));
    log_in(&made["connection"]).await;
    // One tenant, and it is full.
    problem(&plane.post("/v1/tenants", json!({"id": "next", "plan": "enterprise"})).await, 503, "no_room");
    create_as(&plane, json!({"id": "small"})).await;
}
