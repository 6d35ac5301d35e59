//! Writes what was decided about a held operation, under its epoch, and what follows from having written it.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::Instant;

use crate::drive::Driver;
use crate::engine::Shared;
use crate::fault;
use crate::operation::{Failure, Record};
use crate::row::State;
use crate::store::{self, Change, Held};

/// Between tries to record what happened.
const RECORD_AGAIN: Duration = Duration::from_millis(300);

/// Whom to tell in the transaction.
#[derive(Clone, Copy)]
pub(crate) enum Owner {
    Parked,
    Failed,
}

impl Driver {
    /// Writes what was decided, again and again while the lease lasts.
    pub(crate) async fn settle(&mut self, change: Change<'_>, owner: Option<Owner>) -> bool {
        loop {
            let asked = Instant::now();
            match tokio::time::timeout_at(self.lease_end, self.write(&change, None, owner)).await {
                Ok(Ok(Some(held))) => return self.settled(held, asked, None).await,
                Ok(Ok(None)) => return self.fenced(),
                Ok(Err(failure)) if asked + RECORD_AGAIN < self.lease_end => {
                    tracing::warn!(code = failure.code, message = failure.message, "not recorded yet");
                    tokio::time::sleep(RECORD_AGAIN).await;
                }
                Ok(Err(_)) | Err(_) => {
                    tracing::error!("not recorded before the lease ran out; the step will run again");
                    return false;
                }
            }
        }
    }

    /// After a record was committed. True: the next step may run.
    pub(crate) async fn settled(&mut self, held: Held, asked: Instant, recorded: Option<&'static str>) -> bool {
        self.shared.changed(held.row.id);
        let fault = recorded.map_or(Ok(()), |step| fault::hit(self.kind.kind(), step, "recorded"));
        self.held = held;
        let row = &self.held.row;
        if row.lease_until.is_none() {
            match row.state {
                State::Waiting | State::Undoing => self.come_back().await,
                State::Succeeded | State::Failed | State::Cancelled => {
                    tracing::info!(
                        state = row.state.as_str(),
                        code = row.error.as_ref().map(|error| error.code.as_str()),
                        "over"
                    );
                }
                State::Queued | State::Running | State::Stuck => {}
            }
            return false;
        }
        self.lease_end = asked + self.shared.lease;
        if let Err(failure) = fault {
            return Box::pin(self.fail(failure)).await;
        }
        if self.held.frozen || self.shared.draining.is_cancelled() {
            give_back(&self.shared, &self.held).await;
            return false;
        }
        true
    }

    /// A pause shorter than the poll should stay shorter.
    async fn come_back(&self) {
        let row = &self.held.row;
        let pause = row.next_run_at.duration_since(row.updated_at);
        if let Ok(pause) = Duration::try_from(pause)
            && pause < Duration::from_secs(60)
        {
            let shared = self.shared.clone();
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                shared.due.notify_one();
            });
        }
    }

    /// The change, what the step records with it, and what its owner does about it: all or nothing.
    pub(crate) async fn write(
        &self,
        change: &Change<'_>,
        record: Option<Record>,
        owner: Option<Owner>,
    ) -> Result<Option<Held>, Failure> {
        let (id, epoch) = (self.held.row.id, self.held.row.epoch);
        if record.is_none() && owner.is_none() {
            return Ok(store::change(&self.shared.pool, id, epoch, change).await?);
        }
        let mut tx = self.shared.pool.begin().await?;
        let Some(held) = store::change(&mut *tx, id, epoch, change).await? else {
            return Ok(None);
        };
        if let Some(record) = record {
            record(&mut tx).await?;
        }
        if let Some(owner) = owner {
            self.tell(&mut tx, &held, owner).await?;
        }
        tx.commit().await?;
        Ok(Some(held))
    }

    async fn tell(&self, tx: &mut PgConnection, held: &Held, owner: Owner) -> Result<(), sqlx::Error> {
        match owner {
            Owner::Parked => self.kind.parked(tx, &held.row).await,
            Owner::Failed => self.kind.failed(tx, &held.row).await,
        }
    }

    pub(crate) fn fenced(&self) -> bool {
        tracing::info!(epoch = self.held.row.epoch, "another worker has taken over; this one lets go");
        false
    }
}

/// Gives a claimed row back untouched.
pub(crate) async fn give_back(shared: &Shared, held: &Held) {
    let row = &held.row;
    let error = row.error.clone();
    let change = Change {
        state: if row.undoing() { State::Undoing } else { State::Queued },
        attempt: row.attempt.saturating_sub(1),
        error: error.as_ref(),
        ..Change::waiting()
    };
    if let Err(error) = store::change(&shared.pool, row.id, row.epoch, &change).await {
        tracing::debug!(operation = %row.id, %error, "not given back: its lease runs out");
    }
}

impl Change<'_> {
    /// Due at once, held by nobody, never begun, nothing said: what the others differ from.
    pub(crate) fn waiting() -> Self {
        Self {
            state: State::Waiting,
            step: None,
            attempt: 0,
            new_epoch: false,
            lease: None,
            delay: Duration::ZERO,
            error: None,
            undo_reason: None,
            failed_error: None,
            event: None,
        }
    }
}
