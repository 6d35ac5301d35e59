//! A credential that is rotated: both logins are kept true, and what the old one made, was granted or bent holds nobody up.

use freehold_testkit::as_tenant;
use serde_json::{Value as Json, json};

use crate::world::{Power, Tenant, World, ask};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_18_superuser() {
    rotation(World::dev(18).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_15_weak_admin() {
    rotation(World::serve(15, Power::Weak).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_18_weak_admin() {
    rotation(World::serve(18, Power::Weak).await).await;
}

async fn rotation(world: World) {
    let (tenant, neighbour) = (world.create(json!({"id": "a"})).await, world.create(json!({"id": "b"})).await);
    let old = tenant.session().await;
    let make = "create schema mine; create table mine.t (id serial primary key); create view mine.v as select 1 as n; \
                create function mine.f() returns int language sql as 'select 1'; create type mine.e as enum ('a'); \
                select lo_create(0); create publication mine for table mine.t; \
                alter default privileges in schema mine grant select on tables to public";
    old.batch_execute(&format!("set role none; {make}")).await.unwrap();
    // By name, in a neighbour's database: it keeps no role from being dropped.
    let spite = format!(
        "create table held (); grant all on held to \"{0}\"; alter default privileges grant select on tables to \"{0}\"",
        tenant.login()
    );
    neighbour.session().await.batch_execute(&spite).await.unwrap();

    let (status, rotated) = world.post("/v1/tenants/a/credentials/rotate", json!({"grace_seconds": 86400})).await;
    assert_eq!(status, 200, "{rotated}\n{}", world.output());
    let new = Tenant { id: "a".into(), direct: rotated["connection"]["direct"].clone() };
    both_are_kept_true(&world, &tenant, &new, &neighbour).await;

    let (status, retired) = world.post("/v1/tenants/a/credentials/retire", json!({})).await;
    assert_eq!(status, 200, "{retired}\n{}", world.output());
    assert!(tenant.connect().await.is_err() && old.simple_query("select 1").await.is_err());
    let session = new.session().await;
    for what in ["mine.t", "mine.v"] {
        let owner = format!("select relowner::regrole::text from pg_class where oid = '{what}'::regclass");
        assert_eq!(ask(&session, &owner).await, tenant.owner(), "{what}");
    }
    let others = "select string_agg(distinct owner::regrole::text, ' ') from (select proowner from pg_proc where proname = 'f' \
                  union select typowner from pg_type where typname = 'e' union select nspowner from pg_namespace where nspname = 'mine' \
                  union select pubowner from pg_publication union select lomowner from pg_largeobject_metadata) o (owner)";
    assert_eq!(ask(&session, others).await, tenant.owner());
    let admin = world.superuser(tenant.database()).await;
    let left = format!("select count(*)::text from pg_roles where rolname = '{}'", tenant.login());
    assert_eq!(ask(&admin, &left).await, "0");
    session.batch_execute("insert into mine.t default values; drop table mine.t cascade").await.unwrap();
    world.check().await;
    assert_eq!(world.get("/v1/drift").await["items"], json!([]), "{}", world.output());
    assert_eq!(ask(&neighbour.session().await, "select count(*)::text from held").await, "0");
}

/// The old one may bend itself for as long as it is in force, and is bent back; nothing is told of either that is not so.
async fn both_are_kept_true(world: &World, old: &Tenant, new: &Tenant, neighbour: &Tenant) {
    world.check().await;
    let drift = world.get("/v1/drift").await;
    assert_eq!(drift["items"], json!([]), "{drift}");
    let session = old.session().await;
    let bend = format!(
        "set role none; alter role \"{0}\" set role = 'none'; alter role \"{0}\" set statement_timeout = 0; \
         create schema more; alter role \"{0}\" password 'mine'",
        old.login()
    );
    session.batch_execute(&bend).await.unwrap();
    let admin = world.superuser(new.database()).await;
    let owned = format!(
        "select count(*)::text from pg_namespace where nspname = 'more' and nspowner = '\"{}\"'::regrole",
        old.login()
    );
    world.until_mended("the old credential works again", || async { old.connect().await.is_ok() }).await;
    world.until_mended("the owner owns it", || async { ask(&admin, &owned).await == "0" }).await;
    assert_eq!(ask(&old.session().await, "select current_user").await, old.owner());
    assert_eq!(ask(&new.session().await, "select current_user").await, old.owner());
    for login in [old, new] {
        assert!(login.connect_to(neighbour.database()).await.is_err());
        // One's password is not the other's.
        let mut mixed: Json = login.direct.clone();
        mixed["password"] = json!(if login.login() == old.login() { new.password() } else { old.password() });
        assert!(as_tenant(&mixed).await.is_err());
    }
}
