//! Why a command did not succeed: what to say, what to type next, and the exit code.
//!
//! 0 ok · 1 failed · 2 usage · 3 prerequisite or settings · 4 not found · 5 conflict · 6 denied · 7 unreachable ·
//! 8 wait expired · 10/11/12 findings of low/medium/high severity · 130 interrupted.

use freehold_api::FieldError;
use freehold_api::operation::OperationState;
use freehold_api::server::Severity;
use freehold_client::{Error, Refusal};
use serde_json::{Value, json};

pub type Outcome = Result<(), Failure>;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Usage(String),
    /// Something must be there first: a context, a program, a file.
    #[error("{detail}")]
    Prerequisite { detail: String, next: Option<String> },
    /// Asking, or what was asked for, did not succeed.
    #[error(transparent)]
    Asked(#[from] Error),
    #[error("interrupted; what was begun goes on")]
    Interrupted { next: Option<String> },
    /// Told on stdout already: only the exit code is left to say.
    #[error("findings")]
    Findings(Severity),
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
            Self::Prerequisite { .. } | Self::Asked(Error::Settings(_)) => 3,
            Self::Asked(Error::Refused(refusal)) => exit_code_of(refusal),
            Self::Asked(Error::Unreachable { .. }) => 7,
            Self::Asked(Error::NotUnderstood(_)) => 1,
            Self::Asked(Error::OperationEnded(operation)) => match operation.state {
                OperationState::Stuck => 11,
                _ => 1,
            },
            Self::Asked(Error::WaitExpired(_)) => 8,
            Self::Interrupted { .. } => 130,
            Self::Findings(Severity::Low) => 10,
            Self::Findings(Severity::Medium) => 11,
            Self::Findings(Severity::High) => 12,
        }
    }

    pub fn errors(&self) -> &[FieldError] {
        match self {
            Self::Asked(Error::Refused(refusal)) => &refusal.errors,
            _ => &[],
        }
    }

    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Asked(Error::Refused(refusal)) if refusal.status >= 500 => refusal.request_id.as_deref(),
            _ => None,
        }
    }

    /// The command to type next, where one helps.
    pub fn next(&self) -> Option<String> {
        match self {
            Self::Prerequisite { next, .. } | Self::Interrupted { next } => next.clone(),
            Self::Asked(error) => next_after(error),
            Self::Usage(_) | Self::Findings(_) => None,
        }
    }

    /// Problem JSON: the API's own, or one of the same shape with a code that only this program gives.
    pub fn to_json(&self) -> Value {
        let (code, title) = match self {
            Self::Asked(Error::Refused(refusal)) if refusal.problem.is_object() => return refusal.problem.clone(),
            Self::Asked(Error::Refused(refusal)) => (refusal.code.as_str(), "Refused"),
            Self::Usage(_) => ("usage", "Usage"),
            Self::Prerequisite { .. } | Self::Asked(Error::Settings(_)) => {
                ("prerequisite", "A prerequisite is missing")
            }
            Self::Asked(Error::Unreachable { .. }) => ("unreachable", "Control plane unreachable"),
            Self::Asked(Error::NotUnderstood(_)) => ("not_understood", "The answer was not understood"),
            Self::Asked(Error::OperationEnded(operation)) => {
                let code = operation.error.as_ref().map_or("operation_failed", |error| error.code.as_str());
                (code, "The operation did not succeed")
            }
            Self::Asked(Error::WaitExpired(_)) => ("wait_expired", "Still running"),
            Self::Interrupted { .. } => ("interrupted", "Interrupted"),
            Self::Findings(_) => ("findings", "Findings"),
        };
        let mut problem = json!({ "type": "about:blank", "title": title, "code": code, "detail": self.to_string() });
        match self {
            Self::Asked(Error::OperationEnded(operation)) => problem["operation"] = json!(operation.id),
            Self::Asked(Error::WaitExpired(id)) => problem["operation"] = json!(id),
            _ => {}
        }
        problem
    }
}

fn exit_code_of(refusal: &Refusal) -> u8 {
    match (refusal.status, refusal.code.as_str()) {
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

fn next_after(error: &Error) -> Option<String> {
    match error {
        Error::Settings(_) => Some("check the address, and the key in FREEHOLD_API_KEY or the context file".into()),
        Error::Refused(refusal) => next_after_refusal(refusal),
        Error::Unreachable { .. } => {
            Some("is it running? `freehold dev` starts one here; FREEHOLD_URL or --url names another".into())
        }
        Error::OperationEnded(operation) => Some(match operation.state {
            OperationState::Stuck => format!(
                "freehold operation retry {id}, or freehold operation resolve {id} --as undone --reason …",
                id = operation.id
            ),
            _ => format!("freehold operation show {}", operation.id),
        }),
        Error::WaitExpired(id) => Some(format!("freehold operation watch {id}")),
        Error::NotUnderstood(_) => None,
    }
}

fn next_after_refusal(refusal: &Refusal) -> Option<String> {
    let id = refusal.subject.as_deref().unwrap_or("ID");
    let next = match refusal.code.as_str() {
        "unauthenticated" => {
            "give a valid key with FREEHOLD_API_KEY or --api-key-file; `freehold key create` makes one".into()
        }
        "denied" => "use a key with that scope: freehold key create NAME --scope SCOPE".into(),
        "tenant_exists" => format!("freehold tenant show {id}"),
        "tenant_deleted" => format!("freehold tenant undelete {id}, or freehold tenant purge {id} --confirm {id}"),
        "busy" => match refusal.noun.as_str() {
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
        "not_found" => match refusal.noun.as_str() {
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
