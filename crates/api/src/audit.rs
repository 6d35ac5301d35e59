//! The record of every change and of every read of a credential.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::server::Severity;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Success,
    Failure,
    Denied,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Denied => "denied",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEvent {
    pub id: Uuid,
    /// In the chain; null where it is not sealed yet.
    #[serde(default)]
    pub place: Option<i64>,
    pub at: Timestamp,
    /// `key:<id>` with its name, `operation:<id>`, `loop:<name>` or `system`.
    pub actor: String,
    pub actor_name: Option<String>,
    /// `tenant.create`, `credential.read`, …
    pub action: String,
    /// `tenant:acme`
    pub subject: Option<String>,
    pub outcome: Outcome,
    /// A problem's or an operation error's code, when the outcome is not success.
    pub reason: Option<String>,
    pub request_id: Option<String>,
    pub client: Option<String>,
    /// Never holds a secret.
    pub details: serde_json::Value,
    /// Names, addresses and details were taken out of it.
    #[serde(default)]
    pub redacted: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListAudit {
    pub actor: Option<String>,
    pub action: Option<String>,
    /// `tenant:acme`
    pub subject: Option<String>,
    pub outcome: Option<Outcome>,
    pub request_id: Option<String>,
    /// Inclusive.
    pub since: Option<Timestamp>,
    /// Exclusive.
    pub until: Option<Timestamp>,
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
    pub cursor: Option<String>,
}

/// What a walk over the chain of sealed events found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditVerified {
    /// The control store whose chain it is.
    pub store: Uuid,
    /// How many events were walked.
    pub records: u64,
    /// Events before the first, which retention removed.
    #[serde(default)]
    pub removed: u64,
    /// The first and the last place that was walked; null where there was none.
    pub first: Option<i64>,
    pub last: Option<i64>,
    /// Of the event at the last place, in hexadecimal digits.
    pub hash: Option<String>,
    /// Events that wait to be sealed.
    pub unsealed: u64,
    /// Checkpoints that agree with what was walked; null where this plane writes none.
    pub checkpoints: Option<u64>,
    /// In the order of places.
    pub findings: Vec<AuditFinding>,
    /// Findings beyond those.
    pub more: u64,
    /// Where to go on (`?after=`): there was more than fits into one answer. Null: that was all.
    pub next: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditFinding {
    pub kind: AuditFindingKind,
    /// In the chain; null where it is about none.
    pub place: Option<i64>,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditFindingKind {
    /// It is not what was sealed.
    Changed,
    /// Places are empty.
    Missing,
    /// It stands beyond the end, or where another one stands.
    Inserted,
    /// It was sealed at another place.
    Moved,
    /// Another hash than a checkpoint, or the store's beginning, has.
    Rewritten,
    /// The end is gone, or the store is an older copy.
    Truncated,
    /// What is about persons was taken out of it, and no event says by whom.
    Redacted,
    /// It waits for longer than a minute to be sealed.
    Unsealed,
    /// A checkpoint that proves nothing.
    Checkpoint,
}

impl AuditFindingKind {
    pub const ALL: [Self; 9] = [
        Self::Changed,
        Self::Missing,
        Self::Inserted,
        Self::Moved,
        Self::Rewritten,
        Self::Truncated,
        Self::Redacted,
        Self::Unsealed,
        Self::Checkpoint,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Missing => "missing",
            Self::Inserted => "inserted",
            Self::Moved => "moved",
            Self::Rewritten => "rewritten",
            Self::Truncated => "truncated",
            Self::Redacted => "redacted",
            Self::Unsealed => "unsealed",
            Self::Checkpoint => "checkpoint",
        }
    }

    /// What is not sealed yet was not bent.
    pub fn severity(self) -> Severity {
        match self {
            Self::Unsealed => Severity::Medium,
            Self::Changed
            | Self::Missing
            | Self::Inserted
            | Self::Moved
            | Self::Rewritten
            | Self::Truncated
            | Self::Redacted
            | Self::Checkpoint => Severity::High,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct VerifyAudit {
    /// Begins after this place, whose hash is believed. Absent: with the first.
    #[param(minimum = 1)]
    pub after: Option<i64>,
}

/// What checkpoints are signed with, to be kept apart from the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditKey {
    pub id: String,
    /// Ed25519: base64 of 32 bytes.
    pub public_key: String,
    /// The control store whose chain it signs.
    pub store: Uuid,
    /// Null where nothing was removed.
    #[serde(default)]
    pub beginning: Option<AuditBeginning>,
}

/// The chain begins after this place, because retention removed what came before; signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditBeginning {
    pub place: i64,
    /// Of the last event that was removed, in hexadecimal digits.
    pub hash: String,
    pub at: Timestamp,
    pub key: String,
    /// Ed25519, in base64.
    pub signature: String,
}

/// Takes names, addresses and details out of sealed events. What is not chosen by is any.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedactAudit {
    /// Why: it stays in the audit, with who asked.
    pub reason: String,
    /// One event.
    #[serde(default)]
    pub id: Option<Uuid>,
    #[serde(default)]
    pub actor: Option<String>,
    #[serde(default)]
    pub action: Option<String>,
    /// `tenant:acme`
    #[serde(default)]
    pub subject: Option<String>,
    #[serde(default)]
    pub outcome: Option<Outcome>,
    #[serde(default)]
    pub request_id: Option<String>,
    /// Inclusive.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Exclusive.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

impl RedactAudit {
    /// The same choice, as of a list.
    pub fn choice(&self) -> ListAudit {
        let Self { reason: _, id: _, actor, action, subject, outcome, request_id, since, until } = self.clone();
        ListAudit { actor, action, subject, outcome, request_id, since, until, ..ListAudit::default() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRedacted {
    /// The event that says so; null where there was nothing to take out.
    pub event: Option<Uuid>,
    pub redacted: u64,
    /// Chosen, and kept as they are because a hold is on them.
    pub held: u64,
    /// More are chosen than one request takes: send it again.
    pub more: bool,
}

/// Events that are neither removed nor redacted while it stands. What is not named is any; nothing named is everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAuditHold {
    /// Why: it stays in the audit, with who asked.
    pub reason: String,
    /// `tenant:acme`
    #[serde(default)]
    pub subject: Option<String>,
    #[serde(default)]
    pub actor: Option<String>,
    /// Inclusive.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Exclusive.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditHold {
    pub id: Uuid,
    pub reason: String,
    pub subject: Option<String>,
    pub actor: Option<String>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Who asked for it.
    pub by: String,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReleaseAuditHold {
    /// Why: it stays in the audit, with who asked.
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// One JSON object on each line, with all that a walk over the chain needs.
    #[default]
    Jsonl,
    /// For spreadsheets: with a header, and with what they would run made harmless.
    Csv,
}

impl ExportFormat {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportAudit {
    #[param(inline)]
    pub format: Option<ExportFormat>,
    pub actor: Option<String>,
    pub action: Option<String>,
    /// `tenant:acme`
    pub subject: Option<String>,
    pub outcome: Option<Outcome>,
    pub request_id: Option<String>,
    /// Inclusive.
    pub since: Option<Timestamp>,
    /// Exclusive.
    pub until: Option<Timestamp>,
}

impl ExportAudit {
    /// The same choice, as of a list.
    pub fn choice(self) -> ListAudit {
        let Self { format: _, actor, action, subject, outcome, request_id, since, until } = self;
        ListAudit { actor, action, subject, outcome, request_id, since, until, ..ListAudit::default() }
    }
}
