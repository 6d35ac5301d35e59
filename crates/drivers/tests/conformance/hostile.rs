//! What a tenant tries, and what must come of it.

use freehold_drivers::server::sql::{Session, SqlErrorKind};

use crate::bench::{Bench, Engine, Power, ask};

pub async fn neighbours_and_system_databases_refuse_a_tenant(bench: &Bench) {
    let (one, two) = (bench.tenant("one").await, bench.tenant("two").await);
    for (who, own, foreign) in [(&one, &one, &two), (&two, &two, &one)] {
        let dsn = bench.dsn_of(who);
        assert!(Session::connect(&dsn, Some(&own.database), "app", &[]).await.is_ok());
        for database in [foreign.database.as_str(), "postgres", "template1"] {
            let error = Session::connect(&dsn, Some(database), "app", &[]).await.err().unwrap();
            assert_eq!(error.kind, SqlErrorKind::Privilege, "{database}: {error}");
        }
    }
    // Somebody opens a database: found again by whoever may not close it, closed by whoever may.
    bench.superuser_in("postgres").await.execute_script("GRANT CONNECT ON DATABASE template1 TO PUBLIC").await.unwrap();
    let findings = bench.admin().await.secure_server().await.unwrap();
    let open: Vec<_> = findings.iter().map(|finding| finding.code).collect();
    match bench.power {
        Power::Superuser => assert!(open.is_empty()),
        Power::Weak => assert_eq!(open, ["database_open_to_public"]),
    }
}

pub async fn a_login_cannot_raise_itself_but_can_do_its_work(bench: &Bench) {
    let tenant = bench.tenant("mallory").await;
    bench.tenant("victim").await;
    let session = bench.login(&tenant).await.unwrap();
    let database = "\"mallory db\"";
    for role in ["", "set role none;"] {
        for sql in [
            "create role r",
            "create database d",
            &format!("grant connect on database {database} to public"),
            &format!("alter database {database} connection limit 99"),
            &format!("alter database {database} set work_mem = '1GB'"),
            &format!("drop database {database}"),
            "alter role mallory connection limit 99",
            "alter role mallory set temp_file_limit = '99GB'",
            "set temp_file_limit = '99GB'",
            "alter role mallory valid until 'infinity'",
            "alter role mallory superuser",
            "grant \"mallory owner\" to \"victim owner\"",
            "alter role \"mallory maint\" password 'x'",
            "set role \"victim owner\"",
            "set role \"mallory maint\"",
            "grant \"victim owner\" to mallory",
            "set session authorization \"mallory owner\"",
            "select * from freehold.note",
            "drop schema freehold cascade",
            "alter schema freehold owner to mallory",
            "select pg_read_file('PG_VERSION')",
            "copy (select 1) to program 'true'",
            "select rolpassword from pg_authid",
        ] {
            session.execute_script("discard all").await.unwrap();
            let outcome = session.execute_script(&format!("{role}{sql}")).await;
            // PostgreSQL answers some grants that do nothing with a warning: then nothing must have changed.
            if let Ok(()) = outcome {
                assert!(sql.starts_with("grant connect"), "{role}{sql} was allowed");
            }
            let _ = session.execute_script("rollback").await;
        }
    }
    session.execute_script("discard all").await.unwrap();
    let observed = bench.admin().await.observe(&["mallory"], &["mallory db"]).await.unwrap();
    assert!(!observed.databases[0].public_connect && observed.roles[0].conn_limit == 5);
    assert_eq!(observed.databases[0].conn_limit, -1);

    session
        .execute_script(
            "create schema app; create table app.t (id int primary key); create table public.u (); create temp table x (); \
             create publication p for table app.t; create function app.f() returns int language plpgsql as 'begin return 1; end'",
        )
        .await
        .unwrap();
    if bench.engine == Engine::Pg15 {
        session.execute_script("create extension hstore").await.unwrap();
    }
    assert_eq!(ask(&session, "select tableowner from pg_tables where tablename = 't'").await, "mallory owner");
}

