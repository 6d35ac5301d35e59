//! What is looked at, as people read it: stats, top, drift, status with servers.

use serde_json::{Value, json};

use crate::fake::{Answer, Fake};

fn observed(connections: u32) -> Value {
    json!({
        "at": "2026-01-10T11:59:50Z", "connections": connections, "connections_max": 100, "databases": 31, "size_bytes": 3_221_225_472u64,
        "oldest_transaction_seconds": 4000.0, "xid_age": 1_100_000_000u64, "replication_lag_bytes": null,
        "data_free_bytes": 10_737_418_240u64, "data_total_bytes": 107_374_182_400u64
    })
}

fn stats() -> Value {
    let server = |name: &str, state: &str, health: &str, connections| {
        json!({ "server": name, "state": state, "health": health, "tenants": 12, "capacity": 50, "observed": observed(connections),
            "activity": { "at": "2026-01-10T11:59:30Z", "transactions": 1000, "transactions_per_second": 123.45, "cache_hit_ratio": 0.9999,
                "deadlocks": 0, "temp_bytes": 0 } })
    };
    json!({
        "fleet": { "servers": 3, "tenants": 36, "databases": 93, "size_bytes": 9_663_676_416u64, "connections": 140, "connections_max": 300,
            "transactions_per_second": 370.35, "cache_hit_ratio": 0.9999,
            "quota": { "storage_80": 2, "storage_100": 1, "connections_80": 0, "connections_100": 0 } },
        "servers": [server("a-well", "active", "healthy", 20), server("b-failed", "failed", "unhealthy", 0), server("c-full", "active", "healthy", 96)]
    })
}

fn tenants() -> Value {
    let tenant = |id: &str, size: u64, quota: Value| {
        json!({ "tenant": id, "server": "a-well", "plan": "standard", "transactions": 10, "transactions_per_second": 4.2, "cache_hit_ratio": 1.0,
            "deadlocks": 3, "temp_bytes": 0, "usage": { "size_bytes": size, "size_at": "2026-01-10T11:59:30Z", "storage_quota": quota,
                "connections": 7, "connection_limit": 20, "storage_level": 80, "connections_level": null } })
    };
    json!({ "items": [tenant("acme", 943_718_400, json!(1_073_741_824u64)), tenant("beta", 8_000_000, Value::Null)], "next_cursor": null })
}

async fn fleet() -> Fake {
    Fake::start(|asked, _| match asked.line.as_str() {
        line if line.contains("/v1/stats/tenants") => Answer::Json(200, tenants()),
        _ => Answer::Json(200, stats()),
    })
    .await
}

#[tokio::test]
async fn stats_and_top_are_told_worst_first() {
    let fake = fleet().await;
    let ran = fake.run(&["stats"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    insta::assert_snapshot!("stats", ran.stdout);
    let ran = fake.run(&["top", "--once", "--order", "connections", "--server", "a-well", "--limit", "2"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    insta::assert_snapshot!("top", ran.stdout);
    assert!(ran.stdout.lines().all(|line| line.chars().count() <= 100), "{}", ran.stdout);
    let asked = fake.seen().last().map(|asked| asked.line.clone());
    assert_eq!(asked.as_deref(), Some("GET /v1/stats/tenants?order=connections&server=a-well&limit=2"));
    // Where nobody watches, once is enough.
    assert_eq!(fake.run(&["top"]).await.code, 0);
    let ran = fake.run(&["top", "--json"]).await;
    let told: Value = serde_json::from_str(&ran.stdout).expect("one line of JSON");
    assert_eq!(told["stats"]["fleet"]["servers"], 3);
}

#[tokio::test]
async fn drift_sets_the_exit_code_by_its_worst_and_leaves_out_what_is_foreign() {
    let item = |kind: &str, name: &str| {
        json!({ "kind": kind, "server": "one", "object": "database", "name": name, "tenant": null, "codes": ["name"],
            "message": format!("database {name} is so"), "since": "2026-01-10T11:00:00Z" })
    };
    for (items, code, shown) in [
        (vec![item("lost", "fh_a"), item("ghost", "fh_b"), item("foreign", "other")], 12, 2),
        (vec![item("bent", "fh_a")], 11, 1),
        (vec![item("ghost", "fh_b"), item("foreign", "other")], 10, 1),
        (vec![item("foreign", "other")], 0, 1),
    ] {
        let fake =
            Fake::start(move |_, _| Answer::Json(200, json!({ "items": items.clone(), "next_cursor": null }))).await;
        let ran = fake.run(&["server", "drift", "one"]).await;
        assert_eq!((ran.code, ran.stdout.lines().count()), (code, shown), "{}{}", ran.stdout, ran.stderr);
        assert!(!ran.stdout.contains("other"));
        assert!(fake.run(&["server", "drift", "--all"]).await.stdout.lines().count() >= shown);
        assert!(fake.seen()[0].line.contains("/v1/drift?server=one"), "{}", fake.seen()[0].line);
    }
}

#[tokio::test]
async fn status_lists_servers_as_they_come() {
    let server = |name: &str, state: &str, health: &str, finding: Value| json!({ "server": name, "state": state, "health": health, "worst_finding": finding, "tenants": 3, "capacity": 50, "observed": observed(40) });
    let mut servers = vec![
        server("b-failed", "failed", "unhealthy", Value::Null),
        server("a-old", "active", "healthy", json!("medium")),
    ];
    servers.extend((0..20).map(|n| server(&format!("well-{n}"), "active", "healthy", Value::Null)));
    let status = json!({
        "concerns": [], "servers": servers, "stock": [], "frozen": [],
        "tenants": { "creating": 0, "active": 12, "failed": 0, "suspended": 0, "deleted": 0 },
        "operations": { "queued": 0, "running": 0, "waiting": 0, "undoing": 0, "stuck": 0 }
    });
    let fake = Fake::start(move |_, _| Answer::Json(200, status.clone())).await;
    let ran = fake.run(&["status"]).await;
    assert_eq!(ran.code, 0);
    insta::assert_snapshot!("status_servers", ran.stdout);
}
