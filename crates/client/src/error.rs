//! Why there is no answer, or not the one that was hoped for.

use std::time::Duration;

use freehold_api::operation::Operation;
use freehold_api::{FieldError, OperationId};
use serde_json::Value;

/// Why a request, or the work that it began, did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client cannot be made from what it was given: no URL, a key with impossible characters, no certificates.
    #[error("{0}")]
    Settings(String),
    /// The API said no. What it said is in the [`Refusal`].
    #[error("{}", .0.detail)]
    Refused(Box<Refusal>),
    /// No answer came, for as long as the client was told to try.
    #[error("cannot reach {url}: {why}")]
    Unreachable {
        /// The control plane that was asked.
        url: String,
        /// The innermost cause: `Connection refused (os error 111)`.
        why: String,
    },
    /// An answer came that is not the API's, or that this version does not know.
    #[error("{0}")]
    NotUnderstood(String),
    /// The work ended otherwise than by success, or is stuck and waits for a person.
    #[error("{}", ended_badly(.0))]
    OperationEnded(Box<Operation>),
    /// The wait is over and the work goes on: follow it by this id.
    #[error("operation {0} is still running; the wait is over, the work goes on")]
    WaitExpired(OperationId),
}

impl Error {
    /// The problem's stable code (`tenant_exists`, `no_room`, …), or that of the failed operation.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.code),
            Self::OperationEnded(operation) => operation.error.as_ref().map(|error| error.code.as_str()),
            Self::Settings(_) | Self::Unreachable { .. } | Self::NotUnderstood(_) | Self::WaitExpired(_) => None,
        }
    }
}

/// The API's problem, read leniently: a newer server may know codes that this program does not.
#[derive(Debug, Default, Clone)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// Stable; empty where whoever answered is not Freehold (a proxy).
    pub code: String,
    /// What was wrong and what to do next, for people.
    pub detail: String,
    /// The same as in the server's log.
    pub request_id: Option<String>,
    /// Which fields were wrong, where fields were.
    pub errors: Vec<FieldError>,
    /// What the server said of when to come back.
    pub retry_after: Option<Duration>,
    /// The problem as it came.
    pub problem: Value,
    /// What was asked for: `tenants` of `/v1/tenants/acme`.
    pub noun: String,
    /// `acme` of `/v1/tenants/acme`, or the `id` in the body.
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

/// The innermost cause says what happened: "Connection refused (os error 111)".
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
