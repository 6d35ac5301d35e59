//! A database that somebody else made, for scenarios that take it over.

use freehold_testkit::{ADMIN, ADMIN_PASSWORD};
use serde_json::{Value as Json, json};
use tokio_postgres::Client;

use crate::rig::{Rig, SERVER};

const ROLE: &str =
    "DO $$ BEGIN CREATE ROLE legacy_app LOGIN PASSWORD 'legacyPassword1'; CREATE ROLE legacy_boss SUPERUSER;
     EXCEPTION WHEN duplicate_object THEN END $$";

/// Of several owners, with privileges, a type that follows another, and event triggers.
const CONTENTS: &str = "
    CREATE SCHEMA app AUTHORIZATION legacy_app;
    CREATE TABLE app.orders (id bigserial PRIMARY KEY, body text);
    CREATE TABLE public.info (tenant text PRIMARY KEY, name text);
    CREATE TABLE public.of_admin (n int);
    CREATE TYPE app.span AS RANGE (subtype = float8);
    CREATE FUNCTION app.one() RETURNS int LANGUAGE sql AS 'SELECT 1';
    ALTER TABLE app.orders OWNER TO legacy_app;
    ALTER TABLE public.info OWNER TO legacy_app;
    ALTER TYPE app.span OWNER TO legacy_app;
    ALTER FUNCTION app.one() OWNER TO legacy_app;
    GRANT SELECT ON app.orders TO PUBLIC;
    ALTER DEFAULT PRIVILEGES FOR ROLE legacy_app REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
    INSERT INTO public.info VALUES ('kept', 'as it is');
    CREATE FUNCTION public.watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
    CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION public.watch();
    CREATE EVENT TRIGGER asleep ON ddl_command_end EXECUTE FUNCTION public.watch();
    ALTER EVENT TRIGGER asleep DISABLE;
    ALTER EVENT TRIGGER asleep OWNER TO legacy_boss;
    ALTER EVENT TRIGGER watch OWNER TO legacy_boss;";

pub fn name(id: &str) -> String {
    format!("legacy_{}", id.replace('-', "_"))
}

pub async fn make(rig: &Rig, id: &str) {
    let admin = rig.server().connect("postgres").await;
    let run = async |client: &Client, sql: &str| {
        client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    };
    let name = name(id);
    run(&admin, ROLE).await;
    run(&admin, &format!("CREATE DATABASE {name} OWNER legacy_app")).await;
    // Closed, as the truth loop closes every database of its servers sooner or later: not in the midst of a scenario.
    run(&admin, &format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC")).await;
    run(&rig.server().connect(&name).await, CONTENTS).await;
}

pub async fn remove(rig: &Rig, id: &str) {
    let admin = rig.server().connect("postgres").await;
    let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", name(id));
    admin.batch_execute(&sql).await.expect("drop what is left of it");
}

/// Its server is one of Freehold's, of which the import knows nothing.
pub fn import(rig: &Rig, id: &str, dry_run: bool) -> Json {
    json!({"from": rig.server().dsn_with(ADMIN, ADMIN_PASSWORD, &name(id)), "template": "made", "dry_run": dry_run})
}

pub fn adopt(id: &str, dry_run: bool) -> Json {
    json!({"server": SERVER, "database": name(id), "keep_logins": ["legacy_app"], "end_sessions": true,
        "disable_event_triggers": true, "dry_run": dry_run})
}
