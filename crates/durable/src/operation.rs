//! What a durable operation is made of: its steps, their outcomes, and their failures.

use std::fmt::Debug;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::cx::Cx;
use crate::row::{OperationError, OperationRow};
use crate::steps::StepNames;

/// One durable piece of work. A step's effects are *ensures* and *removes*, because any step may run twice.
#[async_trait::async_trait]
pub trait Operation: Send + Sync + 'static {
    type Step: StepNames + Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static;

    /// `tenant.create`
    fn kind(&self) -> &'static str;

    /// The version of the steps. Raise it when an old row could be misread: rows of another version are parked as stuck.
    fn definition(&self) -> i32 {
        1
    }

    /// How many of this kind one process runs at a time.
    fn concurrency(&self) -> usize {
        8
    }

    /// Runs one step, forward or of the undo (`cx.undoing`). May be run twice.
    async fn run(&self, cx: &Cx, step: Self::Step) -> Result<Outcome<Self::Step>, Failure>;

    /// Where undoing begins when `failed` failed for good, was cancelled or timed out; `failed` may not have begun.
    /// None: there is nothing to undo.
    fn undo(&self, failed: &Self::Step) -> Option<Self::Step>;

    /// Called in the transaction in which a person ends a stuck operation.
    async fn resolved(
        &self,
        _tx: &mut PgConnection,
        _step: &Self::Step,
        _operation: Uuid,
        _as: Resolution,
    ) -> Result<(), sqlx::Error> {
        Ok(())
    }

    /// Called in the transaction that parks the operation as stuck, so that its owner can show it.
    async fn parked(&self, _tx: &mut PgConnection, _operation: &OperationRow) -> Result<(), sqlx::Error> {
        Ok(())
    }

    /// Called in the transaction that ends the operation as failed or cancelled, with or without an undo before it.
    async fn failed(&self, _tx: &mut PgConnection, _operation: &OperationRow) -> Result<(), sqlx::Error> {
        Ok(())
    }
}

/// What comes after a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Next<S> {
    Step(S),
    /// Asleep, holding nothing, until the time has passed; a signal does not wake it.
    Again {
        after: Duration,
        step: S,
    },
    Done,
}

/// Runs in the transaction that records the step.
pub type Record = Box<dyn for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<(), Failure>> + Send>;

/// A step that succeeded: what is next, and what is recorded with it.
pub struct Outcome<S> {
    pub next: Next<S>,
    pub(crate) record: Option<Record>,
    pub(crate) waits_for: Option<OperationError>,
}

impl<S> Outcome<S> {
    pub fn step(step: S) -> Self {
        Self { next: Next::Step(step), record: None, waits_for: None }
    }

    pub fn done() -> Self {
        Self { next: Next::Done, record: None, waits_for: None }
    }

    pub fn again(after: Duration, step: S) -> Self {
        Self { next: Next::Again { after, step }, record: None, waits_for: None }
    }

    /// Says what it sleeps for, where people look at an operation. Neither a failure nor an attempt.
    pub fn waiting_for(mut self, code: impl Into<String>, message: impl Into<String>) -> Self {
        self.waits_for = Some(OperationError { code: code.into(), message: message.into() });
        self
    }

    /// Adds what must be true exactly when the step counts as done: it commits with the step's record, or not at all.
    /// `Outcome::done().recording(|tx| Box::pin(async move { … Ok(()) }))`
    pub fn recording<F>(mut self, record: F) -> Self
    where
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<(), Failure>> + Send + 'static,
    {
        self.record = Some(Box::new(record));
        self
    }
}

/// What the engine does about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Tried again, after a growing pause.
    Transient,
    /// Undone; in an undo, parked.
    Permanent,
    /// Parked for a person.
    Stuck,
    /// Another worker has it: this one lets go and writes nothing.
    Fenced,
}

/// Why a step did not succeed. `code` is stable, `message` is for people; neither holds a secret.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    pub class: Class,
    pub code: String,
    pub message: String,
}

impl Failure {
    pub fn transient(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { class: Class::Transient, code: code.into(), message: message.into() }
    }

    pub fn permanent(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { class: Class::Permanent, code: code.into(), message: message.into() }
    }

    pub fn stuck(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { class: Class::Stuck, code: code.into(), message: message.into() }
    }

    pub fn fenced() -> Self {
        Self { class: Class::Fenced, code: "fenced".into(), message: "another worker has taken over".into() }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        let refused = match &error {
            // Wrong data, a broken constraint, a wrong statement: the next try would be refused as well.
            sqlx::Error::Database(error) => {
                error.code().is_some_and(|code| ["22", "23", "42"].iter().any(|class| code.starts_with(class)))
            }
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => true,
            _ => false,
        };
        match refused {
            true => Self::stuck("store_refused", error.to_string()),
            false => Self::transient("store_unavailable", error.to_string()),
        }
    }
}

/// An operation to be started.
#[derive(Debug, Clone)]
pub struct New<S> {
    pub kind: &'static str,
    /// One operation in flight per subject; None: any number.
    pub subject: Option<String>,
    pub step: S,
    /// From now; past it the operation is undone and fails with code `timed_out`.
    pub deadline: Option<Duration>,
    pub requested_by: Option<String>,
    pub request_id: Option<String>,
    /// Goes on while operations are frozen: for what takes moments and somebody waits for.
    pub urgent: bool,
}

impl<S> New<S> {
    pub fn of(kind: &'static str, step: S) -> Self {
        Self { kind, subject: None, step, deadline: None, requested_by: None, request_id: None, urgent: false }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("operation {operation} ({kind}) is already working on it")]
    Busy { operation: Uuid, kind: String },
    #[error("the store did not take the operation")]
    Store(#[from] sqlx::Error),
}

/// How a person says that a stuck operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    Succeeded,
    Failed,
    Cancelled,
}

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("no such operation")]
    NotFound,
    #[error("the operation is {}", now.as_str())]
    WrongState { now: crate::row::State },
    /// What was to be recorded with it refused.
    #[error("refused")]
    Refused(#[source] Failure),
    #[error("the store did not answer")]
    Store(#[from] sqlx::Error),
}
