//! Drives one held operation from step to step until it is over, asleep, parked, or no longer ours.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::Instrument;

use crate::attempt::Ended;
use crate::backoff;
use crate::engine::Shared;
use crate::erased::{Kind, RawStep};
use crate::operation::{Class, Failure, Next, Outcome};
use crate::row::{OperationError, State};
use crate::settle::Owner;
use crate::store::{self, Change, Held};

/// A step that panicked, or whose process died, this often is not simply begun again.
const PATIENCE: u32 = 5;

/// A held operation and the place it takes in this process.
pub(crate) struct Job {
    pub held: Held,
    /// By this process's monotonic clock, and not after the store's.
    pub lease_end: Instant,
    pub permit: OwnedSemaphorePermit,
}

pub(crate) fn spawn(shared: Arc<Shared>, job: Job) {
    let Job { held, lease_end, permit } = job;
    let Some(registered) = shared.kinds.get(held.row.kind.as_str()) else {
        return;
    };
    let span =
        tracing::info_span!("operation", operation = %held.row.id, kind = held.row.kind, subject = held.row.subject);
    let kind = registered.kind.clone();
    let permits = registered.permits.clone();
    let tasks = shared.tasks.clone();
    let drive = async move {
        let mut driver = Driver { shared, kind, held, lease_end };
        while driver.turn().await {}
        drop(permit);
        if permits.available_permits() == 1 {
            // The kind was full: something may have been left lying.
            driver.shared.due.notify_one();
        }
    };
    tasks.spawn(drive.instrument(span));
}

pub(crate) struct Driver {
    pub shared: Arc<Shared>,
    pub kind: Arc<dyn Kind>,
    pub held: Held,
    /// Nothing is begun or written after it.
    pub lease_end: Instant,
}

impl Driver {
    /// One step, or one decision instead of it. False: no longer held.
    async fn turn(&mut self) -> bool {
        if Instant::now() >= self.lease_end {
            tracing::warn!(epoch = self.held.row.epoch, "the lease ran out before the step began");
            return false;
        }
        let row = &self.held.row;
        if row.definition != self.kind.definition() {
            let message =
                format!("the row is of definition {}, this program knows {}", row.definition, self.kind.definition());
            return self.park(Failure::stuck("unknown_definition", message)).await;
        }
        let step = match self.kind.read(&row.step) {
            Ok(step) => step,
            Err(failure) => return self.park(failure).await,
        };
        if !row.undoing() && row.cancel_requested {
            let error = row.error.clone();
            return self.begin_undo("cancelled", error, false).await;
        }
        if !row.undoing() && self.held.overdue() {
            let error = timed_out(row.error.as_ref());
            return self.begin_undo("timed_out", Some(error), false).await;
        }
        if self.held.abandoned && row.attempt > PATIENCE {
            return self.hold_off().await;
        }
        match self.attempt(step).await {
            Ended::Itself(Ok(outcome)) => self.record(step, outcome).await,
            Ended::Itself(Err(failure)) => self.fail(failure).await,
            // The step was dropped in its midst: a new epoch fences what it left behind.
            Ended::Overdue => {
                let error = timed_out(self.held.row.error.as_ref());
                self.begin_undo("timed_out", Some(error), true).await
            }
            Ended::Lost(why) => {
                tracing::warn!(step, epoch = self.held.row.epoch, why, "the step was dropped");
                false
            }
        }
    }

    async fn record(&mut self, step: &'static str, outcome: Outcome<RawStep>) -> bool {
        let row = &self.held.row;
        let undoing = row.undoing();
        let failed = row.failed_error.clone();
        let (here, asleep) = if undoing { (State::Undoing, State::Undoing) } else { (State::Running, State::Waiting) };
        let (change, owner) = match &outcome.next {
            Next::Step(next) => {
                let lease = Some(self.shared.lease);
                (
                    Change {
                        state: here,
                        step: Some(next),
                        attempt: 1,
                        lease,
                        event: Some("step"),
                        ..Change::waiting()
                    },
                    None,
                )
            }
            Next::Again { after, step: next } => {
                // A step that looks at something every second would fill the events.
                let error = outcome.waits_for.as_ref();
                let event = (next.name != step || error != row.error.as_ref()).then_some("asleep");
                (Change { state: asleep, step: Some(next), delay: *after, error, event, ..Change::waiting() }, None)
            }
            Next::Done => {
                let (state, owner) = match row.undo_reason.as_deref() {
                    None => (State::Succeeded, None),
                    Some("cancelled") => (State::Cancelled, Some(Owner::Failed)),
                    Some(_) => (State::Failed, Some(Owner::Failed)),
                };
                let attempt = row.attempt;
                (Change { state, attempt, error: failed.as_ref(), event: Some("finished"), ..Change::waiting() }, owner)
            }
        };
        let asked = Instant::now();
        match self.write(&change, outcome.record, owner).await {
            Ok(Some(held)) => self.settled(held, asked, Some(step)).await,
            Ok(None) => self.fenced(),
            Err(failure) => self.fail(failure).await,
        }
    }

