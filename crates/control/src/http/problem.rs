//! Every refusal is a problem (RFC 9457) with a stable code. What broke inside is logged once, here, and not shown.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use freehold_api::problem::{Code, MEDIA_TYPE, Problem};
use tracing::error;

use super::request;

/// Why there is no room, to whom the fleet is no business: the full reason names servers.
pub const NO_ROOM: &str = "no server has room for the tenant now; whoever runs the servers can see why, and make room";

#[derive(Debug, Clone)]
pub struct Refused(pub Box<Problem>);

impl Refused {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(code, detail)))
    }
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self(Box::new(Problem::field(field, message)))
    }
    pub fn internal(what: &str, error: &dyn std::fmt::Display) -> Self {
        error!(%error, "{what}");
        Self::new(Code::Internal, "something broke inside Freehold; its log has the reason under this request id")
    }
    pub fn code(&self) -> Code {
        self.0.code
    }
    /// As a key that is bound to tenants sees it.
    pub fn without_fleet(mut self) -> Self {
        match self.0.code {
            Code::NoRoom => self.0.detail = NO_ROOM.into(),
            // Server by server, in brackets.
            Code::ExtensionMissing => {
                if let Some((what, _)) = self.0.detail.split_once(" (") {
                    self.0.detail = what.to_owned();
                }
            }
            _ => {}
        }
        self
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        if store_is_away(&error) {
            tracing::warn!(%error, "control store unavailable");
            return Self::new(
                Code::StoreUnavailable,
                "the control store does not answer; tenants are not affected; try again in a moment",
            );
        }
        Self::internal("control store refused a statement", &error)
    }
}

/// Whether the store cannot be used now, as against a statement that it refused.
pub fn store_is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            code.starts_with("08") || code.starts_with("57P") || code == "53300" || code == "53100" || code == "25006"
                // Two that waited for each other: the next try finds the way free.
                || matches!(&*code, "40P01" | "40001" | "55P03")
        }
        _ => false,
    }
}

/// Which constraint a statement broke, if it broke one.
pub fn constraint(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error().and_then(|error| error.constraint())
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let kept = self.clone();
        let mut problem = *self.0;
        problem.request_id = request::current();
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let code = problem.code;
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        match code {
            Code::Unauthenticated => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Code::StoreUnavailable | Code::NoRoom | Code::ServerUnreachable | Code::Timeout | Code::Busy => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
            }
            _ => {}
        }
        // For whoever has to say it otherwise.
        response.extensions_mut().insert(kept);
        response
    }
}
