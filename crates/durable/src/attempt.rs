//! One run of one step: in a task of its own, under a heartbeat.

use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument;

use crate::cx::Cx;
use crate::drive::Driver;
use crate::erased::RawStep;
use crate::loops::{AbortOnDrop, panic_message};
use crate::operation::{Failure, Outcome};
use crate::{fault, store};

/// How a step's run ended.
pub(crate) enum Ended {
    Itself(Result<Outcome<RawStep>, Failure>),
    Overdue,
    Lost(&'static str),
}

impl Driver {
    /// Runs the step in a task of its own, so that its panics are caught and its blocking does not stop the heartbeat.
    pub(crate) async fn attempt(&mut self, step: &'static str) -> Ended {
        let row = &self.held.row;
        tracing::debug!(step, epoch = row.epoch, attempt = row.attempt, undoing = row.undoing(), "step");
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
            let third = now + (self.lease_end.saturating_duration_since(now) / 3).max(Duration::from_millis(50));
            tokio::time::sleep_until(deadline.filter(|_| forward).map_or(third, |deadline| deadline.min(third))).await;
            let asked = Instant::now();
            match tokio::time::timeout_at(self.lease_end, store::renew(&self.shared.pool, id, epoch, lease)).await {
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
}

fn after(seconds: Option<f64>) -> Option<Instant> {
    Some(Instant::now() + Duration::try_from_secs_f64(seconds?.max(0.0)).ok()?)
}
