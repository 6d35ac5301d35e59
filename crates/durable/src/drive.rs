//! Drives one held operation from step to step until it is over, asleep, parked, or no longer ours.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::Instrument;

use crate::backoff;
use crate::cx::Cx;
use crate::engine::Shared;
use crate::erased::{Kind, RawStep};
use crate::fault;
use crate::loops::{AbortOnDrop, panic_message};
use crate::operation::{Class, Failure, Next, Outcome, Record};
use crate::row::{OperationError, State};
use crate::store::{self, Change, Held};

/// A step that panicked, or whose process died, this often is not simply begun again.
const PATIENCE: u32 = 5;
/// Between tries to record what happened.
const RECORD_AGAIN: Duration = Duration::from_millis(300);

/// A held operation and the place it takes in this process.
pub(crate) struct Job {
    pub held: Held,
    /// By this process's monotonic clock, and not after the store's.
    pub lease_end: Instant,
    pub permit: OwnedSemaphorePermit,
}

pub(crate) fn spawn(shared: Arc<Shared>, job: Job) {
    let Job {
        held,
        lease_end,
        permit,
    } = job;
    let Some(registered) = shared.kinds.get(held.row.kind.as_str()) else {
        return;
    };
    let span = tracing::info_span!("operation", operation = %held.row.id, kind = held.row.kind, subject = held.row.subject);
    let kind = registered.kind.clone();
    let permits = registered.permits.clone();
    let tasks = shared.tasks.clone();
    let drive = async move {
        let mut driver = Driver {
            shared,
            kind,
            held,
            lease_end,
        };
        while driver.turn().await {}
        drop(permit);
        if permits.available_permits() == 1 {
            // The kind was full: something may have been left lying.
            driver.shared.due.notify_one();
        }
    };
    tasks.spawn(drive.instrument(span));
}

/// Gives a claimed row back untouched.
pub(crate) async fn give_back(shared: &Shared, held: &Held) {
    let row = &held.row;
    let error = row.error.clone();
    let change = Change {
        state: if row.undoing() {
            State::Undoing
        } else {
            State::Queued
        },
        attempt: row.attempt.saturating_sub(1),
        error: error.as_ref(),
        ..Change::waiting()
    };
    if let Err(error) = store::change(&shared.pool, row.id, row.epoch, &change).await {
        tracing::debug!(operation = %row.id, %error, "not given back: its lease runs out");
    }
}

struct Driver {
    shared: Arc<Shared>,
    kind: Arc<dyn Kind>,
    held: Held,
    lease_end: Instant,
}

/// How a step's run ended.
enum Ended {
    Itself(Result<Outcome<RawStep>, Failure>),
    Overdue,
    Lost(&'static str),
}

/// Whom to tell in the transaction.
#[derive(Clone, Copy)]
enum Owner {
    Parked,
    Failed,
}

impl Driver {
    /// One step, or one decision instead of it. False: no longer held.
    async fn turn(&mut self) -> bool {
        if Instant::now() >= self.lease_end {
            tracing::warn!(
                epoch = self.held.row.epoch,
                "the lease ran out before the step began"
            );
            return false;
        }
        let row = &self.held.row;
        if row.definition != self.kind.definition() {
            let message = format!(
                "the row is of definition {}, this program knows {}",
                row.definition,
                self.kind.definition()
            );
            return self
                .park(Failure::stuck("unknown_definition", message))
                .await;
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
            return self.begin_undo("timed_out", Some(timed_out()), false).await;
        }
        if self.held.abandoned && row.attempt > PATIENCE {
            return self.hold_off().await;
        }
        match self.attempt(step).await {
            Ended::Itself(Ok(outcome)) => self.record(step, outcome).await,
            Ended::Itself(Err(failure)) => self.fail(failure).await,
            // The step was dropped in its midst: a new epoch fences what it left behind.
            Ended::Overdue => self.begin_undo("timed_out", Some(timed_out()), true).await,
            Ended::Lost(why) => {
                tracing::warn!(
                    step,
                    epoch = self.held.row.epoch,
                    why,
                    "the step was dropped"
                );
                false
            }
        }
    }