    pub(crate) async fn fail(&mut self, failure: Failure) -> bool {
        let row = &self.held.row;
        let (attempt, undoing) = (row.attempt, row.undoing());
        tracing::warn!(step = row.step_name, attempt, undoing, class = ?failure.class, code = failure.code, message = failure.message, "step failed");
        match failure.class {
            Class::Fenced => self.fenced(),
            Class::Stuck => self.park(failure).await,
            Class::Permanent if undoing => self.park(failure).await,
            Class::Permanent => {
                // A long step that was told to stop says so with a failure.
                let cancelled = store::held(&self.shared.pool, row.id, row.epoch).await;
                let reason = if matches!(cancelled, Ok(Some(true))) { "cancelled" } else { "failed" };
                self.begin_undo(reason, Some(said(failure)), false).await
            }
            Class::Transient if failure.code == "panicked" && attempt >= PATIENCE => self.park(failure).await,
            Class::Transient => {
                let news = row.error.as_ref().is_none_or(|before| before.code != failure.code)
                    || attempt <= PATIENCE
                    || attempt.is_multiple_of(20);
                let error = said(failure);
                let change = Change {
                    state: if undoing { State::Undoing } else { State::Waiting },
                    attempt,
                    delay: backoff::pause(attempt, undoing),
                    error: Some(&error),
                    event: news.then_some("retry"),
                    ..Change::waiting()
                };
                self.settle(change, None).await
            }
        }
    }

    /// A step whose process died again and again waits like one that fails.
    async fn hold_off(&mut self) -> bool {
        let row = &self.held.row;
        let attempt = row.attempt - 1;
        tracing::warn!(step = row.step_name, attempt, "the step's workers vanished; it waits");
        let error =
            OperationError { code: "abandoned".into(), message: format!("the worker of attempt {attempt} vanished") };
        let change = Change {
            state: if row.undoing() { State::Undoing } else { State::Waiting },
            attempt,
            delay: backoff::pause(attempt, row.undoing()),
            error: Some(&error),
            event: Some("abandoned"),
            ..Change::waiting()
        };
        self.settle(change, None).await
    }

    async fn park(&mut self, failure: Failure) -> bool {
        let attempt = self.held.row.attempt;
        tracing::error!(
            step = self.held.row.step_name,
            code = failure.code,
            message = failure.message,
            "stuck: a person must decide"
        );
        let error = said(failure);
        let change =
            Change { state: State::Stuck, attempt, error: Some(&error), event: Some("stuck"), ..Change::waiting() };
        self.settle(change, Some(Owner::Parked)).await
    }

    async fn begin_undo(&mut self, reason: &'static str, error: Option<OperationError>, new_epoch: bool) -> bool {
        let step = match self.kind.undo(&self.held.row.step) {
            Ok(step) => step,
            Err(failure) => return self.park(failure).await,
        };
        let change = Change {
            undo_reason: Some(reason),
            error: error.as_ref(),
            failed_error: error.as_ref(),
            new_epoch,
            ..Change::waiting()
        };
        tracing::info!(reason, step = self.held.row.step_name, undo = step.as_ref().map(|step| step.name), "undoing");
        match &step {
            Some(step) => {
                let lease = Some(self.shared.lease);
                self.settle(
                    Change {
                        state: State::Undoing,
                        step: Some(step),
                        attempt: 1,
                        lease,
                        event: Some("undo"),
                        ..change
                    },
                    None,
                )
                .await
            }
            None => {
                let state = if reason == "cancelled" { State::Cancelled } else { State::Failed };
                let attempt = self.held.row.attempt;
                self.settle(Change { state, attempt, event: Some("finished"), ..change }, Some(Owner::Failed)).await
            }
        }
    }
}

fn said(failure: Failure) -> OperationError {
    OperationError { code: failure.code, message: failure.message }
}

/// With what it last waited for or failed with, which is why.
fn timed_out(last: Option<&OperationError>) -> OperationError {
    let message = match last {
        Some(last) => format!("the deadline passed; last: {} ({})", last.message, last.code),
        None => "the deadline passed".into(),
    };
    OperationError { code: "timed_out".into(), message }
}
