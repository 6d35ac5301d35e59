//! An operation: one durable piece of work.
//! `queued → running ⇄ waiting → succeeded`; `running → undoing → failed | cancelled`; anything → `stuck`, until a person resolves it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::id::OperationId;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    Queued,
    Running,
    /// Between attempts, or asleep until a time.
    Waiting,
    Succeeded,
    Undoing,
    Failed,
    Cancelled,
    /// Parked for a person: `retry`, or `resolve` with a reason.
    Stuck,
}

impl OperationState {
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
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    pub id: OperationId,
    /// `tenant.create`, `stock.build`, …
    pub kind: String,
    /// What it works on: `tenant:acme`, `server:local-1`, …
    pub subject: Option<String>,
    pub state: OperationState,
    /// The step it is at, by name.
    pub step: String,
    pub progress: Option<Progress>,
    /// How often the current step was begun.
    pub attempt: u32,
    pub error: Option<OperationError>,
    pub cancel_requested: bool,
    /// When it is tried next, while waiting.
    pub next_run_at: Option<Timestamp>,
    /// Past it, the operation fails with code `timed_out`.
    pub deadline: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
    /// What is counted: `steps`, `bytes`, …
    pub unit: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OperationError {
    /// Stable: `server_unreachable`, `admin_denied`, `disk_full`, `timed_out`, …
    pub code: String,
    pub message: String,
}

/// One line of `GET /v1/operations/{id}/events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OperationEvent {
    /// Grows within an operation; send it back as `Last-Event-ID`.
    pub seq: i64,
    pub at: Timestamp,
    pub state: OperationState,
    pub step: String,
    pub attempt: u32,
    pub error: Option<OperationError>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListOperations {
    pub state: Option<OperationState>,
    pub kind: Option<String>,
    /// `tenant:acme`
    pub subject: Option<String>,
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
    pub cursor: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// A person has finished the work.
    Succeeded,
    /// A person has taken the work back.
    Undone,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveOperation {
    #[serde(rename = "as")]
    pub resolution: Resolution,
    /// Kept in the audit.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
}
