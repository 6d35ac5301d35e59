//! The audit loop: gives what is committed its place in the chain, beside those who write. What it has not come to is what has
//! no place, so that nothing is passed over, however late its transaction was committed.

use std::time::Duration;

use async_trait::async_trait;
use freehold_chain::{End, Hash, Record, Salt};
use freehold_durable::{Failure, Loop, LoopCx};
use rand::TryRng;
use rand::rngs::SysRng;
use sqlx::PgConnection;

use super::record::Event;
use super::store::EndRow;
use super::{checkpoint, store};
use crate::plane::Core;

/// Few enough that a batch takes milliseconds, and holds nobody's connection.
const BATCH: i64 = 500;

pub struct Seal {
    pub core: Core,
}

#[async_trait]
impl Loop for Seal {
    fn name(&self) -> &'static str {
        "audit"
    }
    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        while store::has_to_seal(&self.core.store).await? && self.batch(cx).await? == BATCH {
            cx.still_mine().await?;
        }
        Ok(())
    }
}

impl Seal {
    /// How many were sealed.
    async fn batch(&self, cx: &LoopCx) -> Result<i64, Failure> {
        let mut tx = self.core.store.begin().await?;
        let end = store::lock_end(&mut tx).await?.ok_or_else(end_is_gone)?;
        let mut records: Vec<Record> = store::to_seal(&mut tx, BATCH).await?.into_iter().map(Record::from).collect();
        let Some(last) = link(&mut records, end.place, end.hash()) else { return Ok(0) };
        if store::seal(&mut tx, &records).await? != records.len() as u64 {
            let message = "events that were read a moment ago are gone, or have places; they are read again";
            return Err(Failure::transient("audit_changed", message));
        }
        store::move_end(&mut tx, last).await?;
        if checkpoint::is_due(&self.core, &end, last) {
            cx.engine().wake_in(&mut tx, checkpoint::LOOP).await?;
        }
        cx.still_mine_in(&mut tx).await?;
        tx.commit().await?;
        Ok(records.len() as i64)
    }
}

pub(super) const END_IS_GONE: &str =
    "the row that says where the chain ends (audit_end) is gone from the store; run: freehold audit verify";

pub(super) fn end_is_gone() -> Failure {
    Failure::transient("audit_end_gone", END_IS_GONE)
}

/// Writes an event about the audit itself and seals it, in one transaction with what it tells of: neither is ever seen without
/// the other. The end must be locked. Nothing of the kind is done for those who write other events: they would wait here.
pub(super) async fn at_once(tx: &mut PgConnection, end: &EndRow, event: Event) -> sqlx::Result<()> {
    let id = event.id();
    event.save(&mut *tx).await?;
    let mut records: Vec<Record> = store::not_sealed(tx, id).await?.into_iter().map(Record::from).collect();
    let last = link(&mut records, end.place, end.hash()).ok_or(sqlx::Error::RowNotFound)?;
    store::seal(tx, &records).await?;
    store::move_end(tx, last).await
}

/// Each after the one before; answers where that ends.
fn link(records: &mut [Record], mut place: i64, mut hash: Hash) -> Option<End> {
    for record in &mut *records {
        place += 1;
        record.seal(place, hash, salt());
        hash = record.hash;
    }
    (!records.is_empty()).then_some(End { place, hash })
}

fn salt() -> Salt {
    let mut bytes = [0u8; 16];
    // Without random numbers nothing may go on: a salt that can be guessed would one day tell what was erased.
    SysRng.try_fill_bytes(&mut bytes).expect("the operating system gives random numbers");
    Salt::of(&bytes)
}
