//! Issue 3, item 5: servers are updated, maintained, relabelled, removed and purged; on the `process` platform, and as they
//! were registered.

use std::net::TcpListener;

use freehold_testkit::{ADMIN, Cluster, Plane};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::common::{create_as, dev_with, exits, expect, log_in, problem, stdout, text, until, until_stock, walk};
use crate::server_pool::{Place, pool};

async fn server(plane: &Plane, id: &str) -> Json {
    plane.get(&format!("/v1/servers/{id}")).await.2
}

async fn until_active(plane: &Plane, id: &str) -> Json {
    until("the server is active", async || {
        let server = server(plane, id).await;
        if server["state"] == "active" { Ok(server) } else { Err(server.to_string()) }
    })
    .await
}

async fn remove(plane: &Plane, id: &str, more: &str) -> freehold_testkit::Answer {
    let path = format!("/v1/servers/{id}?confirm={id}{more}");
    plane.request(Method::DELETE, &path, &[("prefer", "wait=60")], None).await
}

#[tokio::test]
async fn story_a_managed_server_is_updated_maintained_removed_and_purged() {
    let place = Place::new();
    let file = place.settings(&pool("eu", "capacity = 4\nminimum_spare = 0\nmaximum_servers = 2\nregion = \"eu\""));
    // Somebody has its first port: it gets the next.
    let taken = TcpListener::bind(("127.0.0.1", place.ports.first)).expect("bind the first port");
    let plane = dev_with(&file).start().await;
    let made = until_active(&plane, "eu-1").await;
    assert_eq!(made["port"], place.ports.first + 1, "{made}");
    drop(taken);
    let acme = create_as(&plane, json!({"id": "acme", "region": "eu"})).await;
    let client = log_in(&acme["connection"]).await;
    client.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)").await.unwrap();

    // Other limits: restarted on its data, under a new certificate of the same authority.
    let update = json!({"limits": {"memory_bytes": 400 << 20}, "capacity": 6});
    let headers = [("prefer", "wait=60")];
    let updated = plane.request(Method::POST, "/v1/servers/eu-1/update", &headers, Some(update)).await;
    let updated = expect(&updated, 200);
    assert_eq!((&updated["state"], &updated["capacity"]), (&json!("active"), &json!(6)), "{updated}");
    assert_eq!(updated["limits"]["memory_bytes"], 400 << 20);
    assert!(client.simple_query("SELECT 1").await.is_err(), "its sessions ended with the restart");
    let client = log_in(&acme["connection"]).await;
    assert_eq!(text(&client, "SELECT n::text FROM kept").await, "7");
    assert_eq!(text(&client, "SHOW shared_buffers").await, "100MB");

    // What does not come up goes back to what it was.
    let wrong = json!({"limits": {"memory_bytes": 1u64 << 50}});
    let wrong = plane.request(Method::POST, "/v1/servers/eu-1/update", &headers, Some(wrong)).await;
    let why = problem(&wrong, 422, "prerequisite")["detail"].as_str().unwrap().to_owned();
    assert!(why.contains("server_failing"), "{why}");
    let back = until_active(&plane, "eu-1").await;
    assert_eq!(back["limits"]["memory_bytes"], 400 << 20, "{back}");
    let client = log_in(&acme["connection"]).await;
    assert_eq!(text(&client, "SHOW shared_buffers").await, "100MB");

    // Maintenance keeps new tenants out, and lets those be that are there.
    let on = plane.post("/v1/servers/eu-1/maintenance", json!({"on": true})).await;
    assert_eq!(expect(&on, 200)["state"], "maintenance");
    let explained = plane.post("/v1/placements/explain", json!({"region": "eu"})).await;
    let verdict =
        expect(&explained, 200)["servers"].as_array().unwrap().iter().find(|s| s["server"] == "eu-1").cloned();
    assert_eq!(verdict.unwrap()["obstacles"][0], "it is maintenance");
    assert_eq!(explained.2["choice"], json!({"kind": "pool", "pool": "eu"}), "{}", explained.2);
    log_in(&acme["connection"]).await;
    let off = plane.post("/v1/servers/eu-1/maintenance", json!({"on": false})).await;
    assert_eq!(expect(&off, 200)["state"], "active");

    // Labels and priority at once; a capacity that it is not tuned for is refused.
    let patch = json!({"labels": {"rack": "r1"}, "priority": 7, "capacity": 3});
    let patched = plane.patch("/v1/servers/eu-1", patch).await;
    let patched = expect(&patched, 200);
    assert_eq!(
        (&patched["labels"]["rack"], &patched["priority"], &patched["capacity"]),
        (&json!("r1"), &json!(7), &json!(3))
    );
    // Which an update that does not name it leaves as it is.
    let update = json!({"limits": {"memory_bytes": 300 << 20}});
    let updated = plane.request(Method::POST, "/v1/servers/eu-1/update", &headers, Some(update)).await;
    assert_eq!(expect(&updated, 200)["capacity"], 3);
    let more = plane.patch("/v1/servers/eu-1", json!({"capacity": 50})).await;
    let why = problem(&more, 422, "invalid")["errors"][0]["message"].as_str().unwrap().to_owned();
    assert!(why.contains("freehold server update eu-1 --capacity 50"), "{why}");

    // Not while somebody lives there; then the service goes, and the data stays until it is purged.
    problem(&plane.delete("/v1/servers/eu-1").await, 422, "confirmation_required");
    let refused = remove(&plane, "eu-1", "").await;
    let why = problem(&refused, 409, "wrong_state")["detail"].as_str().unwrap().to_owned();
    assert!(why.starts_with("1 tenants live on server eu-1"), "{why}");
    expect(&plane.delete("/v1/tenants/acme?confirm=acme&purge=true").await, 200);
    let removed = remove(&plane, "eu-1", "").await;
    assert_eq!(expect(&removed, 200)["state"], "removed");
    let ids = walk(&plane, "/v1/servers", 50).await;
    assert!(ids.iter().all(|server| server["id"] != "eu-1"), "{ids:?}");
    let data = place.data("eu-1");
    assert!(data.join("PG_VERSION").is_file(), "its data is kept");
    // The pool has its next one by itself, under another name.
    until_active(&plane, "eu-2").await;
    exits(plane.cli(&["server", "purge", "eu-2", "--confirm", "eu-2"]), 2);
    let purged = exits(plane.cli(&["server", "purge", "eu-1", "--confirm", "eu-1"]), 0);
    assert!(stdout(&purged).contains("removed"), "{}", stdout(&purged));
    assert!(!data.exists(), "its data is gone");
    let audit = walk(&plane, "/v1/audit?subject=server:eu-1", 100).await;
    let actions: Vec<&str> = audit.iter().filter_map(|event| event["action"].as_str()).collect();
    for action in ["server.provision", "server.update", "server.maintenance", "server.remove", "server.purge"] {
        assert!(actions.contains(&action), "{action}: {actions:?}");
    }
}

