//! Workers that really die, or are stopped past their lease. The process that takes over has no faults armed.

use std::process::{Child, Command};
use std::time::Duration;

use freehold_durable::{New, State};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::toy::{Step, Toy, World, all, builder, connect, ends, over, run};

/// Not a test: the worker process of the tests below, which call it by its name.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the other tests, as a process of its own"]
async fn worker() {
    let dsn = std::env::var("TOY_STORE").expect("called by a test");
    let pool = connect(&dsn).await;
    let engine = builder(pool.clone()).register(Toy { kind: "toy" }).build();
    let mut tx = pool.begin().await.expect("begin");
    let new =
        New { subject: Some(std::env::var("TOY_SUBJECT").expect("called by a test")), ..New::of("toy", Step::First) };
    let started = engine.start::<Toy>(&mut tx, new).await.expect("start");
    tx.commit().await.expect("commit");
    let id = started.id;
    engine.go(started);
    over(&engine, id).await;
}

fn spawn_worker(world: &World, subject: &str, faults: &str) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "crash::worker", "--ignored"])
        .env("TOY_STORE", &world.dsn)
        .env("TOY_SUBJECT", subject)
        .env("FREEHOLD_FAULTS", faults)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("spawn the worker")
}

/// Whoever finishes what it began would take it from one that is slow to start, too.
async fn until_stopped(worker: &Child) {
    for _ in 0..1500 {
        if freehold_testkit::is_stopped(worker.id()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the worker did not stop");
}

async fn of_subject(world: &World, subject: &str) -> uuid::Uuid {
    for _ in 0..500 {
        let id = sqlx::query_scalar("select id from operation where subject = $1")
            .bind(subject)
            .fetch_optional(&world.pool)
            .await
            .unwrap();
        if let Some(id) = id {
            return id;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the worker started nothing for {subject}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_a_kill_at_every_point_loses_nothing_and_leaks_nothing() {
    let world = World::new().await;
    let mut workers = Vec::new();
    for step in ["First", "Second", "Third", "UndoThird", "UndoSecond", "UndoFirst"] {
        for point in ["before", "after", "recorded"] {
            let undo = step.starts_with("Undo");
            let way = if undo { "toy/Third/after=permanent," } else { "" };
            let subject = format!("{step}/{point}");
            let worker = spawn_worker(&world, &subject, &format!("{way}toy/{subject}=kill"));
            workers.push((undo, subject, worker));
        }
    }
    // All of them first: who finishes what they began would take it from one that is slow to start, too.
    for (_, subject, worker) in &mut workers {
        let status = worker.wait().expect("the worker ends");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::SIGKILL as i32), "{subject}");
    }
    let (engine, _guard) = world.running();
    for (undo, subject, _) in workers {
        let id = of_subject(&world, &subject).await;
        let row = over(&engine, id).await;
        let effects = world.effects(id).await;
        match (undo, row.state) {
            (false, State::Succeeded) => assert_eq!(effects, all(), "{subject}"),
            (true, State::Failed) => assert!(effects.is_empty(), "{subject}"),
            other => panic!("{subject}: {other:?} {row:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_a_worker_stopped_past_its_lease_records_nothing() {
    let world = World::new().await;
    let mut worker = spawn_worker(&world, "stopped", "toy/Second/after=stop*1");
    until_stopped(&worker).await;
    let (engine, _guard) = world.running();
    let id = of_subject(&world, "stopped").await;
    let done = ends(&engine, id, State::Succeeded).await;
    assert_eq!(done.epoch, 2, "{done:?}");
    kill(Pid::from_raw(i32::try_from(worker.id()).unwrap()), Signal::SIGCONT).unwrap();
    assert!(worker.wait().unwrap().success());
    assert_eq!(engine.get(id).await.unwrap().unwrap(), done);
    assert_eq!(world.effects(id).await, all());
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_two_engines_share_the_work_and_either_may_go() {
    let world = World::new().await;
    let first = world.engine();
    let second = world.engine();
    let (first_guard, _second_guard) = (run(&first), run(&second));
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(world.queue::<Toy>(&first, New::of("toy", Step::First)).await);
    }
    drop(first_guard);
    for id in ids {
        ends(&second, id, State::Succeeded).await;
        assert_eq!(world.effects(id).await, all());
    }
}
