//! Loops: woken by a signal or a period, they take no input and read the world anew. One process at a time runs a loop:
//! a lease in the store says who, and its epoch fences out who was.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::engine::{Engine, RegisteredLoop, Shared};
use crate::operation::{Class, Failure};
use crate::row::OperationError;
use crate::watch::LOOP;

/// Between being woken and running.
pub(crate) const SETTLE: Duration = Duration::from_millis(50);

#[async_trait::async_trait]
pub trait Loop: Send + Sync + 'static {
    fn name(&self) -> &'static str;
    /// From the end of one run to the next.
    fn period(&self) -> Duration;
    async fn run(&self, cx: &LoopCx) -> Result<(), Failure>;
}

/// What a loop knows about this run.
#[derive(Clone)]
pub struct LoopCx {
    pub name: &'static str,
    /// Raised whenever another process becomes the leader.
    pub epoch: i64,
    shared: Arc<Shared>,
}

impl LoopCx {
    /// For connections to servers, so that a successor can end those of lower epochs.
    pub fn application_name(&self) -> String {
        format!("fh:loop-{}:{}", self.name, self.epoch)
    }

    pub async fn still_mine(&self) -> Result<(), Failure> {
        let mine: bool = sqlx::query_scalar("select exists (select from loop_lease where name = $1 and epoch = $2)")
            .bind(self.name)
            .bind(self.epoch)
            .fetch_one(&self.shared.pool)
            .await?;
        mine.then_some(()).ok_or_else(Failure::fenced)
    }

    /// To be asked in a transaction right before its commit: until then, nobody else becomes the leader.
    pub async fn still_mine_in(&self, tx: &mut PgConnection) -> Result<(), Failure> {
        let mine: Option<bool> =
            sqlx::query_scalar("select true from loop_lease where name = $1 and epoch = $2 for share")
                .bind(self.name)
                .bind(self.epoch)
                .fetch_optional(tx)
                .await?;
        mine.map(drop).ok_or_else(Failure::fenced)
    }

    pub fn store(&self) -> &PgPool {
        &self.shared.pool
    }

    /// For a loop that starts operations or wakes another loop.
    pub fn engine(&self) -> Engine {
        Engine { shared: self.shared.clone() }
    }
}

impl Engine {
    /// Wakes a loop when the caller's transaction commits.
    pub async fn wake_in(&self, tx: &mut PgConnection, loop_name: &str) -> Result<(), sqlx::Error> {
        wake_in(tx, loop_name).await
    }
}

/// [`Engine::wake_in`] for hooks that have no engine at hand.
pub async fn wake_in(tx: &mut PgConnection, loop_name: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_notify($1, $2)::text").bind(LOOP).bind(loop_name).execute(tx).await.map(drop)
}

