//! What is compared under the fence: within its time, whatever becomes of the tables in between.

use std::time::{Duration, Instant};

use freehold_drivers::server::sql::moving::Part;

use crate::recipe::prepare;
use crate::world::World;

const WITHIN: Duration = Duration::from_millis(20);
const LATE: Duration = Duration::from_millis(500);
/// One that changes, one that nothing is known of, one with a key that cuts it, one that is too large without, one in another schema.
const TABLES: &str = "create table busy (id int primary key, v text); insert into busy select g, 'v' from generate_series(1, 100) g; \
    create table newest (id bigserial primary key, v text); insert into newest (v) select 'v' from generate_series(1, 300000) g; \
    create table large (v text); insert into large select 'v' || g from generate_series(1, 300000) g; \
    create schema \"App\"; create table \"App\".\"Odd\" (k uuid primary key, n numeric); insert into \"App\".\"Odd\" select gen_random_uuid(), g from generate_series(1, 50) g; \
    create table empty (id int primary key)";

/// Both sides with the same rows, without any replication.
pub async fn twins(old: u32, new: u32, tables: &str) -> World {
    let world = World::start(old, new, tables).await;
    prepare(&world).await;
    let (from, to) = (world.side(&world.old).await, world.side(&world.new).await);
    to.carry_schema(&from, &world.pg_dump, Part::PreData).await.unwrap();
    to.stream(&from, 2).await.unwrap();
    to.carry_schema(&from, &world.pg_dump, Part::PostData).await.unwrap();
    for side in [&from, &to] {
        side.analyze().await.unwrap();
    }
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_pg15_to_pg18_compares_what_fits_under_the_fence() {
    let world = twins(15, 18, TABLES).await;
    let (from, to) = (world.side(&world.old).await, world.side(&world.new).await);
    let superuser = world.new.connect(&world.tenant.database).await;
    // Enough time for all that is tried at all: all but the large one.
    let plenty = Duration::from_secs(5);
    let equal = from.prepare_glance(&to, plenty).await.unwrap();
    let seen = equal.compare(plenty).await.unwrap();
    assert_eq!((seen.parts, seen.differ.as_slice()), (4, [].as_slice()));
    equal.leave();

    for (bend, found) in [
        ("update busy set v = 'bent' where id = 7", Some("\"public\".\"busy\"")),
        ("insert into \"App\".\"Odd\" values (gen_random_uuid(), 7)", Some("\"App\".\"Odd\"")),
        ("insert into empty values (1)", Some("\"public\".\"empty\"")),
        ("update newest set v = 'bent' where id = 299999", Some("\"public\".\"newest\"")),
        // Of others only what there is time for is read; the look after the fence finds these.
        ("update newest set v = 'bent' where id = 7", None),
        ("update large set v = 'bent' where v = 'v7'", None),
    ] {
        let glance = from.prepare_glance(&to, plenty).await.unwrap();
        superuser.batch_execute(&format!("begin; {bend}")).await.unwrap();
        superuser.batch_execute("commit").await.unwrap();
        let seen = glance.compare(plenty).await.unwrap();
        assert_eq!(seen.differ, found.into_iter().collect::<Vec<_>>(), "{bend}");
        glance.leave();
        // As it was.
        for sql in ["truncate empty", "update busy set v = 'v'", "update newest set v = 'v' where v <> 'v'"] {
            superuser.batch_execute(sql).await.unwrap();
        }
        superuser.batch_execute("truncate \"App\".\"Odd\"").await.unwrap();
        world.old.connect(&world.tenant.database).await.batch_execute("truncate \"App\".\"Odd\"").await.unwrap();
    }
}

/// Larger by a thousand times since it was tried, and locked: whoever waits does not wait for longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_gives_up_what_takes_longer_under_the_fence_than_it_did() {
    let world = twins(15, 15, TABLES).await;
    let (from, to) = (world.side(&world.old).await, world.side(&world.new).await);
    let grows = "insert into busy select g, 'v' from generate_series(101, 1000000) g";
    let superusers = [world.old.connect(&world.tenant.database).await, world.new.connect(&world.tenant.database).await];
    let grown = from.prepare_glance(&to, WITHIN).await.unwrap();
    for superuser in &superusers {
        superuser.batch_execute(grows).await.unwrap();
    }
    let began = Instant::now();
    let seen = grown.compare(WITHIN).await.unwrap();
    // To read it takes seconds; and the clock of a machine that is busy with other things has some more.
    assert!(began.elapsed() < LATE, "{:?}", began.elapsed());
    assert_eq!(seen.differ, Vec::<String>::new());
    grown.leave();

    // Whoever holds a table locked keeps nobody, neither before nor under it.
    superusers[1].batch_execute("begin; lock table empty in access exclusive mode").await.unwrap();
    let began = Instant::now();
    let locked = from.prepare_glance(&to, WITHIN).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    superusers[1].batch_execute("rollback; begin; lock table \"App\".\"Odd\" in access exclusive mode").await.unwrap();
    let began = Instant::now();
    locked.compare(WITHIN).await.unwrap();
    assert!(began.elapsed() < LATE, "{:?}", began.elapsed());
    locked.leave();
    superusers[1].batch_execute("rollback").await.unwrap();
}
