//! Tenants that work together, or against one another, by the only thing they share: the names of roles.

use reqwest::Method;
use serde_json::json;

use crate::world::{Power, Tenant, World, ask};

/// Since 15 a login may not grant itself (it could up to 14). Whoever may, makes such a grant: a suspended tenant would
/// go on under its friend's login.
pub async fn a_login_granted_to_a_neighbour_is_revoked(world: &World, tenant: &Tenant, friend: &Tenant) {
    let session = tenant.session().await;
    let admin = world.superuser("postgres").await;
    if world.power == Power::Weak {
        // Since 16 only who granted may revoke.
        admin.batch_execute("set role weak_admin").await.unwrap();
    }
    for role in [friend.login(), friend.owner(), &friend.maintenance()] {
        let grant = format!("grant \"{}\" to \"{role}\"", tenant.login());
        for role in ["", "set role none; "] {
            assert!(session.batch_execute(&format!("{role}{grant}")).await.is_err(), "{role}{grant}");
        }
        admin.batch_execute(&grant).await.unwrap();
    }
    let guest = friend.connect_to(tenant.database()).await.expect("the friend gets in, so far");
    guest.batch_execute("create schema gift").await.expect("and may do what the tenant may");
    let strays = format!(
        "select count(*)::text from pg_auth_members where roleid = '\"{}\"'::regrole and member::regrole::text ~ '{}'",
        tenant.login(),
        friend.owner()
    );
    assert_eq!(ask(&admin, &strays).await, "3");
    world.until_mended("the grants are gone", || async { ask(&admin, &strays).await == "0" }).await;
    world.until_mended("the guest is gone", || async { guest.simple_query("select 1").await.is_err() }).await;
    assert!(friend.connect_to(tenant.database()).await.is_err());
    assert!(!world.repairs(friend).await.is_empty());
    assert_eq!(ask(&friend.session().await, "select current_user").await, friend.owner());
    assert_eq!(ask(&tenant.session().await, "select current_user").await, tenant.owner());
}

/// Names of roles can be read by everybody, and one grant to a role keeps it from being dropped.
pub async fn grants_to_a_neighbour_do_not_keep_it_from_being_purged(world: &World, tenant: &Tenant, spiteful: &Tenant) {
    let session = spiteful.session().await;
    let roles = session.query("select rolname::text from pg_roles where rolname like 'fh\\_%'", &[]).await.unwrap();
    assert!(roles.len() > 6);
    session
        .batch_execute("create schema s; create table s.t (id int); create sequence s.q; create table s.held (); alter table s.t enable row level security")
        .await
        .unwrap();
    for (n, row) in roles.iter().enumerate() {
        let role: String = row.get(0);
        if role.starts_with(spiteful.owner()) {
            continue;
        }
        session
            .batch_execute(&format!(
                "grant all on schema s to \"{role}\"; grant all on s.t to \"{role}\"; grant usage on s.q to \"{role}\"; \
                 alter default privileges in schema s grant select on tables to \"{role}\"; create policy p{n} on s.t to \"{role}\""
            ))
            .await
            .unwrap();
    }
    // And one grant that never commits.
    let holding = spiteful.session().await;
    holding
        .batch_execute(&format!(
            "set idle_in_transaction_session_timeout = 0; begin; grant select on s.held to \"{}\", \"{}\"",
            tenant.owner(),
            tenant.login()
        ))
        .await
        .unwrap();
    world.delete(tenant, true).await;
    let admin = world.superuser("postgres").await;
    let left = format!("select count(*)::text from pg_roles where rolname like '{}%'", tenant.owner());
    assert_eq!(ask(&admin, &left).await, "0");
    let again = spiteful.session().await;
    assert_eq!(ask(&again, "select count(*)::text from s.t").await, "0", "its own things are still there");
}

/// A key that created a tenant gets its credential again by the same request. It does not get that of another tenant
/// that has the id now, and what it gets is audited.
pub async fn a_repeated_create_answers_no_successors_credential(world: &World) {
    let (status, made) = world.post("/v1/keys", json!({"name": "signup", "scopes": ["provision"]})).await;
    assert_eq!(status, 201, "{made}");
    let key = made["key"].as_str().unwrap();
    let body = json!({"id": "again"});
    let create =
        || world.request_with(Method::POST, "/v1/tenants", key, &[("idempotency-key", "first")], Some(body.clone()));
    let (first, second) = (create().await, create().await);
    assert_eq!((first.0, &first.1["connection"]), (201, &second.1["connection"]), "{}", second.1["code"]);
    assert!(first.1["connection"]["direct"]["password"].is_string());
    let audit = world.get("/v1/audit?limit=500").await.to_string();
    assert!(audit.contains("credential.read") && audit.contains("tenant:again"), "the repeat is audited");

    let tenant = Tenant { id: "again".into(), direct: first.1["connection"]["direct"].clone() };
    world.delete(&tenant, true).await;
    let successor = world.create(body.clone()).await;
    let (_, third) = create().await;
    assert!(third["connection"].is_null() && !third.to_string().contains(successor.password()), "a foreign credential");
}
