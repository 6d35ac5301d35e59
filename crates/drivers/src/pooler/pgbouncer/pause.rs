//! Pause with a deadline, which PgBouncer has none for.
//!
//! Its answer to `PAUSE` is neither quick nor about this database alone: it comes when *every* paused database has
//! drained, and then to everybody who waits for one; after a RESUME it never comes. So the answer is welcome when it is
//! there, and what counts is what `SHOW POOLS` says about this database. Who gives up resumes over another connection,
//! because the one that waits is heard no more.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::super::{Pause, PoolerError, PoolerErrorKind};
use super::console::{Console, about};
use super::observe;
use crate::server::sql::Dsn;

/// Between two looks; drained pauses answer by themselves within a millisecond.
const LOOK: Duration = Duration::from_millis(25);

pub(super) async fn pause(dsn: Dsn, limit: Duration, database: String, drain: Duration) -> Result<Pause, PoolerError> {
    // The watcher first: without one there would be nobody to resume.
    let watcher = Console::connect(&dsn, limit).await?;
    let asking = Console::connect(&dsn, limit).await?;
    let command = about("PAUSE", &database)?;
    let deadline = Instant::now() + drain;
    let drained = tokio::select! {
        answer = asking.forever(&command) => answer.map(|()| true),
        looked = until_drained(&watcher, &database, deadline) => looked,
    };
    let outcome = match drained {
        Ok(true) => Ok(Pause::Drained),
        Ok(false) => Ok(Pause::Held(observe::holders(&watcher, &database).await.unwrap_or_default())),
        Err(error) => Err(error),
    };
    // A PAUSE without an answer would be answered by somebody else's, later.
    drop(asking);
    if !matches!(outcome, Ok(Pause::Drained)) {
        give_back(&dsn, limit, watcher, &database).await?;
    } else {
        watcher.close().await;
    }
    outcome
}

/// False: the time is over.
async fn until_drained(watcher: &Console, database: &str, deadline: Instant) -> Result<bool, PoolerError> {
    loop {
        // PAUSE goes first: what is not busy before it may be a moment later.
        sleep(LOOK.min(deadline.saturating_duration_since(Instant::now()))).await;
        if is_paused(watcher, database).await? && observe::busy(watcher, database).await? == 0 {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
    }
}

async fn is_paused(console: &Console, database: &str) -> Result<bool, PoolerError> {
    let rows = console.command("SHOW DATABASES").await?;
    Ok(rows.iter().any(|row| row.text("name") == database && row.is_set("paused")))
}

/// With the connection that is there, else with new ones: a tenant that waits for nothing is what must not stay.
async fn give_back(dsn: &Dsn, limit: Duration, watcher: Console, database: &str) -> Result<(), PoolerError> {
    let until = Instant::now() + limit * 3;
    let mut last = match resume(&watcher, database).await {
        Ok(()) => return Ok(()),
        Err(error) if error.kind == PoolerErrorKind::Missing => return Ok(()),
        Err(error) => error,
    };
    while let Ok(tried) = timeout_at(until, async {
        sleep(LOOK).await;
        resume(&Console::connect(dsn, limit).await?, database).await
    })
    .await
    {
        match tried {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
    }
    tracing::error!(database, error = %last, "a database may have been left paused");
    Err(last)
}

/// No error where it is not paused.
pub(super) async fn resume(console: &Console, database: &str) -> Result<(), PoolerError> {
    match console.command(&about("RESUME", database)?).await {
        Err(error) if error.message.contains("is not paused") => Ok(()),
        answer => answer.map(drop),
    }
}