/// Runs one loop until the process ends.
pub(crate) async fn keep(shared: &Arc<Shared>, registered: &RegisteredLoop) {
    let body = &registered.body;
    let (name, period) = (body.name(), body.period());
    // Kept until a run began after it, so that a follower makes good for a leader that died before it heard.
    let mut woken: Option<Instant> = None;
    let mut led: Option<i64> = None;
    loop {
        let pause = match acquire(shared, name, woken.map(|at| at.elapsed())).await {
            Ok(Some(epoch)) => {
                (woken, led) = (None, Some(epoch));
                run(shared, registered, epoch).await;
                period
            }
            // Not the leader: should the leader die, its lease runs out.
            Ok(None) => period.min(shared.lease),
            Err(error) => {
                tracing::warn!(loop.name = name, %error, "the store did not answer");
                period.min(shared.lease)
            }
        };
        tokio::select! {
            biased;
            () = shared.draining.cancelled() => break,
            () = registered.wake.notified() => {
                woken = Some(Instant::now());
                settle(&registered.wake).await;
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
    // The next leader need not wait for the lease to run out, also when nothing ran at this moment.
    if let Some(epoch) = led {
        release(shared, name, epoch).await;
    }
}

/// Whoever wakes a loop is often not alone, and has better things to do in this moment than to share the machine with it.
async fn settle(wake: &Notify) {
    tokio::time::sleep(SETTLE).await;
    // What came meanwhile is answered by the same run.
    let _ = wake.notified().now_or_never();
}

async fn run(shared: &Arc<Shared>, registered: &RegisteredLoop, epoch: i64) {
    let name = registered.body.name();
    let cx = LoopCx { name, epoch, shared: shared.clone() };
    let body = registered.body.clone();
    let mut task = AbortOnDrop(tokio::spawn(async move { body.run(&cx).await }));
    let ended = tokio::select! {
        ended = &mut task.0 => ended,
        why = lose(shared, name, epoch) => {
            tracing::warn!(loop.name = name, epoch, why, "the loop was interrupted");
            return;
        }
    };
    let failure = match ended {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(failure),
        Err(error) => Some(Failure::transient("panicked", panic_message(error))),
    };
    if let Some(failure) = &failure {
        if failure.class == Class::Fenced {
            tracing::info!(loop.name = name, epoch, "another process leads the loop");
            return;
        }
        tracing::warn!(loop.name = name, epoch, code = failure.code, message = failure.message, "the loop failed and runs again in its time");
    }
    let error = failure.map(|failure| OperationError { code: failure.code, message: failure.message });
    if let Err(error) = finish(shared, name, epoch, registered.body.period(), error).await {
        tracing::warn!(loop.name = name, epoch, %error, "the loop's end was not recorded");
    }
}

/// Renews the lease; returns when it is lost.
async fn lose(shared: &Shared, name: &str, epoch: i64) -> &'static str {
    let mut end = Instant::now() + shared.lease;
    loop {
        let third = (end.saturating_duration_since(Instant::now()) / 3).max(Duration::from_millis(50));
        tokio::select! {
            () = shared.abort.cancelled() => return "the process ends",
            () = tokio::time::sleep(third) => {}
        }
        let asked = Instant::now();
        match tokio::time::timeout_at(end, renew(shared, name, epoch)).await {
            Ok(Ok(true)) => end = asked + shared.lease,
            Ok(Ok(false)) => return "another process leads it",
            Ok(Err(_)) if Instant::now() < end => {}
            Ok(Err(_)) | Err(_) => return "the store could not be reached for a whole lease",
        }
    }
}

async fn acquire(shared: &Shared, name: &str, woken: Option<Duration>) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "insert into loop_lease as l (name, epoch, holder, lease_until, next_run_at, started_at)
         select $1, 1, $2, now() + make_interval(secs => $3), now(), now()
         where not exists (select from \"freeze\" where target in ($1, 'all') and (until is null or until > now()))
         on conflict (name) do update
         set epoch = l.epoch + case when l.holder = excluded.holder and l.lease_until > now() then 0 else 1 end,
             holder = excluded.holder, lease_until = excluded.lease_until, started_at = now()
         where (l.holder = excluded.holder or l.lease_until <= now()) and (l.next_run_at <= now() or l.started_at < now() - make_interval(secs => $4))
         returning epoch",
    )
    .bind(name)
    .bind(&shared.holder)
    .bind(shared.lease.as_secs_f64())
    .bind(woken.map(|ago| ago.as_secs_f64()))
    .fetch_optional(&shared.pool)
    .await
}

async fn renew(shared: &Shared, name: &str, epoch: i64) -> Result<bool, sqlx::Error> {
    let renewed = sqlx::query(
        "update loop_lease set lease_until = now() + make_interval(secs => $3) where name = $1 and epoch = $2",
    )
    .bind(name)
    .bind(epoch)
    .bind(shared.lease.as_secs_f64())
    .execute(&shared.pool)
    .await?;
    Ok(renewed.rows_affected() == 1)
}

async fn finish(
    shared: &Shared,
    name: &str,
    epoch: i64,
    period: Duration,
    error: Option<OperationError>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update loop_lease set finished_at = now(), next_run_at = now() + make_interval(secs => $3), error = $4
         where name = $1 and epoch = $2",
    )
    .bind(name)
    .bind(epoch)
    .bind(period.as_secs_f64())
    .bind(error.map(Json))
    .execute(&shared.pool)
    .await
    .map(drop)
}

async fn release(shared: &Shared, name: &str, epoch: i64) {
    let released =
        sqlx::query("update loop_lease set lease_until = now() where name = $1 and epoch = $2").bind(name).bind(epoch);
    if let Err(error) = released.execute(&shared.pool).await {
        tracing::debug!(loop.name = name, %error, "the lease was not given back and runs out");
    }
}

/// A task that ends with the future that waits for it.
pub(crate) struct AbortOnDrop<T>(pub JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) fn panic_message(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_owned(),
            (None, Some(text)) => text.clone(),
            (None, None) => "a panic without a message".to_owned(),
        },
        Err(error) => error.to_string(),
    }
}
