//! What a tenant bends of its own login, and that it is put back.

use serde_json::json;

use crate::collusion;
use crate::world::{Power, Tenant, World, ask};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truth_15_superuser() {
    truth(World::dev(15).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truth_18_superuser() {
    truth(World::dev(18).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truth_15_weak_admin() {
    truth(World::serve(15, Power::Weak).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truth_18_weak_admin() {
    truth(World::serve(18, Power::Weak).await).await;
}

async fn truth(world: World) {
    let tenants = world.tenants(7).await;
    whatever_a_login_bends_is_restored(&world, &tenants[0]).await;
    only_the_password_changed(&world, &tenants[1]).await;
    whoever_resists_delays_nobody(&world, &tenants[2], &tenants[3]).await;
    attributes_are_taken_back(&world, &tenants[4]).await;
    collusion::a_login_granted_to_a_neighbour_is_revoked(&world, &tenants[5], &tenants[6]).await;
    let (x, y) = (world.create(json!({"id": "x"})).await, world.create(json!({"id": "y"})).await);
    collusion::grants_to_a_neighbour_do_not_keep_it_from_being_purged(&world, &x, &y).await;
    collusion::a_repeated_create_answers_no_successors_credential(&world).await;
}

async fn whatever_a_login_bends_is_restored(world: &World, tenant: &Tenant) {
    let shows = [
        "current_user",
        "current_setting('statement_timeout')",
        "current_setting('work_mem')",
        "current_setting('search_path')",
    ];
    let session = tenant.session().await;
    let mut before = Vec::new();
    for show in shows {
        before.push(ask(&session, &format!("select {show}")).await);
    }
    let (login, database) = (tenant.login(), tenant.database());
    session
        .batch_execute(&format!(
            "set role none; create schema mine; create table mine.t (id serial primary key); create function mine.f() returns int language sql as 'select 1'; \
             create type mine.e as enum ('a'); select lo_create(0); create publication mine for table mine.t; \
             alter default privileges for role \"{login}\" in schema mine grant select on tables to public; \
             alter role \"{login}\" set role = 'none'; alter role \"{login}\" set statement_timeout = 0; alter role \"{login}\" set work_mem = '1GB'; \
             alter role \"{login}\" set search_path = mine, pg_catalog; \
             alter role \"{login}\" in database \"{database}\" set role = 'none'; alter role \"{login}\" in database \"{database}\" set statement_timeout = '1ms'; \
             alter role \"{login}\" password 'mine'"
        ))
        .await
        .unwrap();
    assert!(tenant.connect().await.is_err(), "the password is another now");
    world.until_mended("the stored credential works again", || async { tenant.connect().await.is_ok() }).await;
    let restored = tenant.session().await;
    for (show, was) in shows.iter().zip(before) {
        assert_eq!(ask(&restored, &format!("select {show}")).await, was, "{show}");
    }
    let left = format!(
        "select count(*)::text from pg_shdepend where refclassid = 'pg_authid'::regclass and deptype = 'o' and classid <> 'pg_default_acl'::regclass and refobjid = '\"{login}\"'::regrole"
    );
    let admin = world.superuser(database).await;
    world.until_mended("the owner owns what the login made", || async { ask(&admin, &left).await == "0" }).await;
    assert_eq!(ask(&restored, "select tableowner from pg_tables where tablename = 't'").await, tenant.owner());
    let own = format!(
        "select coalesce(string_agg(setconfig::text, ' '), '') from pg_db_role_setting where setrole = '\"{login}\"'::regrole and setdatabase <> 0"
    );
    assert_eq!(ask(&admin, &own).await, "");
    let repairs = world.repairs(tenant).await;
    assert!(!repairs.is_empty(), "audited");
    assert!(repairs.iter().all(|event| event["actor"] == "loop:truth" && event["outcome"] == "success"), "{repairs:?}");
    let told = serde_json::to_string(&repairs).unwrap();
    assert!(told.contains("settings_changed") && told.contains("owned_as_login"), "{told}");
}

/// Nothing else shows it: a weak admin must try the credential.
async fn only_the_password_changed(world: &World, tenant: &Tenant) {
    let session = tenant.session().await;
    session.batch_execute(&format!("set role none; alter role \"{}\" password null", tenant.login())).await.unwrap();
    world.until_mended("the stored credential works again", || async { tenant.connect().await.is_ok() }).await;
    assert!(serde_json::to_string(&world.repairs(tenant).await).unwrap().contains("verifier_changed"));
}

/// One tenant holds what is to be repaired of it; its neighbour is repaired all the same.
async fn whoever_resists_delays_nobody(world: &World, stubborn: &Tenant, bent: &Tenant) {
    let session = stubborn.session().await;
    let (login, hold) = (stubborn.login(), "set idle_in_transaction_session_timeout = 0; set role none; ");
    session
        .batch_execute(&format!("set role none; create table held (); alter role \"{login}\" set role = 'none'"))
        .await
        .unwrap();
    let other = stubborn.session().await;
    session.batch_execute(&format!("{hold} begin; lock table held")).await.unwrap();
    other.batch_execute(&format!("{hold} begin; alter role \"{login}\" password 'mine'")).await.unwrap();
    let victim = bent.session().await;
    victim.batch_execute(&format!("set role none; alter role \"{}\" set role = 'none'", bent.login())).await.unwrap();
    world
        .until_mended("the neighbour is repaired", || async {
            ask(&bent.session().await, "select current_user").await == bent.owner()
        })
        .await;
    assert!(world.repairs(stubborn).await.is_empty(), "it still resists");
    session.batch_execute("rollback").await.unwrap();
    other.batch_execute("rollback").await.unwrap();
    world.until_mended("it is repaired when it lets go", || async { !world.repairs(stubborn).await.is_empty() }).await;
    world
        .until_mended("it is its owner again", || async {
            ask(&stubborn.session().await, "select current_user").await == stubborn.owner()
        })
        .await;
}

/// However they were got: no role of a tenant keeps them.
async fn attributes_are_taken_back(world: &World, tenant: &Tenant) {
    let given = if world.power == Power::Superuser {
        "superuser replication bypassrls createdb createrole"
    } else {
        "createdb"
    };
    let admin = world.superuser("postgres").await;
    if world.power == Power::Superuser {
        admin.batch_execute(&format!("alter role \"{}\" {given}", tenant.owner())).await.unwrap();
    }
    admin.batch_execute(&format!("alter role \"{}\" {given}", tenant.login())).await.unwrap();
    let raised = format!(
        "select count(*)::text from pg_roles where (rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls) and rolname in ('{}', '{}')",
        tenant.login(),
        tenant.owner()
    );
    world.until_mended("the attributes are gone", || async { ask(&admin, &raised).await == "0" }).await;
    assert!(serde_json::to_string(&world.repairs(tenant).await).unwrap().contains("attributes_changed"));
}