pub async fn a_login_that_altered_itself_is_restored(bench: &Bench) {
    let tenant = bench.tenant("own").await;
    let admin = bench.admin().await;
    let session = bench.login(&tenant).await.unwrap();
    session
        .execute_script(
            "set role none; alter role own password 'mine'; alter role own set role = 'none'; alter role own set work_mem = '1GB'; \
             alter role own set application_name = 'x'; alter role own in database \"own db\" set role = 'none'",
        )
        .await
        .unwrap();
    session.close().await;
    bench.superuser_in("postgres").await.execute_script("create role stray; grant stray to own").await.unwrap();
    if bench.power == Power::Weak {
        let grant = match bench.engine {
            Engine::Pg15 => "select 1",
            Engine::Pg18 => {
                "grant stray to \"weak-admin\" with admin option; revoke stray from own; set role \"weak-admin\"; grant stray to own"
            }
        };
        bench.superuser_in("postgres").await.execute_script(grant).await.unwrap();
    }
    assert_eq!(bench.login(&tenant).await.err().unwrap().kind, SqlErrorKind::AuthFailed);

    let seen = admin.observe(&["own"], &[]).await.unwrap();
    assert_eq!(seen.roles[0].config_in["own db"], ["role=none"]);
    assert!(seen.roles[0].member_of.contains(&"stray".to_owned()));
    for _ in 0..2 {
        admin.restore_login(&tenant.roles, &tenant.verifier, &tenant.limits, true).await.unwrap();
    }
    let session = bench.login(&tenant).await.unwrap();
    assert_eq!(ask(&session, "select current_user").await, "own owner");
    assert_eq!(ask(&session, "show work_mem").await, "2MB");
    let role = admin.observe(&["own"], &[]).await.unwrap().roles.remove(0);
    assert!(role.config_in.is_empty() && role.member_of == ["own owner"]);
    assert!(!role.config.iter().any(|entry| entry.starts_with("application_name")), "{:?}", role.config);
    admin.restore_login(&tenant.roles, &tenant.verifier, &tenant.limits, false).await.unwrap();
    assert_eq!(bench.login(&tenant).await.err().unwrap().kind, SqlErrorKind::AuthFailed);
}

pub async fn what_was_made_as_the_login_becomes_the_owners(bench: &Bench) {
    let tenant = bench.tenant("made").await;
    let session = bench.login(&tenant).await.unwrap();
    session
        .execute_script("set role none; create schema mine; create table mine.t (); create type mine.e as enum ('a')")
        .await
        .unwrap();
    let inside = bench.admin_in(&tenant.database).await;
    let seen = inside.observe_all().await.unwrap();
    assert_eq!(seen.owned_as_login, [("made".to_owned(), "made db".to_owned())]);
    for _ in 0..2 {
        inside.reassign_from_login("made", "made owner").await.unwrap();
    }
    assert!(inside.observe(&["made"], &[]).await.unwrap().owned_as_login.is_empty());
    assert_eq!(ask(&session, "select tableowner from pg_tables where tablename = 't'").await, "made owner");
}

pub async fn the_note_is_never_written_into_a_tenants_trap(bench: &Bench) {
    let tenant = bench.tenant("trap").await;
    let inside = bench.admin_in(&tenant.database).await;
    inside.write_note(b"true").await.unwrap();
    bench.superuser_in(&tenant.database).await.execute_script("drop schema freehold cascade").await.unwrap();
    let session = bench.login(&tenant).await.unwrap();
    session
        .execute_script(
            "create schema freehold; create table freehold.note (id int primary key, written_at timestamptz, sealed bytea); \
             create function freehold.f() returns trigger language plpgsql as $$ begin execute 'create role boo'; return new; end $$; \
             create trigger t before insert on freehold.note for each row execute function freehold.f()",
        )
        .await
        .unwrap();
    assert_eq!(inside.write_note(b"x").await.unwrap_err().kind, SqlErrorKind::Missing);
    assert_eq!(inside.read_note().await.unwrap(), None);
    assert!(!inside.role_exists("boo").await.unwrap());
}
