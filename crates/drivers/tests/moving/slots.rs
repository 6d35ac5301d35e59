//! What waits, and what is noticed.

use std::time::Duration;

use freehold_drivers::server::sql::moving::{Link, Part};

use crate::recipe::SOON;
use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_names_the_transactions_that_hold_a_slot_up() {
    let world = World::start(15, 15, "create table t (id int primary key)").await;
    let neighbour = world.old.connect("postgres").await;
    neighbour.batch_execute("create table n (i int); begin; insert into n values (1)").await.unwrap();
    let pid: i32 = neighbour.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let old = world.side(&world.old).await;
    let link = Link::there("slot").unwrap();
    let error = old.create_slot(&link, Duration::from_millis(700)).await.unwrap_err();
    assert!(error.is_transient());
    let told = error.to_string();
    assert!(told.contains(&format!("{pid} (admin in postgres, for ")) && told.contains("try again later"), "{told}");
    assert!(world.picture(&world.old).await.iter().all(|line| !line.starts_with("slot ")));
    neighbour.batch_execute("rollback").await.unwrap();
    old.create_slot(&link, SOON).await.unwrap();
    old.drop_slot(&link).await.unwrap();
    old.drop_slot(&link).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_notices_a_changed_schema_and_names_it() {
    let world = World::start(
        15,
        15,
        "create sequence s; create table t (id int primary key, v text); create function f() returns int language sql as 'select 1'",
    )
    .await;
    let old = world.side(&world.old).await;
    let before = old.fingerprint().await.unwrap();
    let session = world.login(&world.old).await;
    session.execute_script("insert into t values (1, 'x'); analyze t; vacuum t; truncate t").await.unwrap_err();
    let state = old.schema_state().await.unwrap();
    for sql in ["insert into t values (2, 'x')", "analyze t", "vacuum t", "select nextval('s')"] {
        session.execute_script(sql).await.unwrap();
    }
    assert_eq!(old.schema_state().await.unwrap(), state);
    for sql in ["insert into t values (1, 'x')", "analyze t", "vacuum full t", "truncate t", "reindex table t"] {
        session.execute_script(sql).await.unwrap();
    }
    assert_eq!(old.fingerprint().await.unwrap().changed_since(&before), Vec::<String>::new());
    for (sql, named) in [
        ("alter table t add column w int", "column public.t.w"),
        ("create index i on t (v)", "index public.i"),
        ("create or replace function f() returns int language sql as 'select 2'", "function public.f()"),
        ("create table new (n int)", "table public.new"),
        ("alter table t alter v set default 'd'", "column public.t.v"),
        ("grant insert on t to zoo_reporting", "table public.t"),
        ("create view w as select 1 as one", "view public.w"),
        ("drop table t", "column public.t.id"),
    ] {
        let state = old.schema_state().await.unwrap();
        session.execute_script(sql).await.unwrap();
        assert_ne!(old.schema_state().await.unwrap(), state, "{sql}");
        let changed = old.fingerprint().await.unwrap().changed_since(&before);
        assert!(changed.iter().any(|what| what == named), "{sql}: {changed:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_names_what_cannot_be_restored() {
    let world = World::start(15, 15, "create table t (id int primary key)").await;
    let superuser = world.old.connect(&world.tenant.database).await;
    superuser.batch_execute("create table of_another (n int)").await.unwrap();
    crate::recipe::prepare(&world).await;
    let (old, new) = (world.side(&world.old).await, world.side(&world.new).await);
    let error = new.carry_schema(&old, &world.pg_dump, Part::First).await.unwrap_err().to_string();
    assert!(error.contains("of_another"), "{error}");
    superuser
        .batch_execute(
            "drop table of_another; create table doc (j json); create role stranger; grant select on t to stranger",
        )
        .await
        .unwrap();
    let error = old.plan_identities().await.unwrap_err().to_string();
    assert!(error.contains("public.doc has no key") && error.contains("j (json)"), "{error}");
    superuser.batch_execute("drop table doc").await.unwrap();
    let error = new.carry_schema(&old, &world.pg_dump, Part::First).await.unwrap_err().to_string();
    assert!(error.contains("restore ACL public.TABLE t") && error.contains("\"stranger\" does not exist"), "{error}");
}
