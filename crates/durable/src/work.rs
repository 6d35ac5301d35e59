//! What a worker process does all day: claims what is due, runs the loops, listens for news.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::drive::{self, Job};
use crate::engine::{Engine, Shared};
use crate::watch::{LOOP, OPERATION};
use crate::{loops, settle, store};

/// How long steps that run may go on when the process is told to end.
const GRACE: Duration = Duration::from_secs(10);

impl Engine {
    /// Runs operations and loops until `shutdown`; then lets the steps that run end, for at most 10 s, and gives the rest back.
    pub async fn run(&self, shutdown: CancellationToken) {
        let shared = &self.shared;
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(listen(shared.clone()));
        tasks.spawn(claim(shared.clone()));
        for number in 0..shared.loops.len() {
            let shared = shared.clone();
            tasks.spawn(async move { loops::keep(&shared, &shared.loops[number]).await });
        }
        shutdown.cancelled().await;
        tracing::info!(holder = shared.holder, "ending: no new work");
        shared.draining.cancel();
        shared.tasks.close();
        let all = async {
            while tasks.join_next().await.is_some() {}
            shared.tasks.wait().await;
        };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            tracing::warn!(
                holder = shared.holder,
                operations = shared.tasks.len(),
                "steps did not end in time; their leases run out"
            );
            shared.abort.cancel();
            let _ = tokio::time::timeout(Duration::from_secs(1), shared.tasks.wait()).await;
        }
    }
}

/// One cheap query per poll while nothing is due.
async fn claim(shared: Arc<Shared>) {
    while !shared.draining.is_cancelled() {
        let claimed = claim_once(&shared).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "nothing claimed: the store did not answer");
            0
        });
        if claimed > 0 {
            continue;
        }
        // Spread, so that processes started together do not poll together.
        let pause = shared.poll.mul_f64(0.9 + rand::random::<f64>() / 5.0);
        tokio::select! {
            () = shared.draining.cancelled() => {}
            () = shared.due.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn claim_once(shared: &Arc<Shared>) -> Result<usize, sqlx::Error> {
    let rooms: Vec<store::Room> = shared
        .kinds
        .values()
        .map(|registered| (registered, registered.permits.available_permits()))
        .filter(|(_, room)| *room > 0)
        .map(|(registered, room)| store::Room {
            kind: registered.kind.kind(),
            definition: registered.kind.definition(),
            room,
        })
        .collect();
    if rooms.is_empty() {
        return Ok(0);
    }
    let since = Instant::now();
    let claimed = store::claim(&shared.pool, &shared.holder, shared.lease, &rooms).await?;
    let count = claimed.len();
    for held in claimed {
        let permit =
            shared.kinds.get(held.row.kind.as_str()).and_then(|kind| kind.permits.clone().try_acquire_owned().ok());
        match permit {
            Some(permit) => drive::spawn(shared.clone(), Job { held, lease_end: since + shared.lease, permit }),
            // A start in this process was faster to the last place.
            None => settle::give_back(shared, &held).await,
        }
    }
    Ok(count)
}

/// Hands news from other processes on. What was missed while the connection was lost, polls find.
async fn listen(shared: Arc<Shared>) {
    loop {
        let lost = tokio::select! {
            () = shared.draining.cancelled() => return,
            lost = hear(&shared) => lost,
        };
        if let Err(error) = lost {
            tracing::warn!(%error, "not listening; polls go on");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn hear(shared: &Shared) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(&shared.pool).await?;
    listener.listen_all([OPERATION, LOOP]).await?;
    loop {
        match listener.try_recv().await? {
            Some(news) if news.channel() == LOOP => heard_of_loop(shared, news.payload()),
            Some(news) => heard_of_operation(shared, news.payload()),
            None => {
                shared.watchers.all_changed();
                shared.due.notify_one();
            }
        }
    }
}

/// `name`, or `name holder` where the holder has woken its own already.
fn heard_of_loop(shared: &Shared, payload: &str) {
    match payload.split_once(' ') {
        Some((_, holder)) if holder == shared.holder => {}
        Some((name, _)) => shared.wake_loop(name),
        None => shared.wake_loop(payload),
    }
}

/// `id holder` where the holder's own watchers know already, `id due` where somebody should claim it.
fn heard_of_operation(shared: &Shared, payload: &str) {
    let (id, what) = payload.split_once(' ').unwrap_or((payload, ""));
    if what == shared.holder {
        return;
    }
    if what == "due" {
        shared.due.notify_one();
    }
    if let Ok(id) = Uuid::parse_str(id) {
        shared.watchers.changed(id);
    }
}
