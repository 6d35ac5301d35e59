//! Why a command did not succeed: what to say, what to type next, and the exit code.
//!
//! 0 ok · 1 failed · 2 usage · 3 prerequisite or settings · 4 not found · 5 conflict · 6 denied · 7 unreachable ·
//! 8 wait expired · 10/11/12 findings of low/medium/high severity · 130 interrupted.

use freehold_api::operation::{Operation, OperationState};
use freehold_api::server::Severity;
use freehold_api::{FieldError, OperationId};
use serde_json::{Value, json};

pub type Outcome = Result<(), Failure>;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Usage(String),
    /// Something must be there first: a context, a program, a file.
    #[error("{detail}")]
    Prerequisite { detail: String, next: Option<String> },
    #[error("{}", .0.detail)]
    Refused(Box<Refusal>),
    #[error("cannot reach {url}: {why}")]
    Unreachable { url: String, why: String },
    #[error("{0}")]
    NotUnderstood(String),
    #[error("{}", ended_badly(.0))]
    OperationEnded(Box<Operation>),
    #[error("operation {0} is still running; the wait is over, the work goes on")]
    WaitExpired(OperationId),
    #[error("interrupted; what was begun goes on")]
    Interrupted { next: Option<String> },
    /// Told on stdout already: only the exit code is left to say.
    #[error("findings")]
    Findings(Severity),
}

/// The API's problem, read leniently: a newer server may know codes that this program does not.
#[derive(Debug, Default)]
pub struct Refusal {
    pub status: u16,
    pub code: String,
    pub detail: String,
    pub request_id: Option<String>,
    pub errors: Vec<FieldError>,
    /// As it came, for `--json`.
    pub problem: Value,
    /// What was asked for: `tenants` and `acme` of `/v1/tenants/acme`.
    pub noun: String,
    pub subject: Option<String>,
}

fn ended_badly(operation: &Operation) -> String {
    let what = match &operation.subject {
        Some(subject) => format!("{} of {subject}", operation.kind),
        None => operation.kind.clone(),
    };
    let why = match &operation.error {
        Some(error) => format!(": {} ({})", error.message, error.code),
        None => String::new(),
    };
    format!("{what} is {} at step {}{why}", operation.state.as_str(), operation.step)
}

impl Failure {
    pub fn usage(detail: impl Into<String>) -> Self {
        Self::Usage(detail.into())
    }

    pub fn prerequisite(detail: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Prerequisite { detail: detail.into(), next: Some(next.into()) }
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Prerequisite { .. } => 3,
            Self::Refused(refusal) => refusal.exit_code(),
            Self::Unreachable { .. } => 7,
            Self::NotUnderstood(_) => 1,
            Self::OperationEnded(operation) => match operation.state {
                OperationState::Stuck => 11,
                _ => 1,
            },
            Self::WaitExpired(_) => 8,
            Self::Interrupted { .. } => 130,
            Self::Findings(Severity::Low) => 10,
            Self::Findings(Severity::Medium) => 11,
            Self::Findings(Severity::High) => 12,
        }
    }

    pub fn errors(&self) -> &[FieldError] {
        match self {
            Self::Refused(refusal) => &refusal.errors,
            _ => &[],
        }
    }

    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) if refusal.status >= 500 => refusal.request_id.as_deref(),
            _ => None,
        }
    }

    /// The command to type next, where one helps.
    pub fn next(&self) -> Option<String> {
        match self {
            Self::Prerequisite { next, .. } | Self::Interrupted { next } => next.clone(),
            Self::Refused(refusal) => refusal.next(),
            Self::Unreachable { .. } => {
                Some("is it running? `freehold dev` starts one here; FREEHOLD_URL or --url names another".into())
            }
            Self::OperationEnded(operation) => Some(match operation.state {
                OperationState::Stuck => format!(
                    "freehold operation retry {id}, or freehold operation resolve {id} --as undone --reason …",
                    id = operation.id
                ),
                _ => format!("freehold operation show {}", operation.id),
            }),
            Self::WaitExpired(id) => Some(format!("freehold operation watch {id}")),
            Self::Usage(_) | Self::NotUnderstood(_) | Self::Findings(_) => None,
        }
    }

    /// Problem JSON: the API's own, or one of the same shape with a code that only this program gives.
    pub fn to_json(&self) -> Value {
        let (code, title) = match self {
            Self::Refused(refusal) if refusal.problem.is_object() => return refusal.problem.clone(),
            Self::Refused(refusal) => (refusal.code.as_str(), "Refused"),
            Self::Usage(_) => ("usage", "Usage"),
            Self::Prerequisite { .. } => ("prerequisite", "A prerequisite is missing"),
            Self::Unreachable { .. } => ("unreachable", "Control plane unreachable"),
            Self::NotUnderstood(_) => ("not_understood", "The answer was not understood"),
            Self::OperationEnded(operation) => {
                let code = operation.error.as_ref().map_or("operation_failed", |error| error.code.as_str());
                (code, "The operation did not succeed")
            }
            Self::WaitExpired(_) => ("wait_expired", "Still running"),
            Self::Interrupted { .. } => ("interrupted", "Interrupted"),
            Self::Findings(_) => ("findings", "Findings"),
        };
        let mut problem = json!({ "type": "about:blank", "title": title, "code": code, "detail": self.to_string() });
        match self {
            Self::OperationEnded(operation) => problem["operation"] = json!(operation.id),
            Self::WaitExpired(id) => problem["operation"] = json!(id),
            _ => {}
        }
        problem
    }
}

impl Refusal {
    fn exit_code(&self) -> u8 {
        match (self.status, self.code.as_str()) {
            (_, "prerequisite" | "extension_missing") => 3,
            (_, "no_room") => 1,
            (404, _) => 4,
            (409 | 412, _) => 5,
            (401 | 403, _) => 6,
            (400 | 422, _) => 2,
            (502..=504, _) => 7,
            _ => 1,
        }
    }

    fn next(&self) -> Option<String> {
        let id = self.subject.as_deref().unwrap_or("ID");
        let next = match self.code.as_str() {
            "unauthenticated" => {
                "give a valid key with FREEHOLD_API_KEY or --api-key-file; `freehold key create` makes one".into()
            }
            "denied" => "use a key with that scope: freehold key create NAME --scope SCOPE".into(),
            "tenant_exists" => format!("freehold tenant show {id}"),
            "tenant_deleted" => format!("freehold tenant undelete {id}, or freehold tenant purge {id} --confirm {id}"),
            "busy" => match self.noun.as_str() {
                "tenants" => format!("freehold operation list --subject tenant:{id}"),
                "servers" => format!("freehold operation list --subject server:{id}"),
                _ => "freehold operation list --state running".into(),
            },
            "deletion_protected" => format!("freehold tenant update {id} --deletion-protection off"),
            "server_exists" => format!("freehold server show {id}"),
            "no_room" => "freehold server list; freehold server add NAME --dsn-file FILE".into(),
            "unknown_plan" => "freehold plan list".into(),
            "unknown_template" => "freehold template list".into(),
            "server_unreachable" => "freehold status".into(),
            "not_found" => match self.noun.as_str() {
                "tenants" => "freehold tenant list".into(),
                "servers" => "freehold server list".into(),
                "plans" => "freehold plan list".into(),
                "templates" => "freehold template list".into(),
                "operations" => "freehold operation list".into(),
                "keys" => "freehold key list".into(),
                "freezes" => "freehold freeze".into(),
                _ => return None,
            },
            _ => return None,
        };
        Some(next)
    }
}
