//! Rows as they are in the store.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, Row};
use uuid::Uuid;

/// `queued → running ⇄ waiting → succeeded`; `running → undoing → failed | cancelled`; anything in flight → `stuck`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Queued,
    Running,
    /// Between attempts, or asleep until a time.
    Waiting,
    Succeeded,
    Undoing,
    Failed,
    Cancelled,
    /// Parked for a person.
    Stuck,
}

impl State {
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::Succeeded,
        Self::Undoing,
        Self::Failed,
        Self::Cancelled,
        Self::Stuck,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Undoing => "undoing",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Stuck => "stuck",
        }
    }

    pub fn is_over(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
            Self::Queued | Self::Running | Self::Waiting | Self::Undoing | Self::Stuck => false,
        }
    }

    fn parse(text: &str) -> Result<Self, sqlx::Error> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| sqlx::Error::Decode(format!("unknown operation state {text}").into()))
    }
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationRow {
    pub id: Uuid,
    pub kind: String,
    pub definition: i32,
    pub subject: Option<String>,
    pub state: State,
    pub step: serde_json::Value,
    pub step_name: String,
    pub progress: Option<Progress>,
    pub attempt: u32,
    pub epoch: i64,
    pub holder: Option<String>,
    pub lease_until: Option<Timestamp>,
    pub next_run_at: Timestamp,
    pub deadline: Option<Timestamp>,
    pub error: Option<OperationError>,
    pub cancel_requested: bool,
    /// `failed`, `cancelled` or `timed_out`, once undoing began.
    pub undo_reason: Option<String>,
    /// Why undoing began.
    pub failed_error: Option<OperationError>,
    pub requested_by: Option<String>,
    pub request_id: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

impl OperationRow {
    pub fn undoing(&self) -> bool {
        self.undo_reason.is_some()
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
    pub unit: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationError {
    pub code: String,
    pub message: String,
}

/// Something that happened to an operation. `seq` grows within one operation, with gaps.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    pub operation: Uuid,
    pub seq: i64,
    pub at: Timestamp,
    /// `started`, `step`, `asleep`, `retry`, `abandoned`, `undo`, `cancel`, `stuck`, `requeued`, `resolved`, `finished`
    pub kind: String,
    pub state: State,
    pub step_name: String,
    pub attempt: u32,
    pub epoch: i64,
    pub error: Option<OperationError>,
}

/// Which operations to list, newest first. A limit of 0 means 100.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub state: Option<State>,
    pub kind: Option<String>,
    pub subject: Option<String>,
    pub before: Option<Uuid>,
    pub limit: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FreezeRow {
    pub target: String,
    pub until: Option<Timestamp>,
    pub by: Option<String>,
    pub at: Timestamp,
}

/// A loop as it last ran, anywhere.
#[derive(Debug, Clone, PartialEq)]
pub struct LoopRow {
    pub name: String,
    pub epoch: i64,
    pub holder: String,
    pub lease_until: Timestamp,
    pub next_run_at: Timestamp,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    pub error: Option<OperationError>,
}

fn time(row: &PgRow, column: &str) -> Result<Timestamp, sqlx::Error> {
    Ok(row.try_get::<jiff_sqlx::Timestamp, _>(column)?.to_jiff())
}

fn maybe_time(row: &PgRow, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(row.try_get::<Option<jiff_sqlx::Timestamp>, _>(column)?.map(jiff_sqlx::Timestamp::to_jiff))
}

fn state(row: &PgRow) -> Result<State, sqlx::Error> {
    State::parse(row.try_get::<&str, _>("state")?)
}

fn error(row: &PgRow, column: &str) -> Result<Option<OperationError>, sqlx::Error> {
    Ok(row.try_get::<Option<Json<OperationError>>, _>(column)?.map(|json| json.0))
}

fn count(row: &PgRow, column: &str) -> Result<u32, sqlx::Error> {
    Ok(u32::try_from(row.try_get::<i32, _>(column)?).unwrap_or(0))
}

impl FromRow<'_, PgRow> for OperationRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            kind: row.try_get("kind")?,
            definition: row.try_get("definition")?,
            subject: row.try_get("subject")?,
            state: state(row)?,
            step: row.try_get("step")?,
            step_name: row.try_get("step_name")?,
            progress: row.try_get::<Option<Json<Progress>>, _>("progress")?.map(|json| json.0),
            attempt: count(row, "attempt")?,
            epoch: row.try_get("epoch")?,
            holder: row.try_get("holder")?,
            lease_until: maybe_time(row, "lease_until")?,
            next_run_at: time(row, "next_run_at")?,
            deadline: maybe_time(row, "deadline")?,
            error: error(row, "error")?,
            cancel_requested: row.try_get("cancel_requested")?,
            undo_reason: row.try_get("undo_reason")?,
            failed_error: error(row, "failed_error")?,
            requested_by: row.try_get("requested_by")?,
            request_id: row.try_get("request_id")?,
            created_at: time(row, "created_at")?,
            updated_at: time(row, "updated_at")?,
            finished_at: maybe_time(row, "finished_at")?,
        })
    }
}

impl FromRow<'_, PgRow> for EventRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            operation: row.try_get("operation")?,
            seq: row.try_get("seq")?,
            at: time(row, "at")?,
            kind: row.try_get("kind")?,
            state: state(row)?,
            step_name: row.try_get("step_name")?,
            attempt: count(row, "attempt")?,
            epoch: row.try_get("epoch")?,
            error: error(row, "error")?,
        })
    }
}

impl FromRow<'_, PgRow> for FreezeRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            target: row.try_get("target")?,
            until: maybe_time(row, "until")?,
            by: row.try_get("by")?,
            at: time(row, "at")?,
        })
    }
}

impl FromRow<'_, PgRow> for LoopRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            name: row.try_get("name")?,
            epoch: row.try_get("epoch")?,
            holder: row.try_get("holder")?,
            lease_until: time(row, "lease_until")?,
            next_run_at: time(row, "next_run_at")?,
            started_at: time(row, "started_at")?,
            finished_at: maybe_time(row, "finished_at")?,
            error: error(row, "error")?,
        })
    }
}
