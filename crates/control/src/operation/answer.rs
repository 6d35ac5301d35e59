//! Turns the engine's rows into what the API shows.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use freehold_api::id::OperationId;
use freehold_api::operation::{Operation, OperationError, OperationState, Progress};
use freehold_api::problem::Code;
use freehold_durable::{OperationRow, State};

use crate::http::access::Caller;
use crate::http::extract::Json;
use crate::http::problem::{NO_ROOM, Refused};
use crate::plane::{Answer, Plane};

pub fn state(state: State) -> OperationState {
    match state {
        State::Queued => OperationState::Queued,
        State::Running => OperationState::Running,
        State::Waiting => OperationState::Waiting,
        State::Succeeded => OperationState::Succeeded,
        State::Undoing => OperationState::Undoing,
        State::Failed => OperationState::Failed,
        State::Cancelled => OperationState::Cancelled,
        State::Stuck => OperationState::Stuck,
    }
}

pub fn error(error: freehold_durable::OperationError) -> OperationError {
    OperationError { code: error.code, message: error.message }
}

pub fn show(row: OperationRow) -> Operation {
    Operation {
        id: OperationId(row.id),
        kind: row.kind,
        subject: row.subject,
        state: state(row.state),
        step: row.step_name,
        progress: row.progress.map(|progress| Progress {
            done: progress.done,
            total: progress.total,
            unit: progress.unit,
        }),
        attempt: row.attempt,
        error: row.error.or(row.failed_error).map(error),
        cancel_requested: row.cancel_requested,
        next_run_at: (row.state == State::Waiting).then_some(row.next_run_at),
        deadline: row.deadline,
        created_at: row.created_at,
        updated_at: row.updated_at,
        finished_at: row.finished_at,
    }
}

/// Code and message of why it failed.
pub fn failure_of(row: &OperationRow) -> (String, String) {
    let error = row.failed_error.as_ref().or(row.error.as_ref());
    error
        .map(|error| (error.code.clone(), error.message.clone()))
        .unwrap_or_else(|| ("failed".into(), "it failed".into()))
}

/// What a tenant's own key sees of a failure.
pub fn without_fleet(code: &str, message: String) -> String {
    if code == Code::NoRoom.as_str() { NO_ROOM.to_owned() } else { message }
}

/// As this key sees it.
pub fn shown_to(caller: &Caller, mut operation: Operation) -> Operation {
    operation.error = operation.error.map(|error| error_shown_to(caller, error));
    operation
}

pub fn error_shown_to(caller: &Caller, error: OperationError) -> OperationError {
    match caller.tenants {
        Some(_) => OperationError { message: without_fleet(&error.code, error.message), ..error },
        None => error,
    }
}

pub async fn find(plane: &Plane, id: OperationId) -> Answer<Operation> {
    let row = plane.engine.get(id.0).await?;
    row.map(show).ok_or_else(|| {
        Refused::new(
            Code::NotFound,
            format!("there is no operation {id}; finished ones are kept for operations.keep_days"),
        )
    })
}

/// A key that is bound to tenants sees what is done to them, and nothing else.
pub fn may_see(caller: &Caller, operation: &Operation) -> bool {
    match &caller.tenants {
        None => true,
        Some(_) => operation
            .subject
            .as_deref()
            .and_then(|subject| subject.strip_prefix("tenant:"))
            .is_some_and(|id| caller.may_touch(id)),
    }
}

pub async fn find_for(plane: &Plane, caller: &Caller, id: OperationId) -> Answer<Operation> {
    let operation = find(plane, id).await?;
    if may_see(caller, &operation) {
        return Ok(shown_to(caller, operation));
    }
    Err(Refused::new(Code::Denied, "this key is bound to tenants, and this operation is not about one of them"))
}

/// 202 with where to look.
pub fn accepted(operation: Operation) -> Response {
    let location = format!("/v1/operations/{}", operation.id);
    (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(operation)).into_response()
}