#[tokio::test]
async fn story_a_registered_server_is_forgotten_with_what_was_made_there() {
    let place = Place::new();
    let plane = dev_with(&place.settings("")).stock(2).start().await;
    let cluster = Cluster::start(15);
    let admin = cluster.connect("postgres").await;
    let before = "SELECT string_agg(name, ' ' ORDER BY name) FROM (SELECT datname::text AS name FROM pg_database
        UNION ALL SELECT rolname::text FROM pg_roles WHERE rolname NOT LIKE 'pg\\_%') n";
    let was = text(&admin, before).await;
    let add = json!({"id": "other", "dsn": cluster.dsn(ADMIN), "capacity": 5, "region": "there"});
    expect(&plane.post("/v1/servers", add.clone()).await, 201);
    until_stock(&plane, "default", 2).await;
    until("it has stock", async || match server(&plane, "other").await["stock"].as_u64() {
        Some(2) => Ok(()),
        stock => Err(format!("{stock:?}")),
    })
    .await;
    assert_ne!(text(&admin, before).await, was);
    let no = plane.request(Method::DELETE, "/v1/servers/other?confirm=other&purge=true", &[], None).await;
    problem(&no, 422, "invalid");
    let removed = remove(&plane, "other", "").await;
    assert_eq!(expect(&removed, 200)["state"], "removed");
    assert_eq!(text(&admin, before).await, was, "nothing of Freehold's is left there");
    // It may come again, as new.
    let again = plane.post("/v1/servers", add).await;
    assert_eq!(expect(&again, 201)["state"], "active");
    create_as(&plane, json!({"id": "acme", "region": "there"})).await;
    // One that is gone for good is forgotten all the same, once nobody lives there.
    expect(&plane.delete("/v1/tenants/acme?confirm=acme&purge=true").await, 200);
    drop(admin);
    drop(cluster);
    until("it is seen to be gone", async || {
        let _ = plane.post("/v1/servers/other/check", json!({})).await;
        let health = server(&plane, "other").await["health"].clone();
        if health == "unhealthy" { Ok(()) } else { Err(health.to_string()) }
    })
    .await;
    let removed = remove(&plane, "other", "").await;
    assert_eq!(expect(&removed, 200)["state"], "removed", "{}", removed.2);
}
