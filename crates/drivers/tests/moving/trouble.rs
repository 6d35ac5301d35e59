//! What goes wrong in the middle, and how it is told.

use std::time::{Duration, Instant};

use freehold_drivers::pooler::Verifier;
use freehold_drivers::secrets::scram_verifier;
use freehold_drivers::server::sql::moving::{Content, Part, Side};
use tokio::time::sleep;

use crate::recipe::{LONG, Move, caught_up, prepare, reader_dsn};
use crate::world::World;

const SMALL: &str =
    "create table t (id int primary key, v text); insert into t select g, 'v' from generate_series(1, 1000) g";

/// Subscribed, and not enabled yet. Answers the subscription's oid.
async fn subscribed(world: &World, plan: &Move, old: &Side, new: &Side) -> u32 {
    new.carry_schema(old, &world.pg_dump, Part::First).await.unwrap();
    old.ensure_marker().await.unwrap();
    new.ensure_marker().await.unwrap();
    old.publish(&plan.there).await.unwrap();
    assert_eq!(old.published(&plan.there).await.unwrap(), 2);
    old.ensure_reader(&plan.there, &Verifier::parse(scram_verifier(&plan.reader)).unwrap()).await.unwrap();
    old.create_slot(&plan.there, LONG).await.unwrap();
    let from = reader_dsn(world, &world.old, &plan.there, &plan.reader);
    new.subscribe(&plan.there, &from, Content::Copied).await.unwrap()
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is().await {
        assert!(Instant::now() < deadline, "{what} does not happen");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_to_a_server_that_dies_leaves_no_slot_at_the_source() {
    // A copy that takes a minute.
    let slow = "create function slow(int) returns bool language sql as 'select true'; create table t (id int primary key check (slow(id))); \
                insert into t select generate_series(1, 1200); create or replace function slow(int) returns bool language plpgsql as \
                $$ begin perform pg_catalog.pg_sleep(0.05); return true; end $$";
    let mut world = World::start(15, 15, slow).await;
    let before = world.picture(&world.old).await;
    let plan = Move::new("dead");
    prepare(&world).await;
    let (old, new) = (world.side(&world.old).await, world.side(&world.new).await);
    let oid = subscribed(&world, &plan, &old, &new).await;
    new.enable(&plan.there).await.unwrap();
    until("the copy", async || {
        new.progress(&plan.there).await.unwrap().ready == 1
            && world.picture(&world.old).await.iter().any(|line| line.starts_with(&format!("slot pg_{oid}_sync_")))
    })
    .await;
    world.new.kill();
    until("the end of its sessions", async || {
        old.unpublish(&plan.there).await.unwrap();
        old.drop_slots_of_copies(oid).await.unwrap();
        !world.picture(&world.old).await.iter().any(|line| line.starts_with("slot "))
    })
    .await;
    old.remove_marker().await.unwrap();
    assert_eq!(world.picture(&world.old).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_tells_of_a_worker_that_fails_and_of_none() {
    let world = World::start(15, 18, SMALL).await;
    let plan = Move::new("conflict");
    prepare(&world).await;
    let (old, new) = (world.side(&world.old).await, world.side(&world.new).await);
    assert_eq!(new.progress(&plan.there).await.unwrap_err().code(), "object_missing");
    assert_eq!(old.slot_seen(&plan.there).await.unwrap_err().code(), "object_missing");
    subscribed(&world, &plan, &old, &new).await;
    let progress = new.progress(&plan.there).await.unwrap();
    assert_eq!((progress.tables, progress.is_ready()), (2, false));
    assert_eq!(progress.hindered.as_deref(), Some("the subscription is disabled"));
    new.enable(&plan.there).await.unwrap();
    caught_up(&world, &plan.there, &new).await;
    // A row that was changed is found, and where.
    old.analyze().await.unwrap();
    let ranges = old.ranges(100).await.unwrap();
    assert!(ranges.len() > 9, "{ranges:?}");
    assert_eq!(old.settle(&new, &ranges, LONG).await.unwrap(), []);
    new.maintenance.execute_script("update public.t set v = 'w' where id = 777").await.unwrap();
    let wrong = old.settle(&new, &ranges, Duration::ZERO).await.unwrap();
    let keys = wrong[0].keys.as_ref().unwrap();
    assert!(wrong.len() == 1 && keys.from.unwrap() <= 777 && 777 < keys.to.unwrap(), "{wrong:?}");
    new.maintenance.execute_script("update public.t set v = 'v' where id = 777").await.unwrap();
    // A row that is there already.
    new.maintenance.execute_script("insert into public.t values (5000, 'mine')").await.unwrap();
    world.login(&world.old).await.execute_script("insert into t values (5000, 'theirs')").await.unwrap();
    until("the error", async || {
        let progress = new.progress(&plan.there).await.unwrap();
        progress.errors > 0
            && (progress.applies || progress.hindered.is_some_and(|why| why.contains("ended with an error")))
    })
    .await;
    assert!(old.slot_seen(&plan.there).await.unwrap().lag_bytes > 0);
    // It goes on once the reason is gone.
    new.maintenance.execute_script("delete from public.t where id = 5000").await.unwrap();
    let theirs = "select count(*) from public.t where v = 'theirs'";
    until("the row", async || crate::world::ask(&new.maintenance, theirs).await == "1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_names_a_slot_that_the_server_gave_up() {
    let world = World::start(15, 15, SMALL).await;
    let plan = Move::new("lost");
    let old = world.side(&world.old).await;
    old.create_slot(&plan.there, LONG).await.unwrap();
    assert!(!old.slot_seen(&plan.there).await.unwrap().active);
    let superuser = world.old.connect("postgres").await;
    superuser.batch_execute("alter system set max_slot_wal_keep_size = '1MB'").await.unwrap();
    superuser.batch_execute("select pg_reload_conf()").await.unwrap();
    until("the loss", async || {
        for sql in
            ["select pg_logical_emit_message(false, 'x', repeat('x', 1000000))", "select pg_switch_wal()", "checkpoint"]
        {
            superuser.batch_execute(sql).await.unwrap();
        }
        old.slot_seen(&plan.there).await.is_err()
    })
    .await;
    let error = old.slot_seen(&plan.there).await.unwrap_err().to_string();
    assert!(error.contains("gave it up (wal_removed)") && error.contains("max_slot_wal_keep_size"), "{error}");
    old.drop_slot(&plan.there).await.unwrap();
}
