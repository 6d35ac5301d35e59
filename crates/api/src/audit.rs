//! The record of every change and of every read of a credential.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

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
