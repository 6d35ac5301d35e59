//! Passwords that come after a tenant's first, or another way: of rotations, of an adopted database, of an edge.

use freehold_testkit::as_tenant;
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::world::{Power, Tenant, World};

type Secret = (String, String);

/// The password in an answer, which lets in.
async fn issued(what: &str, answer: &Json) -> Secret {
    let direct = &answer["connection"]["direct"];
    let session = as_tenant(direct).await.unwrap_or_else(|error| panic!("{what} does not let in: {error:?}"));
    drop(session);
    (what.into(), direct["password"].as_str().unwrap().to_owned())
}

async fn rotated(world: &World, tenant: &str, how: &str, body: Json) -> Secret {
    let (status, answer) = world.post(&format!("/v1/tenants/{tenant}/credentials/rotate"), body).await;
    assert_eq!(status, 200, "{how}: {answer}\n{}", world.output());
    issued(&format!("a password by rotation ({how})"), &answer).await
}

/// Beside the old one, twice; at once, while an earlier one is in its grace; in its place.
pub async fn by_rotations(world: &World, tenant: &Tenant) -> Vec<Secret> {
    let id = tenant.id.as_str();
    let mut secrets = vec![rotated(world, id, "beside", json!({"grace_seconds": 3600})).await];
    let (status, body) = world.post(&format!("/v1/tenants/{id}/credentials/retire"), json!({})).await;
    assert_eq!(status, 200, "{body}");
    secrets.push(rotated(world, id, "beside again", json!({"grace_seconds": 3600})).await);
    secrets.push(rotated(world, id, "immediate", json!({"immediate": true})).await);

    let manifest = "description = \"fixed\"\n[naming]\nkind = \"pattern\"\nrotate = \"replace\"\ndatabase = \"fixed_{tenant}\"\nlogin = \"fixed_{tenant}_app\"\n";
    let fixed = json!({"name": "fixed", "files": {"template.toml": manifest}});
    let (status, body) = world.post("/v1/templates", fixed).await;
    assert_eq!(status, 201, "{body}");
    let first = world.create(json!({"id": "fixed", "template": "fixed"})).await;
    let second = rotated(world, "fixed", "in place", json!({})).await;
    assert!(first.connect().await.is_err() && first.password() != second.1, "in its place");
    secrets.extend([("the password before one in place".into(), first.password().to_owned()), second]);
    secrets
}

pub async fn by_adoption(world: &World) -> Secret {
    let superuser = world.superuser("postgres").await;
    let mut sql = vec!["create role legacy_app", "create database legacy owner legacy_app"];
    if world.power == Power::Weak {
        sql.push("grant legacy_app to weak_admin with admin option");
    }
    for sql in sql {
        superuser.batch_execute(sql).await.unwrap();
    }
    let body = json!({"server": world.server, "database": "legacy"});
    let (status, answer) = world.post("/v1/tenants/legacy/adopt", body).await;
    assert_eq!(status, 201, "{answer}\n{}", world.output());
    issued("the password of an adopted database", &answer).await
}

/// Whose answer has none: it is asked for afterwards.
pub async fn by_the_edge(world: &World, key: &str) -> (Secret, (u16, Json)) {
    let path = "/db/api/provisioning/tenants";
    let body = json!({"tenantId": "edge.one", "displayName": "By the edge"});
    let answer = world.request_with(Method::POST, path, "", &[("x-provision-key", key)], Some(body)).await;
    assert_eq!((answer.0, &answer.1["created"]), (200, &json!(true)), "{}\n{}", answer.1, world.output());
    let connection = world.get("/v1/tenants/edge-one/connection").await;
    (issued("the password of the edge's", &json!({"connection": connection})).await, answer)
}
