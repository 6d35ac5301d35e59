//! Lists and shows operations, newest first.

use axum::extract::State;
use freehold_api::id::OperationId;
use freehold_api::operation::{ListOperations, Operation, OperationState};
use freehold_api::page::Page;
use freehold_api::problem::Code;
use freehold_durable::Filter;
use uuid::Uuid;

use super::answer;
use crate::http::access::Caller;
use crate::http::extract::{Id, Json, Query, cursor, limit, next_cursor};
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};

/// List operations
#[utoipa::path(get, path = "/v1/operations", tag = "operations", params(ListOperations),
    responses((status = 200, description = "A page of operations, newest first", body = Page<Operation>)))]
pub async fn list(
    State(plane): State<Plane>,
    caller: Caller,
    Query(query): Query<ListOperations>,
) -> Answer<Json<Page<Operation>>> {
    let limit = limit(query.limit)?;
    let bound_to_it = |subject: &str| subject.strip_prefix("tenant:").is_some_and(|id| caller.may_touch(id));
    if caller.tenants.is_some() && !query.subject.as_deref().is_some_and(bound_to_it) {
        return Err(Refused::new(Code::Denied, "this key is bound to tenants; name one: ?subject=tenant:ID"));
    }
    let nul_free = |text: Option<String>| text.map(|text| text.replace('\0', ""));
    let filter = Filter {
        state: query.state.map(state),
        kind: nul_free(query.kind),
        subject: nul_free(query.subject),
        before: cursor::<Uuid>(query.cursor.as_deref())?,
        limit: limit + 1,
    };
    let mut rows = plane.engine.list(&filter).await?;
    let more = rows.len() as i64 > limit;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).and_then(|row| next_cursor(&row.id));
    Ok(Json(Page {
        items: rows.into_iter().map(|row| answer::shown_to(&caller, answer::show(row))).collect(),
        next_cursor: next,
    }))
}

/// Show one operation
#[utoipa::path(get, path = "/v1/operations/{id}", tag = "operations", params(("id" = OperationId, Path, description = "The operation's id")),
    responses((status = 200, description = "The operation", body = Operation)))]
pub async fn show(State(plane): State<Plane>, caller: Caller, Id(id): Id<OperationId>) -> Answer<Json<Operation>> {
    Ok(Json(answer::find_for(&plane, &caller, id).await?))
}

fn state(state: OperationState) -> freehold_durable::State {
    use freehold_durable::State;
    match state {
        OperationState::Queued => State::Queued,
        OperationState::Running => State::Running,
        OperationState::Waiting => State::Waiting,
        OperationState::Succeeded => State::Succeeded,
        OperationState::Undoing => State::Undoing,
        OperationState::Failed => State::Failed,
        OperationState::Cancelled => State::Cancelled,
        OperationState::Stuck => State::Stuck,
    }
}
