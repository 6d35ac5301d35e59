//! Sends sealed events on, in the order of the chain: to a file (`file.rs`) and to somebody who listens (`url.rs`), each by a loop of
//! its own, so that one who is away holds up neither the other nor anybody who writes.
//!
//! At least once: how far a receiver got is recorded after it took a batch. What comes again has the place that it had.

use async_trait::async_trait;
use freehold_chain::Record;
use freehold_durable::{Failure, LoopCx};
use sqlx::PgExecutor;

use super::store::{At, after};
use crate::plane::Core;
use crate::settings::Audit;

pub mod file;
pub mod store;
pub mod url;

pub(super) const NOT_STREAMED: &str = "audit_not_streamed";
const EVENTS: i64 = 500;
/// More only where one event is larger.
const BYTES: usize = 1024 * 1024;

/// Lines as those of an export.
pub(super) struct Batch {
    lines: String,
    last: i64,
}

#[async_trait]
pub(super) trait Receiver: Send + Sync {
    /// In the store.
    fn name(&self) -> &'static str;
    /// How far it says itself that it got, where it can.
    async fn has(&self) -> Result<Option<Record>, Failure>;
    /// Answers once it is safe there.
    async fn take(&self, batch: &Batch) -> Result<(), Failure>;
}

/// Batch after batch, until there is nothing more.
async fn send(core: &Core, cx: &LoopCx, to: &dyn Receiver) -> Result<(), Failure> {
    let mut place = store::place(&core.store, to.name()).await?;
    let Some(mut batch) = next(core, place).await? else { return Ok(()) };
    // It took more than was recorded, and then the process died.
    if let Some(last) = to.has().await?.filter(|last| last.place > place)
        && super::store::hash_at(&core.store, last.place).await? == Some(last.hash)
    {
        place = last.place;
        store::taken(&core.store, to.name(), place).await?;
        match next(core, place).await? {
            Some(after) => batch = after,
            None => return Ok(()),
        }
    }
    loop {
        cx.still_mine().await?;
        to.take(&batch).await?;
        store::taken(&core.store, to.name(), batch.last).await?;
        match next(core, batch.last).await? {
            Some(after) => batch = after,
            None => return Ok(()),
        }
    }
}

async fn next(core: &Core, place: i64) -> Result<Option<Batch>, Failure> {
    let mut connection = core.store.acquire().await?;
    let mut batch = Batch { lines: String::new(), last: place };
    for record in after(&mut connection, At::end_of(place), EVENTS).await?.into_iter().map(Record::from) {
        let line = serde_json::to_string(&record).map_err(|error| not_streamed(&error.to_string()))?;
        if !batch.lines.is_empty() && batch.lines.len() + line.len() > BYTES {
            break;
        }
        batch.lines.push_str(&line);
        batch.lines.push('\n');
        batch.last = record.place;
    }
    Ok((!batch.lines.is_empty()).then_some(batch))
}

fn not_streamed(why: &str) -> Failure {
    let message = format!("events of the audit are not streamed: {why}; they are sent when it is there again");
    Failure::transient(NOT_STREAMED, message)
}

/// Those who are to be sent events.
pub fn receivers(settings: &Audit) -> impl Iterator<Item = &'static str> {
    let (file, url) = (settings.stream_file.is_some(), settings.stream_url.is_some());
    file.then_some(file::NAME).into_iter().chain(url.then_some(url::NAME))
}

/// Up to where all of them have everything. None: there is nobody to have it.
pub(super) async fn everywhere(core: &Core, store: impl PgExecutor<'_>) -> sqlx::Result<Option<i64>> {
    let places = store::places(store).await?;
    let of = |receiver: &'static str| places.iter().find(|(name, _)| name == receiver).map_or(0, |(_, place)| *place);
    Ok(receivers(&core.settings.audit).map(of).min())
}