    /// Runs the step in a task of its own, so that its panics are caught and its blocking does not stop the heartbeat.
    async fn attempt(&mut self, step: &'static str) -> Ended {
        let row = &self.held.row;
        tracing::debug!(
            step,
            epoch = row.epoch,
            attempt = row.attempt,
            undoing = row.undoing(),
            "step"
        );
        let cx = Cx::new(self.shared.clone(), row, step);
        let (kind, json, forward) = (self.kind.clone(), row.step.clone(), !row.undoing());
        let run = async move {
            fault::hit(kind.kind(), step, "before")?;
            let outcome = kind.run(&cx, &json).await?;
            fault::hit(kind.kind(), step, "after")?;
            Ok(outcome)
        };
        let mut task = AbortOnDrop(tokio::spawn(run.in_current_span()));
        let shared = self.shared.clone();
        tokio::select! {
            ended = &mut task.0 => Ended::Itself(ended.unwrap_or_else(|error| Err(Failure::transient("panicked", panic_message(error))))),
            ended = self.heartbeat(forward) => {
                task.0.abort();
                // Dropped, its connections are closed; one that blocks its thread is left to the epoch.
                let _ = tokio::time::timeout(Duration::from_secs(1), &mut task.0).await;
                ended
            }
            () = shared.abort.cancelled() => Ended::Lost("the process ends"),
        }
    }

    /// Renews the lease at a third of it; returns when the step must not go on.
    async fn heartbeat(&mut self, forward: bool) -> Ended {
        let (id, epoch, lease) = (self.held.row.id, self.held.row.epoch, self.shared.lease);
        let mut deadline = after(self.held.left);
        loop {
            let now = Instant::now();
            let third = now
                + (self.lease_end.saturating_duration_since(now) / 3)
                    .max(Duration::from_millis(50));
            tokio::time::sleep_until(
                deadline
                    .filter(|_| forward)
                    .map_or(third, |deadline| deadline.min(third)),
            )
            .await;
            let asked = Instant::now();
            match tokio::time::timeout_at(
                self.lease_end,
                store::renew(&self.shared.pool, id, epoch, lease),
            )
            .await
            {
                Ok(Ok(Some(left))) => {
                    self.lease_end = asked + lease;
                    if forward && left.is_some_and(|left| left <= 0.0) {
                        return Ended::Overdue;
                    }
                    deadline = after(left);
                }
                Ok(Ok(None)) => return Ended::Lost("another worker has taken over"),
                Ok(Err(_)) if Instant::now() < self.lease_end => deadline = None,
                Ok(Err(_)) | Err(_) => {
                    return Ended::Lost("the store could not be reached for a whole lease");
                }
            }
        }
    }

