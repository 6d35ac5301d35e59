//! There, and back, while it is written to.

use freehold_drivers::server::sql::moving::find_pg_dump;
use freehold_testkit::ZOO;

use crate::recipe::{Move, flip, follow_back, go_over, prepare, retire};
use crate::world::{World, ask, engines};
use crate::writer::Writers;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_pg15_to_pg15_and_stays() {
    there(15, 15).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_pg15_to_pg18_and_stays() {
    there(15, 18).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_pg18_to_pg18_and_stays() {
    there(18, 18).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_pg15_to_pg15_and_back() {
    back(15, 15).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_pg15_to_pg18_and_back() {
    back(15, 18).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_pg18_to_pg18_and_back() {
    back(18, 18).await;
}

async fn there(old: u32, new: u32) {
    let world = World::start(old, new, ZOO).await;
    let was = world.dump(&world.old);
    let empty = world.picture(&world.old).await;
    let mut writers = Writers::start(world.dsn_of_login(&world.old), 3);
    let mut plan = Move::new("1");
    prepare(&world).await;
    let (from, to) = (world.side(&world.old).await, world.side(&world.new).await);
    go_over(&world, &mut plan, &from, &to, &writers).await;
    writers.more(100).await;
    follow_back(&world, &plan, &from, &to).await;
    writers.more(100).await;
    writers.stop().await;

    // Kept: the old goes.
    from.unlink(&plan.back).await.unwrap();
    to.unpublish(&plan.back).await.unwrap();
    from.close().await;
    retire(&world, &plan, &to, &world.old).await;
    to.close().await;

    let session = world.login(&world.new).await;
    writers.check(&session).await;
    for (sql, want) in [
        ("select count(*) from scratch where x = 'scratch'", "100"),
        ("select n from \"App\".summed_more", "302"),
        ("select md5(lo_get(4712)) = md5(decode(repeat('00ff', 700000), 'hex'))", "t"),
        ("select nextval('\"App\".\"Odd \"\"seq\"')", "4"),
        ("select nextval('untouched')", "50"),
        ("select nextval('restarted')", "41"),
        ("select tgenabled from pg_trigger where tgname = 'audit'", "A"),
        ("select current_setting('app.tenant')", "it's"),
        ("show work_mem", "2MB"),
        ("show statement_timeout", "30s"),
        ("insert into \"App\".\"Orders\" (p) values (5) returning id || ' ' || n", "303 3120"),
    ] {
        assert_eq!(ask(&session, sql).await, want, "{sql}");
    }
    session.close().await;
    // Row security hides one even from its owner; not from whoever replicates.
    let superuser = world.new.connect(&world.tenant.database).await;
    let secrets: i64 = superuser.query_one("select count(*) from secrets", &[]).await.unwrap().get(0);
    assert_eq!(secrets, 2);
    let (was, is) = (told(&was), told(&world.dump(&world.new)));
    let lost: Vec<&String> = was.iter().filter(|line| !is.contains(line)).collect();
    let new: Vec<&String> = is.iter().filter(|line| !was.contains(line)).collect();
    assert!(lost.is_empty() && new.is_empty() && was.len() == is.len(), "{lost:#?}\n{new:#?}");
    // What the old server has left is what the new one had before.
    let left: Vec<String> = world
        .picture(&world.old)
        .await
        .into_iter()
        .filter(|line| line.contains("zoo") || line.contains("fh_"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    let now = world.picture(&world.new).await;
    let roles = |lines: &[String]| lines.iter().filter(|line| line.contains("role zoo")).cloned().collect::<Vec<_>>();
    assert_eq!(roles(&now).len(), roles(&empty).len());
    assert!(!now.iter().any(|line| line.contains("fh_") || line.contains("move_marker")), "{now:#?}");
    for cluster in [&world.old, &world.new] {
        for password in [&plan.reader, &plan.back_reader] {
            assert!(!cluster.log().contains(password.expose()), "a password is in the log");
        }
    }
}

async fn back(old: u32, new: u32) {
    let world = World::start(old, new, ZOO).await;
    let (was, empty) = (world.dump(&world.old), (world.picture(&world.old).await, world.picture(&world.new).await));
    let mut writers = Writers::start(world.dsn_of_login(&world.old), 3);
    let mut plan = Move::new("2");
    prepare(&world).await;
    let (from, to) = (world.side(&world.old).await, world.side(&world.new).await);
    go_over(&world, &mut plan, &from, &to, &writers).await;
    follow_back(&world, &plan, &from, &to).await;
    let session = world.login(&world.new).await;
    session
        .execute_script("select lo_unlink(4711); select lo_from_bytea(4713, 'new'); insert into scratch values (500, ''); select nextval('untouched'); update \"App\".\"Orders\" set body = 'new' where p = 7")
        .await
        .unwrap();
    session.close().await;
    writers.more(100).await;

    // A neighbour's open transaction does not hold the way back up: its slot is there.
    let neighbour = world.new.connect("postgres").await;
    neighbour.batch_execute("begin; create table neighbours (n int)").await.unwrap();
    let back = plan.back.clone();
    flip(&world, &mut plan, &to, &from, &back, None).await;
    writers.go_to(world.dsn_of_login(&world.old));
    neighbour.batch_execute("rollback").await.unwrap();
    drop(neighbour);
    writers.more(100).await;
    writers.stop().await;
    for _ in 0..2 {
        from.unlink(&plan.back).await.unwrap();
        to.unpublish(&plan.back).await.unwrap();
    }
    to.close().await;
    retire(&world, &plan, &from, &world.new).await;
    from.close().await;

    let session = world.login(&world.old).await;
    writers.check(&session).await;
    for (sql, want) in [
        ("select count(*) from scratch", "101"),
        ("select count(*) from scratch where x = 'sprung'", "1"),
        ("select nextval('untouched')", "51"),
        ("select string_agg(oid::text, ' ' order by oid) from pg_largeobject_metadata", "4712 4713"),
        ("select tgenabled from pg_trigger where tgname = 'audit'", "A"),
        ("select body from \"App\".\"Orders\" where p = 7", "new"),
    ] {
        assert_eq!(ask(&session, sql).await, want, "{sql}");
    }
    session.close().await;
    assert_eq!(told(&world.dump(&world.old)), told(&was));
    assert_eq!((world.picture(&world.old).await, world.picture(&world.new).await), empty);
}

/// Of a dump all but lines that cannot be equal, each for a reason.
fn told(dump: &str) -> Vec<String> {
    dump.lines()
        // Comments of the dump itself.
        .filter(|line| !line.starts_with("--"))
        // From 16 on a view over one table prints its columns without that table's name.
        .map(|line| ["\"Orders\".", "o.", "summed."].iter().fold(line.to_owned(), |line, name| line.replace(name, "")))
        .collect()
}

#[test]
fn moving_takes_the_oldest_pg_dump_that_fits() {
    assert_eq!(find_pg_dump(&engines(), 150_013).unwrap().major, 15);
    assert_eq!(find_pg_dump(&engines(), 180_001).unwrap().major, 18);
    let error = find_pg_dump(&engines(), 990_000).unwrap_err().to_string();
    assert!(error.contains("no pg_dump of PostgreSQL 99") && error.contains("apt-get install"), "{error}");
}
