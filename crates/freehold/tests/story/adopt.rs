//! Issue 3, item 6: `tenant adopt`: a database that is there already becomes a tenant's, in place.

use freehold_testkit::{ADMIN, Answer, Cluster, Plane};
use reqwest::Method;
use serde_json::{Value as Json, json};
use tokio_postgres::Client;

use crate::common::{create, dev, exits, expect, key, log_in, problem, stderr, stdout, text, until};

/// A server with a database that an application uses: `legacy`, of `app`, with a reader and a hundred rows.
const LEGACY: &str = "
    CREATE TABLE orders (id bigserial PRIMARY KEY, body text);
    CREATE SCHEMA billing;
    CREATE TABLE billing.invoices (id int PRIMARY KEY);
    CREATE FUNCTION total() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM orders';
    GRANT SELECT ON orders TO reader;
    INSERT INTO orders (body) SELECT 'row ' || g FROM generate_series(1, 100) g;";

async fn legacy(version: u32) -> Cluster {
    let cluster = Cluster::start(version);
    let superuser = cluster.connect("postgres").await;
    for sql in [
        "CREATE ROLE app LOGIN PASSWORD 'appPassword1'",
        "CREATE ROLE reader LOGIN PASSWORD 'appPassword1'",
        "CREATE DATABASE legacy OWNER app",
    ] {
        superuser.batch_execute(sql).await.unwrap();
    }
    app(&cluster).await.batch_execute(LEGACY).await.unwrap();
    cluster
}

async fn app(cluster: &Cluster) -> Client {
    cluster.connect_as("app", "appPassword1", "legacy").await.unwrap()
}

async fn plane_with(dsn: String) -> Plane {
    let plane = dev().stock(0).start().await;
    expect(&plane.post("/v1/servers", json!({"id": "old", "dsn": dsn})).await, 201);
    plane
}

async fn adopt(plane: &Plane, id: &str, more: Json) -> Answer {
    let mut body = json!({"server": "old", "database": "legacy"});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    let path = format!("/v1/tenants/{id}/adopt");
    plane.request(Method::POST, &path, &[("prefer", "wait=60")], Some(body)).await
}

