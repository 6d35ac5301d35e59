//! RFC 9457 problem details. `code` is stable and is what programs test; `detail` is for people.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub const MEDIA_TYPE: &str = "application/problem+json";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// Always `about:blank`: `code` is the identifier.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    #[schema(minimum = 100, maximum = 599)]
    pub status: u16,
    pub code: Code,
    /// What was wrong, what was expected, and what to do next.
    pub detail: String,
    /// The request this answers; the same as the `X-Request-Id` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    pub field: String,
    pub message: String,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:literal, $title:literal;)*) => {
        /// Every `code` that a problem can carry, with the HTTP status it comes with.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            pub const ALL: &[Code] = &[$(Code::$variant,)*];
            pub fn as_str(self) -> &'static str { match self { $(Code::$variant => $code,)* } }
            pub fn status(self) -> u16 { match self { $(Code::$variant => $status,)* } }
            pub fn title(self) -> &'static str { match self { $(Code::$variant => $title,)* } }
        }
    };
}

codes! {
    /// The request is malformed: not JSON, a bad header, a bad cursor.
    BadRequest = "bad_request", 400, "Bad request";
    Unauthenticated = "unauthenticated", 401, "No valid API key";
    /// Of an edge: what was asked for is to be paid first.
    PaymentRequired = "payment_required", 402, "Payment required";
    /// The key lacks a scope, or is bound to other tenants.
    Denied = "denied", 403, "Not allowed";
    NotFound = "not_found", 404, "Not found";
    MethodNotAllowed = "method_not_allowed", 405, "Method not allowed";
    RequestTimeout = "request_timeout", 408, "The request took too long to arrive";
    /// A tenant of this id exists and differs from what was asked.
    TenantExists = "tenant_exists", 409, "Tenant exists with other values";
    /// A tenant of this id was deleted and is in its grace period.
    TenantDeleted = "tenant_deleted", 409, "Tenant was deleted";
    /// The name that the template gives is taken by somebody else.
    NameTaken = "name_taken", 409, "Name is taken";
    /// The thing is in a state from which this cannot be done.
    WrongState = "wrong_state", 409, "Not possible in this state";
    /// The tenant has the plan that was asked for.
    SamePlan = "same_plan", 409, "The tenant has this plan";
    /// The tenant's database is larger than the plan allows.
    QuotaExceeded = "quota_exceeded", 409, "More in use than the plan allows";
    /// What is in the way of a move passes: it may be possible later.
    NotNow = "not_now", 409, "Not possible now";
    /// A drain is over, and somebody is still on the server.
    TenantsLeft = "tenants_left", 409, "Tenants are left";
    /// Another operation works on the same thing.
    Busy = "busy", 409, "Another operation is in flight";
    ServerExists = "server_exists", 409, "Server exists with other values";
    PoolerExists = "pooler_exists", 409, "Pooler exists with other values";
    DeletionProtected = "deletion_protected", 409, "Deletion protection is on";
    /// Another request with this `Idempotency-Key` is still being answered.
    IdempotencyInFlight = "idempotency_in_flight", 409, "The first request is still in flight";
    PreconditionFailed = "precondition_failed", 412, "The thing changed meanwhile";
    BodyTooLarge = "body_too_large", 413, "Body too large";
    UnsupportedMediaType = "unsupported_media_type", 415, "Unsupported media type";
    /// A field has a value that cannot be used; see `errors`.
    Invalid = "invalid", 422, "Invalid value";
    UnknownPlan = "unknown_plan", 422, "Unknown plan";
    UnknownTemplate = "unknown_template", 422, "Unknown template";
    /// The same `Idempotency-Key` came with another body.
    IdempotencyMismatch = "idempotency_mismatch", 422, "Idempotency key was used for something else";
    ConfirmationRequired = "confirmation_required", 422, "Confirmation required";
    /// No server can take the tenant now; see `detail`.
    NoRoom = "no_room", 503, "No server has room";
    /// A required extension is not installed on any server that could take the tenant.
    ExtensionMissing = "extension_missing", 422, "A required extension is missing";
    /// The server's admin lacks a privilege, or the server a setting.
    Prerequisite = "prerequisite", 422, "A prerequisite is missing";
    Internal = "internal", 500, "Internal error";
    /// The tenant's server does not answer.
    ServerUnreachable = "server_unreachable", 503, "Server unreachable";
    StoreUnavailable = "store_unavailable", 503, "Control store unavailable";
    Timeout = "timeout", 503, "The answer took too long";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".into(),
            title: code.title().into(),
            status: code.status(),
            code,
            detail: detail.into(),
            request_id: None,
            errors: Vec::new(),
        }
    }

    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::Invalid, "a field has a value that cannot be used; see errors").with_field(field, message)
    }

    pub fn with_field(mut self, field: impl Into<String>, message: impl Into<String>) -> Self {
        self.errors.push(FieldError { field: field.into(), message: message.into() });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_spelt_the_same_in_json() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), serde_json::json!(code.as_str()));
        }
    }
}
