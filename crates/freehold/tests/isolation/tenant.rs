//! What a tenant cannot do, what it can, and what is left of it when its login is refused.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::world::{Tenant, World, ask};

/// `{login}`, `{owner}`, `{maintenance}` and `{database}` are its own, `{v…}` its neighbour's, `{admin}` is the server's.
const FORBIDDEN: &[&str] = &[
    // Roles.
    "create role x",
    "create user x password 'x'",
    "drop role \"{vlogin}\"",
    "alter role \"{login}\" superuser",
    "alter role \"{login}\" createdb",
    "alter role \"{login}\" createrole",
    "alter role \"{login}\" replication",
    "alter role \"{login}\" bypassrls",
    "alter role \"{login}\" connection limit 1000",
    "alter role \"{login}\" valid until 'infinity'",
    "alter role \"{login}\" rename to x",
    "alter role \"{login}\" set temp_file_limit = '1TB'",
    "alter role \"{login}\" set session_preload_libraries = 'x'",
    "alter role \"{owner}\" login",
    "alter role \"{owner}\" connection limit 1000",
    "alter role \"{maintenance}\" password 'x'",
    "alter role \"{vlogin}\" password 'x'",
    "alter role \"{vlogin}\" set work_mem = '64kB'",
    "alter role all set work_mem = '64kB'",
    "set role \"{vowner}\"",
    "set role \"{vlogin}\"",
    "set role \"{maintenance}\"",
    "set role \"{admin}\"",
    "set role pg_read_all_data",
    "set session authorization \"{vlogin}\"",
    "set session authorization \"{owner}\"",
    "set session authorization \"{admin}\"",
    "grant \"{owner}\" to \"{vowner}\"",
    "grant \"{vowner}\" to \"{owner}\"",
    "grant \"{vlogin}\" to \"{login}\"",
    "grant \"{admin}\" to \"{login}\"",
    "grant pg_read_all_data to \"{login}\"",
    "grant pg_monitor to \"{login}\"",
    "revoke \"{vowner}\" from \"{vlogin}\"",
    "reassign owned by \"{vowner}\" to \"{owner}\"",
    "drop owned by \"{vowner}\"",
    "comment on role \"{vlogin}\" is 'x'",
    // Databases.
    "create database x",
    "drop database \"{database}\"",
    "alter database \"{database}\" connection limit 1000",
    "alter database \"{database}\" set work_mem = '1GB'",
    "alter database \"{database}\" set search_path = public, pg_catalog",
    "alter database \"{database}\" owner to \"{owner}\"",
    "alter database \"{database}\" rename to x",
    "alter database \"{database}\" is_template true",
    "alter database \"{database}\" allow_connections false",
    "alter database \"{vdatabase}\" connection limit 0",
    "create database x template \"{vdatabase}\"",
    // Settings.
    "set temp_file_limit = '1TB'",
    "set session_replication_role = replica",
    "set log_statement = 'none'",
    "set allow_system_table_mods = on",
    "set zero_damaged_pages = on",
    "alter system set work_mem = '1GB'",
    "select pg_reload_conf()",
    "select pg_rotate_logfile()",
    "load '/tmp/x.so'",
    "checkpoint; select pg_switch_wal()",
    // Catalogs and Freehold's own.
    "select rolpassword from pg_authid",
    "select passwd from pg_shadow",
    "update pg_authid set rolsuper = true",
    "update pg_database set datacl = null",
    "insert into pg_auth_members select * from pg_auth_members",
    "delete from pg_db_role_setting",
    "create function pg_catalog.x() returns int language sql as 'select 1'",
    "create table pg_catalog.x ()",
    "create schema pg_x",
    "select * from freehold.note",
    "insert into freehold.note (sealed) values ('')",
    "create table freehold.x ()",
    "create table x () inherits (freehold.note)",
    "create trigger x before insert on freehold.note for each row execute function suppress_redundant_updates_trigger()",
    "lock table freehold.note",
    "drop schema freehold cascade",
    "alter schema freehold owner to \"{owner}\"",
    "alter schema freehold rename to x",
    "grant all on schema freehold to \"{owner}\"",
    // Files, programs, other servers.
    "copy (select 1) to program 'true'",
    "create table x (t text); copy x from program 'id'",
    "create table x (t text); copy x from '/etc/passwd'",
    "copy (select 1) to '/tmp/freehold-isolation'",
    "select pg_read_file('PG_VERSION')",
    "select pg_read_binary_file('PG_VERSION')",
    "select pg_ls_dir('.')",
    "select pg_stat_file('PG_VERSION')",
    "select pg_ls_logdir()",
    "select * from pg_hba_file_rules",
    "select * from pg_file_settings",
    "select lo_import('/etc/passwd')",
    "select lo_export(lo_create(0), '/tmp/freehold-isolation')",
    "create extension dblink",
    "create extension postgres_fdw",
    "create extension file_fdw",
    "create extension adminpack",
    "create extension pageinspect",
    "create extension plpython3u",
    "create foreign data wrapper x",
    "create subscription x connection 'dbname={vdatabase}' publication x",
    "select pg_create_physical_replication_slot('x')",
    "select pg_create_logical_replication_slot('x', 'pgoutput')",
    "create tablespace x location '/tmp'",
    // Code that others would run.
    "create function x() returns int language c as 'x'",
    "create function x(internal) returns int language internal as 'int4in'",
    "create language x handler plpgsql_call_handler",
    "create function x() returns event_trigger language plpgsql as 'begin end'; create event trigger x on ddl_command_end execute function x()",
    "create cast (text as int) without function",
    "create type x; create type x (input = int4in, output = int4out)",
    "create access method x type index handler bthandler",
    "create operator class x default for type int using btree as operator 1 <",
    "create publication x for all tables",
    "alter function pg_catalog.lower(text) owner to \"{owner}\"",
    "create or replace function pg_catalog.lower(text) returns text language sql as 'select $1'",
    "create rule x as on select to pg_catalog.pg_class do instead select 1",
    "create trigger x before insert on pg_catalog.pg_class for each row execute function suppress_redundant_updates_trigger()",
    // Others' sessions.
    "select pg_terminate_backend({vpid})",
    "select pg_cancel_backend({vpid})",
    "select pg_log_backend_memory_contexts({vpid})",
];