fn codes(found: &Json, list: &str) -> Vec<String> {
    found[list].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn story_adopt_takes_a_database_over_while_its_application_works() {
    let cluster = legacy(15).await;
    let plane = plane_with(cluster.dsn(ADMIN)).await;
    let working = app(&cluster).await;

    // First a look, which does nothing; then a refusal, with its reasons.
    let args = ["tenant", "adopt", "acme", "--server", "old", "--database", "legacy"];
    let shown = stdout(&exits(plane.cli(&[&args[..], &["--dry-run"]].concat()), 12));
    assert!(shown.contains("refused: sessions: app (1) are in it") && shown.contains("of app"), "{shown}");
    problem(&plane.get("/v1/tenants/acme").await, 404, "not_found");
    let refused = stderr(&exits(plane.cli(&args), 3));
    assert!(refused.contains("sessions: app (1) are in it"), "{refused}");
    problem(&plane.get("/v1/tenants/acme").await, 404, "not_found");

    let kept = [&args[..], &["--keep-login", "app", "--label", "from=heroku"]].concat();
    let shown = stdout(&exits(plane.cli(&[&kept[..], &["--dry-run"]].concat()), 0));
    assert!(shown.contains("login_kept") && shown.ends_with("it can be adopted; nothing was done\n"), "{shown}");
    let shown = stdout(&exits(plane.cli(&kept), 0));
    assert!(shown.contains("/legacy?sslmode=disable"), "{shown}");

    // The application goes on: in the session that it has, and in new ones.
    working.batch_execute("INSERT INTO orders (body) VALUES ('meanwhile')").await.unwrap();
    let again = app(&cluster).await;
    again.batch_execute("INSERT INTO orders (body) VALUES ('later'); CREATE TABLE new_one (n int)").await.unwrap();
    let connection = plane.get("/v1/tenants/acme/connection").await;
    let tenant = log_in(expect(&connection, 200)).await;
    assert_eq!(text(&tenant, "SELECT total()::text").await, "102");
    let owner = text(&tenant, "SELECT current_user::text").await;
    assert_eq!(text(&again, "SELECT current_user::text").await, owner);
    tenant
        .batch_execute("ALTER TABLE orders ADD COLUMN more int; DROP TABLE new_one; CREATE TABLE mine (n int)")
        .await
        .unwrap();
    let strangers = "SELECT count(*)::text FROM pg_class c JOIN pg_roles r ON r.oid = relowner
        WHERE relnamespace IN ('public'::regnamespace, 'billing'::regnamespace) AND rolname <> current_user";
    assert_eq!(text(&tenant, strangers).await, "0");
    assert_eq!(text(&tenant, "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'public'").await, owner);

    // Nobody else comes in any more, and the truth is what it should be.
    let superuser = cluster.connect("postgres").await;
    assert!(cluster.connect_as("reader", "appPassword1", "legacy").await.is_err());
    let database_owner = "SELECT datdba::regrole::text FROM pg_database WHERE datname = 'legacy'";
    assert_eq!(text(&superuser, database_owner).await, "admin");
    expect(&plane.post("/v1/servers/old/check", json!({})).await, 200);
    let diagnosis = plane.post("/v1/tenants/acme/diagnose", json!({})).await;
    assert_eq!(expect(&diagnosis, 200)["broken"], Json::Null, "{}", diagnosis.2);
    until("the note is written", async || {
        match text(&cluster.connect("legacy").await, "SELECT count(*)::text FROM freehold.note").await.as_str() {
            "1" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
    let audit = plane.get("/v1/audit?action=tenant.adopt&subject=tenant:acme").await;
    assert_eq!(expect(&audit, 200)["items"][0]["details"]["former_owner"], "app");

    // The same again is the same; for anybody else it is taken.
    let again = adopt(&plane, "acme", json!({})).await;
    assert_eq!(expect(&again, 200)["labels"], json!({"from": "heroku"}));
    let other = adopt(&plane, "other", json!({"keep_logins": ["app"]})).await;
    assert_eq!(problem(&other, 422, "prerequisite")["errors"][0]["field"], "already_ours");

    // A kept login is refused and admitted with the tenant, and outlives it. What else it has is its own.
    superuser.batch_execute("CREATE DATABASE elsewhere OWNER app").await.unwrap();
    let elsewhere = cluster.connect_as("app", "appPassword1", "elsewhere").await.unwrap();
    expect(
        &plane.request(Method::POST, "/v1/tenants/acme/suspend", &[("prefer", "wait=30")], Some(json!({}))).await,
        200,
    );
    assert!(cluster.connect_as("app", "appPassword1", "legacy").await.is_err());
    assert!(working.batch_execute("SELECT 1").await.is_err());
    elsewhere.batch_execute("SELECT 1").await.expect("its session in another database goes on");
    cluster.connect_as("app", "appPassword1", "elsewhere").await.expect("and it logs in there");
    expect(
        &plane.request(Method::POST, "/v1/tenants/acme/resume", &[("prefer", "wait=30")], Some(json!({}))).await,
        200,
    );
    let back = app(&cluster).await;
    assert_eq!(text(&back, "SELECT current_user::text").await, owner);
    expect(&plane.request(Method::DELETE, "/v1/tenants/acme?confirm=acme", &[("prefer", "wait=30")], None).await, 200);
    assert!(cluster.connect_as("app", "appPassword1", "legacy").await.is_err());
    expect(&plane.delete("/v1/tenants/acme?confirm=acme&purge=true").await, 200);
    elsewhere.batch_execute("SELECT 1").await.expect("its session in another database outlives the tenant");
    cluster.connect_as("app", "appPassword1", "elsewhere").await.expect("and it logs in there as before");
    let left = "SELECT count(*)::text FROM pg_auth_members m WHERE m.member = 'app'::regrole";
    assert_eq!(text(&superuser, left).await, "0");
    assert_eq!(text(&superuser, "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname IN ('app', 'reader') OR rolname LIKE 'fh\\_%\\_l'").await, "app reader");
    assert_eq!(text(&superuser, "SELECT count(*)::text FROM pg_database WHERE datname = 'legacy'").await, "0");
}

#[tokio::test]
async fn story_adopt_ends_sessions_where_it_is_told_and_needs_its_scope() {
    let cluster = legacy(18).await;
    let dsn = cluster.weak_admin().await;
    let superuser = cluster.connect("postgres").await;
    let plane = plane_with(dsn).await;
    let working = app(&cluster).await;
    // A weak admin says what it cannot.
    let found = adopt(&plane, "acme", json!({"dry_run": true, "end_sessions": true})).await;
    assert_eq!(codes(expect(&found, 200), "refusals"), ["not_a_member"]);
    let message = found.2["refusals"][0]["message"].as_str().unwrap();
    assert!(message.contains("GRANT app TO weak_admin"), "{message}");
    superuser.batch_execute("GRANT app TO weak_admin WITH ADMIN OPTION").await.unwrap();

    for scopes in [&["provision", "read", "credentials"][..], &["read"]] {
        let key = key(&plane, scopes, None).await;
        let body = json!({"server": "old", "database": "legacy", "dry_run": true});
        let headers = [("authorization", key.as_str())];
        problem(&plane.request(Method::POST, "/v1/tenants/acme/adopt", &headers, Some(body)).await, 403, "denied");
    }
    let made = adopt(&plane, "acme", json!({"end_sessions": true, "name": "Acme", "plan": "standard"})).await;
    let tenant = log_in(&expect(&made, 201)["connection"]).await;
    assert_eq!(made.2["name"], "Acme");
    assert_eq!(text(&tenant, "SELECT total()::text").await, "100");
    assert!(working.batch_execute("SELECT 1").await.is_err(), "its session was ended");
    assert!(cluster.connect_as("app", "appPassword1", "legacy").await.is_err(), "and it does not come back");
    tenant.batch_execute("CREATE TABLE mine (n int); DROP TABLE orders CASCADE").await.unwrap();
    let member = "SELECT pg_has_role('weak_admin', 'app', 'USAGE')::text";
    // As the person granted it, with admin option: that is not Freehold's to take.
    assert_eq!(text(&superuser, member).await, "true");
}

#[tokio::test]
async fn story_adopt_says_everything_that_stands_against_it_at_once_and_steps_into_no_trap() {
    for version in [15, 18] {
        let cluster = legacy(version).await;
        let superuser = cluster.connect("legacy").await;
        // What `app` owns is what it wants whoever runs it to do.
        app(&cluster)
            .await
            .batch_execute(
                "CREATE TABLE sprung (by text, what text);
                 GRANT ALL ON sprung TO PUBLIC;
                 CREATE FUNCTION trap() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
                    INSERT INTO public.sprung VALUES (current_user, tg_event);
                    ALTER ROLE app SUPERUSER; EXCEPTION WHEN insufficient_privilege THEN END $$;
                 CREATE FUNCTION cast_trap(text) RETURNS int LANGUAGE sql AS
                    $$ INSERT INTO public.sprung VALUES (current_user, 'cast'); SELECT 1 $$;",
            )
            .await
            .unwrap();
        let mut traps = "CREATE EVENT TRIGGER watch ON ddl_command_start EXECUTE FUNCTION trap();
             CREATE EVENT TRIGGER watch_end ON ddl_command_end EXECUTE FUNCTION trap();
             CREATE CAST (text AS int) WITH FUNCTION cast_trap(text) AS IMPLICIT;
             CREATE FUNCTION root() RETURNS void SECURITY DEFINER LANGUAGE sql AS 'SELECT';
             CREATE FUNCTION pg_catalog.has_everything() RETURNS bool LANGUAGE sql AS 'SELECT true';
             CREATE SCHEMA freehold;"
            .to_owned();
        if version == 18 {
            traps.push_str("CREATE EVENT TRIGGER door ON login EXECUTE FUNCTION trap();");
        }
        superuser.batch_execute(&traps).await.unwrap();
        superuser.batch_execute("SET event_triggers = off").await.ok();
        // This very session stepped into them.
        superuser.batch_execute("TRUNCATE sprung; ALTER ROLE app NOSUPERUSER").await.unwrap();

        let plane = plane_with(cluster.dsn(ADMIN)).await;
        let found = adopt(&plane, "acme", json!({"dry_run": true})).await;
        let mut found = codes(expect(&found, 200), "refusals");
        found.dedup();
        let all = ["event_trigger", "security_definer", "catalog_changed", "schema_freehold"];
        assert_eq!(found, all, "{version}");
        let refused = adopt(&plane, "acme", json!({"end_sessions": true})).await;
        let errors = problem(&refused, 422, "prerequisite")["errors"].as_array().unwrap().len();
        assert_eq!(errors, if version == 18 { 7 } else { 6 });

        // All but the event triggers is taken away by hand; those are disabled before anything is altered.
        superuser
            .batch_execute("DROP CAST (text AS int); DROP FUNCTION root(); DROP FUNCTION pg_catalog.has_everything(); DROP SCHEMA freehold")
            .await
            .unwrap();
        // This very session stepped into them.
        superuser.batch_execute("TRUNCATE sprung; ALTER ROLE app NOSUPERUSER").await.unwrap();
        drop(superuser);
        let made = adopt(&plane, "acme", json!({"end_sessions": true, "disable_event_triggers": true})).await;
        let tenant = log_in(&expect(&made, 201)["connection"]).await;
        expect(&plane.post("/v1/servers/old/check", json!({})).await, 200);
        let superuser = cluster.connect("postgres").await;
        assert_eq!(text(&superuser, "SELECT rolsuper::text FROM pg_roles WHERE rolname = 'app'").await, "false");
        let by = "SELECT coalesce(string_agg(DISTINCT by || ' ' || what, ', '), '') FROM sprung";
        assert_eq!(text(&tenant, by).await, "", "{version}: somebody's function ran");
        tenant.batch_execute("CREATE TABLE mine (n int)").await.unwrap();
        assert_eq!(text(&tenant, by).await, "", "disabled for good");
    }
}

#[tokio::test]
async fn story_adopt_refuses_what_is_not_to_be_had() {
    let cluster = legacy(15).await;
    let plane = plane_with(cluster.dsn(ADMIN)).await;
    for database in ["postgres", "template1"] {
        let found = adopt(&plane, "acme", json!({"database": database, "dry_run": true})).await;
        assert!(codes(expect(&found, 200), "refusals").contains(&"system_database".to_owned()), "{database}");
    }
    problem(&adopt(&plane, "acme", json!({"database": "nowhere"})).await, 404, "not_found");
    problem(&adopt(&plane, "acme", json!({"server": "nowhere"})).await, 404, "not_found");
    problem(&adopt(&plane, "acme", json!({"plan": "gold", "keep_logins": []})).await, 422, "unknown_plan");
    problem(&adopt(&plane, "acme", json!({"template": "nothing"})).await, 422, "unknown_template");
    problem(&adopt(&plane, "acme", json!({"database": "ä".repeat(32)})).await, 422, "invalid");
    problem(&adopt(&plane, "acme", json!({"keep_logins": ["a\0b"]})).await, 422, "invalid");
    problem(&adopt(&plane, "acme", json!({"keep": true})).await, 422, "invalid");

    // What Freehold has already: the control store, stock, another tenant's.
    let own = json!({"server": "local-1", "database": "freehold_control", "dry_run": true});
    let found = plane.post("/v1/tenants/acme/adopt", own).await;
    let refusals = codes(expect(&found, 200), "refusals");
    assert!(refusals.iter().any(|code| code == "control_store" || code == "system_database"), "{refusals:?}");
    expect(&plane.post("/v1/servers/old/cordon", json!({})).await, 200);
    let beta = create(&plane, "beta").await;
    let theirs = json!({"server": "local-1", "database": beta["connection"]["direct"]["database"], "dry_run": true});
    let found = plane.post("/v1/tenants/acme/adopt", theirs).await;
    assert_eq!(codes(expect(&found, 200), "refusals"), ["already_ours"]);
    assert!(found.2["refusals"][0]["message"].as_str().unwrap().contains("tenant beta's"));

    // A tenant that has another database has it; a cordoned server takes what is on it.
    problem(&adopt(&plane, "beta", json!({})).await, 409, "tenant_exists");
    expect(&adopt(&plane, "acme", json!({"end_sessions": true})).await, 201);
}
