//! Issue 2, item 3: deleting is named twice and can be taken back; purging leaves nothing.

use freehold_testkit::{Plane, as_tenant};
use serde_json::{Value as Json, json};

use crate::common::{admin, create, dev, dev_with, expect, log_in, problem, settings, store, until};

#[tokio::test]
async fn story_a_deleted_tenant_can_be_taken_back_until_it_is_purged() {
    let plane = dev().stock(3).start().await;
    let made = create(&plane, "acme").await;
    let session = log_in(&made["connection"]).await;
    session.batch_execute("CREATE TABLE kept AS SELECT 7 AS n").await.unwrap();

    problem(&plane.delete("/v1/tenants/nobody?confirm=nobody").await, 404, "not_found");
    for path in ["/v1/tenants/acme", "/v1/tenants/acme?confirm=other", "/v1/tenants/acme?purge=true"] {
        problem(&plane.delete(path).await, 422, "confirmation_required");
    }
    expect(&plane.patch("/v1/tenants/acme", json!({"deletion_protection": true})).await, 200);
    for path in ["/v1/tenants/acme?confirm=acme", "/v1/tenants/acme?confirm=acme&purge=true"] {
        problem(&plane.delete(path).await, 409, "deletion_protected");
    }
    expect(&plane.patch("/v1/tenants/acme", json!({"deletion_protection": false})).await, 200);
    session.simple_query("SELECT 1").await.expect("nothing happened so far");

    let answer = plane.delete("/v1/tenants/acme?confirm=acme").await;
    let deleted = expect(&answer, 200);
    assert_eq!(deleted["state"], "deleted");
    assert!(deleted["deleted_at"].is_string() && deleted["purge_at"].is_string(), "{deleted}");
    assert!(session.simple_query("SELECT 1").await.is_err());
    assert!(as_tenant(&made["connection"]).await.is_err());
    problem(&plane.post("/v1/tenants", json!({"id": "acme"})).await, 409, "tenant_deleted");
    problem(&plane.post("/v1/tenants/acme/suspend", json!({})).await, 409, "wrong_state");
    problem(&plane.post("/v1/tenants/acme/resume", json!({})).await, 409, "wrong_state");
    assert_eq!(expect(&plane.delete("/v1/tenants/acme?confirm=acme").await, 200)["state"], "deleted");

    let answer = plane.post("/v1/tenants/acme/undelete", json!({})).await;
    let back = expect(&answer, 200);
    assert_eq!(
        (&back["state"], &back["deleted_at"], &back["purge_at"]),
        (&json!("active"), &json!(null), &json!(null))
    );
    let session = log_in(&made["connection"]).await;
    assert_eq!(session.query_one("SELECT n FROM kept", &[]).await.unwrap().get::<_, i32>(0), 7);

    // One that was suspended comes back suspended, with its reason, and stays out.
    expect(&plane.post("/v1/tenants/acme/suspend", json!({"reason": "unpaid"})).await, 200);
    expect(&plane.delete("/v1/tenants/acme?confirm=acme").await, 200);
    let answer = plane.post("/v1/tenants/acme/undelete", json!({})).await;
    let back = expect(&answer, 200);
    assert_eq!((&back["state"], &back["state_reason"]), (&json!("suspended"), &json!("unpaid")));
    assert!(as_tenant(&made["connection"]).await.is_err());
    expect(&plane.post("/v1/tenants/acme/resume", json!({})).await, 200);
    log_in(&made["connection"]).await;

    let before = traces(&plane, &made).await;
    assert_eq!((before.databases, before.roles, before.stored), (1, 3, true), "{before:?}");
    let purged = plane.delete("/v1/tenants/acme?confirm=acme&purge=true").await;
    assert_eq!(expect(&purged, 200)["state"], "succeeded");
    let after = traces(&plane, &made).await;
    assert_eq!((after.databases, after.roles, after.stored), (0, 0, false), "{after:?}");
    problem(&plane.get("/v1/tenants/acme").await, 404, "not_found");
    problem(&plane.get("/v1/tenants/acme/connection").await, 404, "not_found");

    // The id is free, and whoever gets it next gets nothing of the first.
    let second = create(&plane, "acme").await;
    assert_ne!(second["connection"]["direct"]["database"], made["connection"]["direct"]["database"]);
    assert_ne!(second["connection"]["direct"]["password"], made["connection"]["direct"]["password"]);
    let session = log_in(&second["connection"]).await;
    assert!(session.simple_query("SELECT FROM kept").await.is_err());
    let audit = plane.get("/v1/audit?subject=tenant:acme&limit=500").await;
    let actions: Vec<&str> =
        audit.2["items"].as_array().unwrap().iter().map(|event| event["action"].as_str().unwrap()).collect();
    for action in
        ["tenant.create", "tenant.suspend", "tenant.resume", "tenant.delete", "tenant.undelete", "tenant.purge"]
    {
        assert!(actions.contains(&action), "{action} is not in {actions:?}");
    }
}

#[tokio::test]
async fn story_a_deleted_tenant_is_purged_by_itself_after_its_grace() {
    let settings = settings("[tenants]\ndeletion_grace_seconds = 1\n");
    let plane = dev_with(&settings).stock(1).start().await;
    let made = create(&plane, "acme").await;
    expect(&plane.delete("/v1/tenants/acme?confirm=acme").await, 200);
    until("the purge", async || match plane.get("/v1/tenants/acme").await {
        (404, _, _) => Ok(()),
        (_, _, body) => Err(body.to_string()),
    })
    .await;
    let after = traces(&plane, &made).await;
    assert_eq!((after.databases, after.roles, after.stored), (0, 0, false), "{after:?}");
    let audit = plane.get("/v1/audit?subject=tenant:acme&action=tenant.purge.begin").await;
    assert_eq!(audit.2["items"][0]["actor"], "loop:purge");
    create(&plane, "acme").await;
}

#[derive(Debug)]
struct Traces {
    databases: i64,
    roles: i64,
    stored: bool,
}

/// What the server and a dump of the store know of a tenant's database.
async fn traces(plane: &Plane, made: &Json) -> Traces {
    let endpoint = &made["connection"]["direct"];
    let (database, login) = (endpoint["database"].as_str().unwrap(), endpoint["user"].as_str().unwrap());
    let server = admin(plane, "postgres").await;
    let count = async |sql: &str, name: &str| server.query_one(sql, &[&name]).await.unwrap().get::<_, i64>(0);
    let databases = count("SELECT count(*) FROM pg_database WHERE datname = $1", database).await;
    // Owner, login and maintenance begin with the opaque name.
    let base = login.trim_end_matches("_l");
    let roles = count("SELECT count(*) FROM pg_roles WHERE starts_with(rolname, $1)", base).await;
    let control = store(plane).await;
    let mut stored = false;
    for table in ["tenant", "tenant_database", "login", "tenant_label", "edge_tenant", "idempotency"] {
        let rows = control.query(&format!("SELECT t::text FROM {table} t"), &[]).await.unwrap();
        stored |= rows.iter().any(|row| row.get::<_, String>(0).contains(base));
    }
    Traces { databases, roles, stored }
}
