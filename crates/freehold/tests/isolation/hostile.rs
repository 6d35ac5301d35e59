//! Rule 1: an admin session never executes anything that a tenant can define. A tenant plants what it can, everything
//! that Freehold does to it is done, and nothing of it ran as anybody but the tenant.

use std::path::Path;

use freehold_testkit::{Cluster, as_tenant};
use serde_json::json;
use tokio_postgres::Client;

use crate::payload;
use crate::template;
use crate::world::{Power, Tenant, World, ask};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_15_superuser() {
    hostile(world(15, Power::Superuser).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_18_superuser() {
    hostile(world(18, Power::Superuser).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_15_weak_admin() {
    hostile(world(15, Power::Weak).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_18_weak_admin() {
    hostile(world(18, Power::Weak).await).await;
}

/// Sizes are measured every second, and a plan brings extensions: trusted ones, and with a superuser two that are not.
async fn world(version: u32, power: Power) -> World {
    let more = if power == Power::Superuser { ", \"dblink\", \"pageinspect\"" } else { "" };
    let settings = format!(
        "[stats]\nperiod_seconds = 1\nsize_period_seconds = 1\n[[plan]]\nname = \"standard\"\ndefault = true\n\
         [[plan]]\nname = \"big\"\nrank = 1\nconnection_limit = 7\nextensions = [\"citext\", \"hstore\", \"pg_trgm\", \"ltree\", \"intarray\"{more}]\n"
    );
    // Nobody but Freehold and the tenants ever looks at a table.
    World::serve_on(Cluster::builder(version).setting("autovacuum", "off"), power, &[], &settings).await
}

async fn hostile(world: World) {
    let tenant = world.create(json!({"id": "mallory"})).await;
    // Enough for the store's own look at who belongs to it, before the first payload is there.
    everything_freehold_does_runs_no_payload(&world, &tenant).await;
    template::a_hostile_template_runs_as_its_own_roles(&world).await;
}

async fn everything_freehold_does_runs_no_payload(world: &World, tenant: &Tenant) {
    let (login, database) = (tenant.login(), tenant.database());
    let session = tenant.session().await;
    session.batch_execute(&payload::functions(login)).await.unwrap();
    assert_eq!(payload::plant(&session, payload::OBJECTS).await, Vec::<String>::new());
    payload::plant(&session, &payload::shadows()).await;
    let event = "create function public.e() returns event_trigger language plpgsql as $f$ begin perform public.attempt('event'); end $f$;
        create event trigger e on ddl_command_end execute function public.e();";
    assert_eq!(payload::plant(&session, event).await.len(), 1, "an event trigger would run in everybody's session");
    assert!(!payload::ran(world).is_empty(), "the payload works");
    extensions_resolve_nothing_of_the_tenants(world, tenant).await;
    // What a move would take is read off its catalogs, traps and all.
    let (status, found) = world.post("/v1/tenants/mallory/movability", json!({})).await;
    assert_eq!(status, 200, "{found}");
    let told = found["findings"].to_string();
    for code in ["no_replica_identity", "always_trigger", "row_security", "publication", "materialized_view"] {
        assert!(told.contains(&format!("\"{code}\"")), "{code}: {found:#}");
    }
    nobody_else_ran_a_payload(world, tenant).await;

    // All of it again as the login, so that the truth loop takes it over; and everything stored that bends a session.
    let bent = format!(
        "set role none;
         create schema mine;
         create table mine.trap (a int default public.on_default() check (public.on_check(a)));
         create index on mine.trap (public.on_index(a));
         create trigger t before insert or update on mine.trap for each row execute function public.on_trigger();
         alter table mine.trap enable always trigger t;
         create view mine.v as select public.attempt('view of the login') from public.trap;
         create function mine.f() returns int language plpgsql security definer as $f$ begin perform public.attempt('definer'); return 1; end $f$;
         alter role \"{login}\" set search_path = public, mine, pg_catalog;
         alter role \"{login}\" in database \"{database}\" set search_path = public, pg_temp, pg_catalog;
         alter role \"{login}\" set role = 'none';
         alter role \"{login}\" set session_authorization = '{login}';
         alter role \"{login}\" set check_function_bodies = off;
         alter role \"{login}\" set standard_conforming_strings = off;
         alter role \"{login}\" set default_transaction_read_only = on;
         alter role \"{login}\" set client_encoding = 'SQL_ASCII';
         alter role \"{login}\" password 'x';"
    );
    payload::plant(&session, &bent).await;
    let owned = ask(&session, "select count(*)::text from pg_catalog.pg_class where relowner = (select r.oid from pg_catalog.pg_roles r where r.rolname = session_user)").await;
    assert_ne!(owned, "0", "the login owns traps");
    drop(session);

    world
        .until_mended("the login is restored", || async {
            match tenant.connect().await {
                Ok(session) => ask(&session, "select current_user").await == tenant.owner(),
                Err(_) => false,
            }
        })
        .await;
    let admin = world.superuser("postgres").await;
    let owned =
        format!("select count(*)::text from pg_shdepend where deptype = 'o' and refobjid = '\"{login}\"'::regrole");
    world.until_mended("the traps are the owner's", || async { ask(&admin, &owned).await == "0" }).await;
    // The note again, health, status, metrics, suspension, deletion, and the way back.
    let store = world.superuser("freehold_control").await;
    store.batch_execute("update tenant_database set noted_at = null").await.unwrap();
    let noted = "select count(*)::text from tenant_database where tenant_id = 'mallory' and noted_at is not null";
    world.until("the note is written anew", || async { ask(&store, noted).await == "1" }).await;
    for path in ["/v1/status", "/metrics", "/v1/tenants/mallory", "/v1/servers/srv"] {
        world.get(path).await;
    }
    it_is_measured(world, &store, tenant).await;
    it_gets_another_plan(world, tenant).await;
    its_credential_is_rotated(world, tenant).await;
    world.tell(tenant, "suspend").await;
    world.check().await;
    world.tell(tenant, "resume").await;
    world.delete(tenant, false).await;
    world.tell(tenant, "undelete").await;
    world.check().await;
    nobody_else_ran_a_payload(world, tenant).await;
    world.delete(tenant, true).await;
    nobody_else_ran_a_payload(world, tenant).await;
    let left = format!("select count(*)::text from pg_roles where rolname like '{}%'", tenant.owner());
    assert_eq!(ask(&admin, &left).await, "0");
}

/// Two rounds of the loop that counts and measures, begun after all of this was planted.
async fn it_is_measured(world: &World, store: &Client, tenant: &Tenant) {
    let now = ask(store, "select clock_timestamp()::text").await;
    // Where nothing happened since, nothing is measured.
    tenant.session().await.batch_execute("select 1").await.unwrap();
    for sql in [
        format!(
            "select count(*)::text from loop_lease where name = 'stats' and started_at > '{now}' and finished_at > started_at and error is null"
        ),
        format!(
            "select count(*)::text from database_stats where size_at > '{now}' and database = (select database from tenant_database where tenant_id = 'mallory')"
        ),
    ] {
        world.until("a round of stats is over", || async { ask(store, &sql).await == "1" }).await;
    }
    assert!(world.get("/v1/tenants/mallory").await["usage"]["size_bytes"].as_u64() > Some(0));
}

/// Extensions come into a database that is full of traps.
async fn it_gets_another_plan(world: &World, tenant: &Tenant) {
    let (status, body) = world.post("/v1/tenants/mallory/plan", json!({"plan": "big"})).await;
    assert_eq!(status, 200, "{body}\n{}", world.output());
    let admin = world.superuser(tenant.database()).await;
    let there = "select count(*)::text from pg_catalog.pg_extension where extname in ('citext', 'hstore', 'pg_trgm', 'ltree', 'intarray')";
    assert_eq!(ask(&admin, there).await, "5");
    let left = "select count(*)::text from pg_catalog.pg_namespace where nspname ~ '^fh_'";
    assert_eq!(ask(&admin, left).await, "0", "a schema in which one was made");
    nobody_else_ran_a_payload(world, tenant).await;
}

/// The old login has things in its own name when it goes, and the new one is handed out.
async fn its_credential_is_rotated(world: &World, tenant: &Tenant) {
    let own = "set role none; create schema again;
         create table again.trap (a int default public.on_default() check (public.on_check(a)));
         create index on again.trap (public.on_index(a));
         create trigger t before insert or update on again.trap for each row execute function public.on_trigger();
         create function again.f() returns int language plpgsql security definer as $f$ begin perform public.attempt('definer'); return 1; end $f$;";
    payload::plant(&tenant.session().await, own).await;
    let (status, rotated) = world.post("/v1/tenants/mallory/credentials/rotate", json!({"grace_seconds": 3600})).await;
    assert_eq!(status, 200, "{rotated}\n{}", world.output());
    as_tenant(&rotated["connection"]).await.expect("the new one lets in");
    let (status, body) = world.post("/v1/tenants/mallory/credentials/retire", json!({})).await;
    assert_eq!(status, 200, "{body}\n{}", world.output());
    assert!(tenant.connect().await.is_err(), "the old one is in force");
    let owner =
        "select nspowner::regrole::text from pg_catalog.pg_namespace where nspname operator(pg_catalog.=) 'again'";
    assert_eq!(ask(&world.superuser(tenant.database()).await, owner).await, tenant.owner());
    nobody_else_ran_a_payload(world, tenant).await;
}

/// Trusted extensions' scripts run as superuser, in a schema that the tenant can write to.
async fn extensions_resolve_nothing_of_the_tenants(world: &World, tenant: &Tenant) {
    let session = tenant.session().await;
    let trusted = "select distinct name::text from pg_catalog.pg_available_extension_versions where trusted and not installed and name not like 'pl%'";
    for row in session.query(trusted, &[]).await.unwrap() {
        let name: String = row.get(0);
        for path in ["public, pg_catalog", "pg_temp, public"] {
            // Made or refused: what counts is who ran what.
            let sql = format!(
                "set search_path = {path}; create extension \"{name}\" schema public cascade; drop extension \"{name}\""
            );
            let _ = session.batch_execute(&sql).await;
        }
    }
    nobody_else_ran_a_payload(world, tenant).await;
}

async fn nobody_else_ran_a_payload(world: &World, tenant: &Tenant) {
    let own = [tenant.login().to_owned(), tenant.maintenance()];
    let users = [tenant.login(), tenant.owner()];
    let others: Vec<_> = payload::ran(world)
        .into_iter()
        .filter(|(_, current, session)| {
            current.starts_with("fh_") && (!users.contains(&current.as_str()) || !own.contains(session))
                || !current.starts_with("fh_")
        })
        .collect();
    assert!(others.is_empty(), "somebody else ran a payload: {others:#?}");
    let admin = world.superuser("postgres").await;
    let raised = "select coalesce(string_agg(rolname, ','), '') from pg_roles where rolname like 'fh\\_%' and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)";
    assert_eq!(ask(&admin, raised).await, "");
    assert_eq!(ask(&admin, "select count(*)::text from pg_roles where rolname like '%raised'").await, "0");
    let pwned = format!("/tmp/{}.pwned", tenant.login());
    assert!(!Path::new(&pwned).exists(), "a program ran");
    if let Ok(inside) = world
        .cluster
        .as_ref()
        .unwrap()
        .connect_as(freehold_testkit::ADMIN, freehold_testkit::ADMIN_PASSWORD, tenant.database())
        .await
    {
        assert_eq!(ask(&inside, "select count(*)::text from public.stolen").await, "0");
    }
}
