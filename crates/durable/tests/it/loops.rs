//! Loops and their leaders.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use freehold_durable::{Failure, Loop, LoopCx};
use tokio_util::sync::CancellationToken;

use crate::toy::{World, run};

struct Beat {
    period: Duration,
    ran: Arc<AtomicUsize>,
    inside: Arc<AtomicUsize>,
}

#[async_trait::async_trait]
impl Loop for Beat {
    fn name(&self) -> &'static str {
        "beat"
    }

    fn period(&self) -> Duration {
        self.period
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        cx.still_mine().await?;
        assert_eq!(cx.application_name(), format!("fh:loop-beat:{}", cx.epoch));
        assert_eq!(self.inside.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
        self.ran.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.inside.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}

async fn at_least(ran: &AtomicUsize, wanted: usize) {
    for _ in 0..500 {
        if ran.load(Ordering::SeqCst) >= wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("ran {ran:?} times, not {wanted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn story_one_of_two_leads_and_the_other_follows_when_it_goes() {
    let world = World::new().await;
    let inside = Arc::new(AtomicUsize::new(0));
    let (first, second) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let beat =
        |ran: &Arc<AtomicUsize>| Beat { period: Duration::from_millis(100), ran: ran.clone(), inside: inside.clone() };
    let engine = world.builder().register_loop(beat(&first)).build();
    let guard = run(&engine);
    at_least(&first, 1).await;
    let other = world.builder().register_loop(beat(&second)).build();
    let _other_guard = run(&other);
    at_least(&first, 5).await;
    assert_eq!(second.load(Ordering::SeqCst), 0);
    let epoch = engine.loops().await.unwrap()[0].epoch;
    drop(guard);
    at_least(&second, 2).await;
    assert_eq!(engine.loops().await.unwrap()[0].epoch, epoch + 1);
}

/// Whoever ends in order has not died: nobody waits for its lease to run out.
#[tokio::test(flavor = "multi_thread")]
async fn story_a_leader_that_ends_between_two_runs_gives_its_lease_back() {
    let world = World::new().await;
    let ran = Arc::new(AtomicUsize::new(0));
    let beat = || Beat { period: Duration::from_millis(500), ran: ran.clone(), inside: Arc::default() };
    let builder = || world.builder().lease(Duration::from_secs(3600)).register_loop(beat());
    for _ in 0..3 {
        let before = ran.load(Ordering::SeqCst);
        let (engine, stop) = (builder().build(), CancellationToken::new());
        let working = tokio::spawn({
            let (engine, stop) = (engine.clone(), stop.clone());
            async move { engine.run(stop).await }
        });
        at_least(&ran, before + 1).await;
        // Well between two runs.
        tokio::time::sleep(Duration::from_millis(200)).await;
        stop.cancel();
        working.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn story_a_signal_from_another_process_wakes_the_leader_unless_it_is_frozen() {
    let world = World::new().await;
    let ran = Arc::new(AtomicUsize::new(0));
    let beat = Beat { period: Duration::from_secs(3600), ran: ran.clone(), inside: Arc::default() };
    let engine = world.builder().register_loop(beat).build();
    let _guard = run(&engine);
    at_least(&ran, 1).await;
    let stranger = world.engine();
    // It listens soon, not at once.
    tokio::time::sleep(Duration::from_millis(500)).await;
    stranger.wake("beat");
    at_least(&ran, 2).await;
    engine.wake("beat");
    at_least(&ran, 3).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(ran.load(Ordering::SeqCst), 3, "its own echo does not wake it again");
    engine.freeze("beat", Some(Duration::from_secs(3600)), None).await.unwrap();
    engine.wake("beat");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(ran.load(Ordering::SeqCst), 3);
}
