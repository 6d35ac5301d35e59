//! What a step knows about itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;
use uuid::Uuid;

use crate::engine::{Engine, Shared};
use crate::operation::Failure;
use crate::row::{OperationRow, Progress};
use crate::{fault, store};

/// Progress is written at most this often: a step may report every row it copies.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// The operation that a step belongs to, as of this attempt.
#[derive(Clone)]
pub struct Cx {
    pub operation: Uuid,
    /// Raised by every claim: what is made outside carries it, and yields to a higher one.
    pub epoch: i64,
    /// 1 for the first.
    pub attempt: u32,
    pub subject: Option<String>,
    pub undoing: bool,
    kind: Arc<str>,
    step: &'static str,
    reported: Arc<Mutex<Option<Instant>>>,
    shared: Arc<Shared>,
}

impl Cx {
    pub(crate) fn new(shared: Arc<Shared>, row: &OperationRow, step: &'static str) -> Self {
        Self {
            operation: row.id,
            epoch: row.epoch,
            attempt: row.attempt,
            subject: row.subject.clone(),
            undoing: row.undoing(),
            kind: row.kind.as_str().into(),
            step,
            reported: Arc::default(),
            shared,
        }
    }

    /// For connections to servers, so that a successor can end those of lower epochs. At most 59 of the 63 bytes that PostgreSQL keeps.
    pub fn application_name(&self) -> String {
        format!("fh:{}:{}", self.operation, self.epoch)
    }

    /// To be asked right before an effect that a successor could not take back.
    pub async fn still_mine(&self) -> Result<(), Failure> {
        store::held(&self.shared.pool, self.operation, self.epoch).await?.map(drop).ok_or_else(Failure::fenced)
    }

    /// To be asked in a transaction right before its commit: until then, nobody else takes the operation.
    pub async fn still_mine_in(&self, tx: &mut PgConnection) -> Result<(), Failure> {
        let sql =
            "select true from operation where id = $1 and epoch = $2 and state in ('running', 'undoing') for share";
        let mine: Option<bool> =
            sqlx::query_scalar(sql).bind(self.operation).bind(self.epoch).fetch_optional(tx).await?;
        mine.map(drop).ok_or_else(Failure::fenced)
    }

    /// Whether somebody asked for the end; a long step then stops with a failure and is undone.
    pub async fn cancel_requested(&self) -> Result<bool, Failure> {
        store::held(&self.shared.pool, self.operation, self.epoch).await?.ok_or_else(Failure::fenced)
    }

    /// Shows how far a long step is, and renews the lease.
    pub async fn progress(&self, done: u64, total: u64, unit: &str) -> Result<(), Failure> {
        {
            let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            if done < total && reported.is_some_and(|at| at.elapsed() < PROGRESS_EVERY) {
                return Ok(());
            }
            *reported = Some(Instant::now());
        }
        let progress = Progress { done, total, unit: unit.to_owned() };
        if !store::progress(&self.shared.pool, self.operation, self.epoch, self.shared.lease, &progress).await? {
            return Err(Failure::fenced());
        }
        self.shared.changed(self.operation);
        Ok(())
    }

    /// The fault point `kind/Step/point`. Nothing in release builds.
    pub fn fault(&self, point: &str) -> Result<(), Failure> {
        fault::hit(&self.kind, self.step, point)
    }

    pub fn store(&self) -> &PgPool {
        &self.shared.pool
    }

    /// For a step that starts another operation or wakes a loop.
    pub fn engine(&self) -> Engine {
        Engine { shared: self.shared.clone() }
    }
}
