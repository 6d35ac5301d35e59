//! The loop that removes the oldest events, a whole day at a time, where the settings say how long they are kept.
//!
//! written → sealed → anchored → removed
//!
//! Only a head goes, so that what stays is a chain: the first event that is too young, or is held, keeps all that come after it. In
//! place of the head there is a beginning, signed, and an event that says what went. What was bent stays: it is evidence. So does
//! what is not anchored, or streamed, yet.

use std::time::Duration;

use async_trait::async_trait;
use freehold_chain::{Checkpoint, End, Record, Start, Walk};
use freehold_durable::{Failure, Loop, LoopCx};
use serde_json::json;

use self::store::Head;
use super::record::{Actor, Event};
use super::store::EndRow;
use super::{checkpoint, key, seal, stream};
use crate::plane::Core;

pub mod store;

pub const LOOP: &str = "audit_retention";
/// What was to go is not what was sealed.
pub(super) const BENT: &str = "audit_bent";
const BATCH: i64 = 2000;

pub struct Retention {
    pub core: Core,
}

#[async_trait]
impl Loop for Retention {
    fn name(&self) -> &'static str {
        LOOP
    }
    fn period(&self) -> Duration {
        Duration::from_secs(10)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        let Some(days) = self.core.settings.audit.retention_days else { return Ok(()) };
        // Nothing is locked where nothing goes, however often a hold is looked at.
        while store::goes(&self.core.store, days).await? && self.batch(cx, days).await? {
            cx.still_mine().await?;
        }
        Ok(())
    }
}

impl Retention {
    /// Whether something went.
    async fn batch(&self, cx: &LoopCx, days: u32) -> Result<bool, Failure> {
        let mut tx = self.core.store.begin().await?;
        let end = super::store::lock_end(&mut tx).await?.ok_or_else(seal::end_is_gone)?;
        let streamed = stream::everywhere(&self.core, &mut *tx).await?;
        let keeps = self.keeps_from(&end).min(streamed.map_or(i64::MAX, |place| place.saturating_add(1)));
        let head = store::head(&mut tx, days, keeps, BATCH).await?;
        let goes: Vec<Record> = head.into_iter().take_while(|head| head.goes).map(Head::into_record).collect();
        let (Some(first), Some(last)) = (goes.first(), goes.last()) else { return Ok(false) };
        let before = beginning(&self.core, &mut *tx, &end).await?;
        let redactions = super::store::redactions(&mut tx).await?;
        let mut walk = Walk::new(Start::First(end.store), before.into_iter().collect());
        redactions.into_iter().map(Record::from).for_each(|record| walk.knows(&record));
        goes.iter().for_each(|record| walk.take(record));
        if let Some(finding) = walk.pause().findings.first() {
            return Err(bent(&finding.message));
        }
        let last = End { place: last.place, hash: last.hash };
        if store::remove(&mut tx, last.place).await? != goes.len() as u64 {
            return Err(bent("there are other events than were read a moment ago"));
        }
        let beginning = Checkpoint { begins: true, ..checkpoint::of(&end, last) };
        store::begin_after(&mut tx, &checkpoint::sign(self.core.sealer.signer(), beginning)).await?;
        let event = Event::done(&Actor::of_loop(LOOP), "audit.remove", "audit").with(json!({
            "from": first.place, "to": last.place, "hash": last.hash, "events": goes.len(), "retention_days": days,
        }));
        seal::at_once(&mut tx, &end, event).await?;
        if self.core.settings.audit.anchors() {
            cx.engine().wake_in(&mut tx, checkpoint::LOOP).await?;
        }
        cx.still_mine_in(&mut tx).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// From this place on everything is kept: what is not anchored yet, where anything is, and the newest anyway.
    fn keeps_from(&self, end: &EndRow) -> i64 {
        if self.core.settings.audit.anchors() { end.checkpoint_place.min(end.place) } else { end.place }
    }
}

fn bent(why: &str) -> Failure {
    let message = format!("nothing more is removed from the audit: {why}; run: freehold audit verify");
    Failure::transient(BENT, message)
}

/// Where the chain begins, as this plane signed it. None: with the first event, or somebody else says where.
pub async fn beginning(
    core: &Core,
    store: impl sqlx::PgExecutor<'_>,
    end: &EndRow,
) -> sqlx::Result<Option<Checkpoint>> {
    let row = store::beginning(store).await?;
    Ok(row.map(|row| row.checkpoint(end.store)).filter(|beginning| beginning.is_signed_by(&key::of(core))))
}
