//! What one operation goes through.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use freehold_durable::{ControlError, Filter, New, Resolution, StartError, State, fault};
use futures::StreamExt;

use crate::toy::{Act, NAPPED, Play, Step, Toy, World, all, code, ends, over, play};

#[tokio::test(flavor = "multi_thread")]
async fn story_runs_at_once_in_the_process_that_started_it() {
    let world = World::new().await;
    let engine = world.engine();
    let id = world.go::<Toy>(&engine, New::of("toy", Step::First)).await;
    let row = ends(&engine, id, State::Succeeded).await;
    assert_eq!(row.epoch, 1, "nobody had to claim it");
    assert!(row.finished_at.is_some() && row.lease_until.is_none());
    assert_eq!(world.effects(id).await, all());
    let events: Vec<_> = engine.events(id, 0).await.unwrap().into_iter().map(|event| event.kind).collect();
    assert_eq!(events, ["started", "step", "step", "finished"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn story_retries_and_sleeps() {
    let world = World::new().await;
    let (engine, _guard) = world.running();
    for what in ["twice", "again", "refuse to record"] {
        let id = world.queue::<Play>(&engine, play(what)).await;
        let row = ends(&engine, id, State::Succeeded).await;
        assert_eq!(row.error, None);
        assert!(!world.effects(id).await.contains("half"), "a refused record takes all of itself back");
    }
}

/// What waits says for what, is no failure, is woken when it is there, and says it again when its time is up.
#[tokio::test(flavor = "multi_thread")]
async fn story_waits_for_something_and_is_roused() {
    let world = World::new().await;
    let (engine, _guard) = world.running();
    let id = world.queue::<Play>(&engine, play("waits")).await;
    let late = New { deadline: Some(Duration::from_secs(2)), ..play("waits") };
    let late = world.queue::<Play>(&engine, late).await;
    let row = loop {
        let row = engine.get(id).await.unwrap().unwrap();
        if row.state == State::Waiting {
            break row;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((code(&row), row.attempt), ("told", 0), "it waits, and nothing failed");
    let mut tx = world.pool.begin().await.unwrap();
    sqlx::query("insert into effect values ($1, 'it is there')").bind(id).execute(&mut *tx).await.unwrap();
    engine.rouse_in(&mut tx, "play", "Play").await.unwrap();
    tx.commit().await.unwrap();
    let row = ends(&engine, id, State::Succeeded).await;
    assert_eq!(row.error, None);
    let row = ends(&engine, late, State::Failed).await;
    assert_eq!(code(&row), "timed_out");
    assert!(row.failed_error.unwrap().message.contains("until it is there"));
}

#[tokio::test(flavor = "multi_thread")]
async fn story_survives_the_death_of_the_store() {
    let mut world = World::new().await;
    let (engine, _guard) = world.running();
    let mut ids = Vec::new();
    for what in ["nap", "two steps"] {
        ids.push(world.go::<Play>(&engine, play(what)).await);
    }
    world.cluster.stop_immediate();
    world.cluster.start_again();
    for id in ids {
        let row = loop {
            // The first statement may meet a connection that died with the store.
            match engine.wait(id, crate::toy::LONG).await {
                Ok(row) => break row.expect("over in time"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        assert_eq!(row.state, State::Succeeded);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn story_permanent_failure_is_undone_and_keeps_its_reason() {
    let world = World::new().await;
    let (engine, _guard) = world.running();
    fault::arm("toy/Third/before=permanent*1,toy/UndoSecond/after=fail*1");
    let id = world.go::<Toy>(&engine, New::of("toy", Step::First)).await;
    let row = ends(&engine, id, State::Failed).await;
    assert_eq!((code(&row), row.undo_reason.as_deref()), ("fault", Some("failed")));
    assert!(row.error.unwrap().message.contains("Third"), "the original error, not the undo's");
    assert!(world.effects(id).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn story_permanent_failure_in_an_undo_is_stuck_and_holds_its_subject() {
    let world = World::new().await;
    let (engine, _guard) = world.running();
    fault::arm("toy/Second/before=permanent*1,toy/UndoFirst/before=permanent*1");
    let new = || New { subject: Some("thing".into()), ..New::of("toy", Step::First) };
    let id = world.go::<Toy>(&engine, new()).await;
    ends(&engine, id, State::Stuck).await;
    match world.start::<Toy>(&engine, new()).await.err() {
        Some(StartError::Busy { operation, kind }) => {
            assert_eq!((operation, kind.as_str()), (id, "toy"))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(engine.oldest_stuck().await.unwrap().unwrap().id, id);
    engine.retry(id).await.unwrap();
    ends(&engine, id, State::Failed).await;
    assert!(world.effects(id).await.is_empty());
    assert!(world.start::<Toy>(&engine, new()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn story_failure_without_an_undo_tells_the_owner() {
    let world = World::new().await;
    let engine = world.engine();
    let id = world.go::<Play>(&engine, play("permanent")).await;
    let row = ends(&engine, id, State::Failed).await;
    assert_eq!(code(&row), "told");
    assert!(world.effects(id).await.contains("told of the failure"));
    assert!(matches!(engine.retry(id).await, Err(ControlError::WrongState { now: State::Failed })));
    assert!(matches!(engine.cancel(id).await, Err(ControlError::WrongState { now: State::Failed })));
    assert!(matches!(engine.cancel(uuid::Uuid::now_v7()).await, Err(ControlError::NotFound)));
}

#[tokio::test(flavor = "multi_thread")]
async fn story_stuck_is_retried_or_resolved() {
    let world = World::new().await;
    let (engine, _guard) = world.running();
    let retried = world.go::<Play>(&engine, play("stuck")).await;
    ends(&engine, retried, State::Stuck).await;
    assert!(world.effects(retried).await.contains("parked"));
    sqlx::query("update operation set attempt = 7 where id = $1").bind(retried).execute(&world.pool).await.unwrap();
    engine.retry(retried).await.unwrap();
    ends(&engine, retried, State::Stuck).await;
    let row = engine.resolve(retried, Resolution::Failed, None).await.unwrap();
    assert_eq!(row.state, State::Failed);
    assert!(world.effects(retried).await.contains("resolved Failed"));
    assert!(matches!(engine.resolve(retried, Resolution::Failed, None).await, Err(ControlError::WrongState { .. })));
    let cancelled = world.go::<Play>(&engine, play("stuck")).await;
    ends(&engine, cancelled, State::Stuck).await;
    engine.cancel(cancelled).await.unwrap();
    world.until(&engine, cancelled, |row| row.state == State::Cancelled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn story_cancel_wakes_a_sleeper_and_stops_between_steps() {
    let world = World::new().await;
    let (engine, _guard) = world.running();
    let asleep = world.go::<Play>(&engine, play("asleep")).await;
    world.until(&engine, asleep, |row| row.state == State::Waiting).await;
    engine.cancel(asleep).await.unwrap();
    ends(&engine, asleep, State::Cancelled).await;

    fault::arm("toy/Second/before=sleep:400*1");
    let between = world.go::<Toy>(&engine, New::of("toy", Step::First)).await;
    world.until(&engine, between, |row| row.step_name == "Second").await;
    engine.cancel(between).await.unwrap();
    ends(&engine, between, State::Cancelled).await;
    assert!(world.effects(between).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn story_deadline_interrupts_a_step_and_a_sleep() {
    let world = World::new().await;
    let (engine, _guard) = world.running();
    for what in ["hang", "asleep"] {
        let began = Instant::now();
        let id = world.go::<Play>(&engine, New { deadline: Some(Duration::from_millis(300)), ..play(what) }).await;
        let row = ends(&engine, id, State::Failed).await;
        assert_eq!(code(&row), "timed_out");
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn story_panic_is_a_failure_and_stuck_when_it_repeats() {
    let world = World::new().await;
    let (engine, _guard) = world.running();
    let id = world.go::<Play>(&engine, play("panic")).await;
    let row = ends(&engine, id, State::Stuck).await;
    assert_eq!((code(&row), row.attempt), ("panicked", 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn story_lost_lease_is_fenced() {
    let world = World::new().await;
    let (engine, _guard) = world.running();
    for what in ["robbed", "robbed while asleep"] {
        let id = world.go::<Play>(&engine, play(what)).await;
        let row = ends(&engine, id, State::Succeeded).await;
        assert_eq!((row.epoch, row.attempt), (3, 2), "the first worker recorded nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn story_long_step_keeps_its_lease_and_shows_progress() {
    let world = World::new().await;
    let (engine, _guard) = world.running();
    let (other, _other_guard) = world.running();
    fault::arm("play/Play/before=sleep:2000*1");
    let id = world.go::<Play>(&engine, play("progress")).await;
    let row = world.until(&engine, id, |row| row.progress.is_some()).await;
    assert_eq!(row.progress.unwrap().unit, "bytes");
    let row = ends(&other, id, State::Succeeded).await;
    assert_eq!((row.epoch, row.attempt), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn story_other_definition_has_a_minute_then_is_parked() {
    let world = World::new().await;
    let (engine, _guard) = world.running();
    let engine2 = world.engine();
    // The ids are made here: the running engine may change a row before it could be looked for.
    let [new, old] = [uuid::Uuid::now_v7(), uuid::Uuid::now_v7()];
    sqlx::query(
        "insert into operation (id, kind, definition, state, step, step_name, next_run_at)
         values ($1, 'play', 2, 'queued', '{\"step\": \"next\"}', 'Next', now()),
                ($2, 'play', 2, 'queued', '{\"step\": \"next\"}', 'Next', now() - interval '2 min')",
    )
    .bind(new)
    .bind(old)
    .execute(&world.pool)
    .await
    .unwrap();
    let parked = over(&engine2, old).await;
    assert_eq!((parked.state, code(&parked)), (State::Stuck, "unknown_definition"));
    assert_eq!(engine2.get(new).await.unwrap().unwrap().state, State::Queued);
    assert!(engine.resolve(old, Resolution::Cancelled, None).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn story_vanishing_workers_are_counted_and_held_off() {
    let world = World::new().await;
    let (engine, _guard) = world.running();
    sqlx::query(
        "insert into operation (id, kind, state, step, step_name, attempt, epoch, holder, lease_until)
         values (gen_random_uuid(), 'play', 'running', '{\"step\": \"next\"}', 'Next', 5, 5, 'dead', now() - interval '1 s')",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    let id: uuid::Uuid = sqlx::query_scalar("select id from operation").fetch_one(&world.pool).await.unwrap();
    let row = world.until(&engine, id, |row| row.state == State::Waiting).await;
    assert_eq!((code(&row), row.attempt), ("abandoned", 5));
    assert!(row.next_run_at > row.updated_at);
    let row = ends(&engine, id, State::Succeeded).await;
    assert_eq!(row.attempt, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn story_freeze_stops_new_steps() {
    let world = World::new().await;
    let (engine, _guard) = world.running();
    let running = world.go::<Play>(&engine, play("two steps")).await;
    assert!(engine.is_target("operations") && !engine.is_target("nonsense"));
    engine.freeze("operations", None, Some("me")).await.unwrap();
    let queued = world.go::<Play>(&engine, play("")).await;
    let row = world.until(&engine, running, |row| row.step_name == "Next" && row.lease_until.is_none()).await;
    assert_eq!((row.state, row.attempt), (State::Queued, 0));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(engine.get(queued).await.unwrap().unwrap().state, State::Queued);
    assert_eq!(engine.frozen().await.unwrap().len(), 1);
    assert!(engine.thaw("operations").await.unwrap());
    ends(&engine, queued, State::Succeeded).await;
    ends(&engine, running, State::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn story_concurrency_of_a_kind_is_honoured() {
    let world = World::new().await;
    let (engine, _guard) = world.running();
    let mut ids = Vec::new();
    for number in 0..8 {
        ids.push(match number % 2 {
            0 => world.go::<Play>(&engine, play("nap")).await,
            _ => world.queue::<Play>(&engine, play("nap")).await,
        });
    }
    loop {
        let rows = engine.list(&Filter { kind: Some("play".into()), ..Filter::default() }).await.unwrap();
        if rows.iter().all(|row| row.state == State::Succeeded) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(ids.len(), 8);
    // What is claimed for a place that a start has just taken is called running until it is given back; it does not run.
    assert_eq!(NAPPED.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn story_a_rolled_back_start_leaves_nothing_and_one_nobody_drives_is_taken_over() {
    let world = World::new().await;
    let (engine, _guard) = world.running();
    let mut tx = world.pool.begin().await.unwrap();
    let rolled_back = engine.start::<Play>(&mut tx, play("")).await.unwrap().id;
    tx.rollback().await.unwrap();
    assert_eq!(engine.get(rolled_back).await.unwrap(), None);
    let left = world.start::<Play>(&engine, play("")).await.unwrap().id;
    let row = ends(&engine, left, State::Succeeded).await;
    assert_eq!(row.epoch, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn story_finished_work_is_told_listed_and_pruned() {
    let world = World::new().await;
    let engine = world.engine();
    let mut tx = world.pool.begin().await.unwrap();
    let id = engine.start_finished(&mut tx, "play", Some("thing"), "Activate", Some("me"), None).await.unwrap();
    tx.commit().await.unwrap();
    let row = ends(&engine, id, State::Succeeded).await;
    assert_eq!((row.step_name.as_str(), row.subject.as_deref()), ("Activate", Some("thing")));
    assert_eq!(engine.events(id, 0).await.unwrap().len(), 1);
    let listed = engine
        .list(&Filter {
            state: Some(State::Succeeded),
            subject: Some("thing".into()),
            before: Some(uuid::Uuid::max()),
            ..Filter::default()
        })
        .await
        .unwrap();
    assert_eq!(listed, [row]);
    // What is over is not counted: there may be any number of it.
    assert!(engine.counts().await.unwrap().iter().all(|(state, count)| !state.is_over() && *count == 0));
    assert_eq!(engine.prune(Duration::from_secs(60)).await.unwrap(), 0);
    assert_eq!(engine.prune(Duration::ZERO).await.unwrap(), 1);
    assert!(engine.events(id, 0).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn story_waits_hear_of_other_processes() {
    let world = World::new().await;
    let (_worker, _guard) = world.running();
    let (watcher, _other) = world.running();
    let id = world.queue::<Play>(&watcher, play("nap")).await;
    let mut changes = watcher.subscribe(id);
    assert!(watcher.wait(id, Duration::from_millis(50)).await.unwrap().is_none());
    tokio::time::timeout(Duration::from_secs(5), changes.next()).await.unwrap().unwrap();
    ends(&watcher, id, State::Succeeded).await;
    assert_eq!(watcher.steps()[0], ("play", <Act as freehold_durable::StepNames>::NAMES));
}