/// PostgreSQL answers these with a warning, or does nothing at all: what counts is that nothing changed.
const WITHOUT_EFFECT: &[&str] = &[
    "grant connect on database \"{database}\" to public",
    "grant all on database \"{database}\" to \"{vowner}\" with grant option",
    "revoke connect on database \"{database}\" from \"{owner}\"",
    "grant connect on database \"{vdatabase}\" to \"{owner}\"",
];

pub async fn cannot_do_what_it_must_not(world: &World, tenant: &Tenant, victim: &Tenant) {
    let before = world.shared_catalogs().await;
    let admin = ask(&world.superuser("postgres").await, "select current_user").await;
    let theirs = victim.session().await;
    let pid = ask(&theirs, "select pg_backend_pid()").await;
    let fill = |sql: &str| {
        let own = [("login", tenant.login()), ("owner", tenant.owner()), ("database", tenant.database())];
        let other = [("vlogin", victim.login()), ("vowner", victim.owner()), ("vdatabase", victim.database())];
        let mut sql =
            sql.replace("{maintenance}", &tenant.maintenance()).replace("{admin}", &admin).replace("{vpid}", &pid);
        for (name, value) in own.into_iter().chain(other) {
            sql = sql.replace(&format!("{{{name}}}"), value);
        }
        sql
    };
    let session = tenant.session().await;
    for role in ["", "set role none; "] {
        for (sql, may_answer) in
            FORBIDDEN.iter().map(|sql| (sql, false)).chain(WITHOUT_EFFECT.iter().map(|sql| (sql, true)))
        {
            session.batch_execute("discard all").await.unwrap();
            let sql = format!("{role}{}", fill(sql));
            // One message, one transaction: what an earlier statement did goes with the one that is refused.
            match session.batch_execute(&sql).await {
                Ok(()) => assert!(may_answer, "{sql}: allowed"),
                Err(error) => {
                    let code = error.code().unwrap_or_else(|| panic!("{sql}: the session ended: {error:?}"));
                    assert_ne!(code, &SqlState::SYNTAX_ERROR, "{sql}: {error:?}");
                }
            }
        }
    }
    session.batch_execute("discard all").await.unwrap();
    let after = world.shared_catalogs().await;
    let news: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    assert!(news.is_empty() && before.len() == after.len(), "changed: {news:#?}");
    assert_eq!(ask(&theirs, "select 1").await, "1");
    // Members of nothing that they should not be, and superusers of nothing.
    let sql = "select count(*)::text from pg_roles where pg_has_role(oid, 'USAGE') or pg_has_role(oid, 'MEMBER')";
    assert_eq!(ask(&session, sql).await, "1", "the owner is itself alone");
}