    async fn record(&mut self, step: &'static str, outcome: Outcome<RawStep>) -> bool {
        let row = &self.held.row;
        let undoing = row.undoing();
        let failed = row.failed_error.clone();
        let (here, asleep) = if undoing {
            (State::Undoing, State::Undoing)
        } else {
            (State::Running, State::Waiting)
        };
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
                let event = (next.name != step).then_some("asleep");
                (
                    Change {
                        state: asleep,
                        step: Some(next),
                        delay: *after,
                        event,
                        ..Change::waiting()
                    },
                    None,
                )
            }
            Next::Done => {
                let (state, owner) = match row.undo_reason.as_deref() {
                    None => (State::Succeeded, None),
                    Some("cancelled") => (State::Cancelled, Some(Owner::Failed)),
                    Some(_) => (State::Failed, Some(Owner::Failed)),
                };
                let attempt = row.attempt;
                (
                    Change {
                        state,
                        attempt,
                        error: failed.as_ref(),
                        event: Some("finished"),
                        ..Change::waiting()
                    },
                    owner,
                )
            }
        };
        let asked = Instant::now();
        match self.write(&change, outcome.record, owner).await {
            Ok(Some(held)) => self.settled(held, asked, Some(step)).await,
            Ok(None) => self.fenced(),
            Err(failure) => self.fail(failure).await,
        }
    }

    async fn fail(&mut self, failure: Failure) -> bool {
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
                let reason = if matches!(cancelled, Ok(Some(true))) {
                    "cancelled"
                } else {
                    "failed"
                };
                self.begin_undo(reason, Some(said(failure)), false).await
            }
            Class::Transient if failure.code == "panicked" && attempt >= PATIENCE => {
                self.park(failure).await
            }
            Class::Transient => {
                let news = row
                    .error
                    .as_ref()
                    .is_none_or(|before| before.code != failure.code)
                    || attempt <= PATIENCE
                    || attempt.is_multiple_of(20);
                let error = said(failure);
                let change = Change {
                    state: if undoing {
                        State::Undoing
                    } else {
                        State::Waiting
                    },
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
        tracing::warn!(
            step = row.step_name,
            attempt,
            "the step's workers vanished; it waits"
        );
        let error = OperationError {
            code: "abandoned".into(),
            message: format!("the worker of attempt {attempt} vanished"),
        };
        let change = Change {
            state: if row.undoing() {
                State::Undoing
            } else {
                State::Waiting
            },
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
        let change = Change {
            state: State::Stuck,
            attempt,
            error: Some(&error),
            event: Some("stuck"),
            ..Change::waiting()
        };
        self.settle(change, Some(Owner::Parked)).await
    }

    async fn begin_undo(
        &mut self,
        reason: &'static str,
        error: Option<OperationError>,
        new_epoch: bool,
    ) -> bool {
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
        tracing::info!(
            reason,
            step = self.held.row.step_name,
            undo = step.as_ref().map(|step| step.name),
            "undoing"
        );
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
                let state = if reason == "cancelled" {
                    State::Cancelled
                } else {
                    State::Failed
                };
                let attempt = self.held.row.attempt;
                self.settle(
                    Change {
                        state,
                        attempt,
                        event: Some("finished"),
                        ..change
                    },
                    Some(Owner::Failed),
                )
                .await
            }
        }
    }

    fn fenced(&self) -> bool {
        tracing::info!(
            epoch = self.held.row.epoch,
            "another worker has taken over; this one lets go"
        );
        false
    }

    /// Writes what was decided, again and again while the lease lasts.
    async fn settle(&mut self, change: Change<'_>, owner: Option<Owner>) -> bool {
        loop {
            let asked = Instant::now();
            match tokio::time::timeout_at(self.lease_end, self.write(&change, None, owner)).await {
                Ok(Ok(Some(held))) => return self.settled(held, asked, None).await,
                Ok(Ok(None)) => return self.fenced(),
                Ok(Err(failure)) if asked + RECORD_AGAIN < self.lease_end => {
                    tracing::warn!(
                        code = failure.code,
                        message = failure.message,
                        "not recorded yet"
                    );
                    tokio::time::sleep(RECORD_AGAIN).await;
                }
                Ok(Err(_)) | Err(_) => {
                    tracing::error!(
                        "not recorded before the lease ran out; the step will run again"
                    );
                    return false;
                }
            }
        }
    }

    /// After a record was committed. True: the next step may run.
    async fn settled(
        &mut self,
        held: Held,
        asked: Instant,
        recorded: Option<&'static str>,
    ) -> bool {
        self.shared.changed(held.row.id);
        let fault = recorded.map_or(Ok(()), |step| {
            fault::hit(self.kind.kind(), step, "recorded")
        });
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
    async fn write(
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

    async fn tell(
        &self,
        tx: &mut PgConnection,
        held: &Held,
        owner: Owner,
    ) -> Result<(), sqlx::Error> {
        match owner {
            Owner::Parked => self.kind.parked(tx, &held.row).await,
            Owner::Failed => self.kind.failed(tx, &held.row).await,
        }
    }
}

impl Change<'_> {
    /// Due at once, held by nobody, never begun, nothing said: what the others differ from.
    fn waiting() -> Self {
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

fn said(failure: Failure) -> OperationError {
    OperationError {
        code: failure.code,
        message: failure.message,
    }
}

fn timed_out() -> OperationError {
    OperationError {
        code: "timed_out".into(),
        message: "the deadline passed".into(),
    }
}

fn after(seconds: Option<f64>) -> Option<Instant> {
    Some(Instant::now() + Duration::try_from_secs_f64(seconds?.max(0.0)).ok()?)
}