pub async fn does_its_work(world: &World, tenant: &Tenant) {
    let session = tenant.session().await;
    session
        .batch_execute(
            "create schema app; create table app.t (id int primary key, n text); insert into app.t values (1, 'x'); create table u (); \
             create temp table x (id int); create view v as select * from app.t; create type e as enum ('a'); create sequence s; \
             create function f() returns trigger language plpgsql as 'begin return new; end'; \
             create trigger t before insert on app.t for each row execute function f(); create index on app.t (n); \
             create publication p for table app.t; create domain d as text check (value <> ''); select lo_create(0); \
             set statement_timeout = '10min'; set work_mem = '8MB'; vacuum",
        )
        .await
        .unwrap_or_else(|error| match error.code() {
            // VACUUM refuses a transaction, which several statements in one message are.
            Some(&SqlState::ACTIVE_SQL_TRANSACTION) => {}
            _ => panic!("{error:?}"),
        });
    session
        .batch_execute("create schema if not exists app; create table if not exists app.t (id int primary key)")
        .await
        .unwrap();
    session
        .batch_execute("create publication q for table app.t; create table if not exists public.w ()")
        .await
        .unwrap();
    assert_eq!(ask(&session, "select tableowner from pg_tables where tablename = 't'").await, tenant.owner());
    let trusted = "select distinct name::text from pg_available_extension_versions where trusted and not installed and name not like 'pl%' order by 1";
    let found = session.query(trusted, &[]).await.unwrap();
    assert!(world.version != 15 || found.len() > 10, "15 comes with contrib");
    for row in found {
        let name: String = row.get(0);
        let made = session.batch_execute(&format!("create extension \"{name}\" cascade")).await;
        made.unwrap_or_else(|error| panic!("trusted extension {name}: {error:?}"));
    }
}

pub async fn reads_nobodys_queries(world: &World, tenant: &Tenant, victim: &Tenant) {
    let theirs = victim.session().await;
    let pid = ask(&theirs, "select pg_backend_pid() /* the-neighbours-query */").await;
    let session = tenant.session().await;
    for role in ["", "set role none;"] {
        session.batch_execute(&format!("discard all; {role}")).await.ok();
        let see = format!("select coalesce(string_agg(query, ''), '') from pg_stat_activity where pid = {pid}");
        assert_eq!(ask(&session, &see).await, "<insufficient privilege>");
        let all = "select count(*)::text from pg_stat_activity where query like '%the-neighbours' || '-query%' and pid <> pg_backend_pid()";
        assert_eq!(ask(&session, all).await, "0");
        let others = "select count(*)::text from pg_stat_activity where usename is distinct from session_user and client_addr is not null";
        assert_eq!(ask(&session, others).await, "0", "addresses of others' clients");
    }
    // It is there for whoever may look.
    let admin = world.superuser("postgres").await;
    assert!(
        ask(&admin, &format!("select query from pg_stat_activity where pid = {pid}"))
            .await
            .contains("the-neighbours-query")
    );
}

pub async fn keeps_nothing_when_refused(world: &World, tenant: &Tenant) {
    for (refuse, admit) in [("suspend", "resume"), ("", "undelete")] {
        let sessions: Vec<Client> = vec![tenant.session().await, tenant.session().await];
        sessions[0].batch_execute("begin; set role none; create temp table mine (); listen x").await.unwrap();
        match refuse {
            "" => world.delete(tenant, false).await,
            verb => world.tell(tenant, verb).await,
        }
        for session in &sessions {
            assert!(session.simple_query("select 1").await.is_err(), "a session survived");
        }
        let error = tenant.connect().await.expect_err("a refused login is let in");
        assert_eq!(error.code(), Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION), "{error:?}");
        // The loop that restores logins does not restore this one.
        world.check().await;
        let admin = world.superuser("postgres").await;
        let may = format!(
            "select coalesce(string_agg(rolname, ','), '') from pg_roles where rolcanlogin and rolname in ('{}', '{}')",
            tenant.login(),
            tenant.maintenance()
        );
        assert_eq!(ask(&admin, &may).await, "");
        let left = format!("select count(*)::text from pg_stat_activity where datname = '{}'", tenant.database());
        world.until("nobody is left in its database", || async { ask(&admin, &left).await == "0" }).await;
        world.tell(tenant, admit).await;
        assert_eq!(ask(&tenant.session().await, "select current_user").await, tenant.owner());
    }
}

/// Row locks on its own role and database, held by transactions that never end: none of it stops a verb.
pub async fn cannot_resist_by_holding_on(world: &World, stubborn: &Tenant, deleted: &Tenant, purged: &Tenant) {
    for (tenant, verb) in [(stubborn, "suspend"), (deleted, "delete"), (purged, "purge")] {
        let mut held = Vec::new();
        for hold in [
            format!("alter role \"{}\" password 'mine'", tenant.login()),
            format!("grant connect on database \"{}\" to public", tenant.database()),
            format!("create schema mine; grant all on schema mine to \"{}\"", tenant.login()),
        ] {
            let session = tenant.session().await;
            session
                .batch_execute(&format!("set idle_in_transaction_session_timeout = 0; set role none; begin; {hold}"))
                .await
                .unwrap();
            held.push(session);
        }
        match verb {
            "suspend" => world.tell(tenant, verb).await,
            _ => world.delete(tenant, verb == "purge").await,
        }
        for session in held {
            assert!(session.simple_query("commit").await.is_err(), "{verb}: a session survived");
        }
        assert!(tenant.connect().await.is_err(), "{verb}");
    }
}
