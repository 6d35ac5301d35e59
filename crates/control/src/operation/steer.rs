//! Cancel, retry, resolve: what a person may do to an operation.

use axum::extract::State;
use freehold_api::id::OperationId;
use freehold_api::operation::{Operation, Resolution, ResolveOperation};
use freehold_api::problem::Code;
use freehold_durable::{ControlError, OperationRow, Record};

use super::answer;
use crate::audit::record::Event;
use crate::http::access::Caller;
use crate::http::extract::{Id, Json, text};
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};

/// Ask an operation to undo itself
#[utoipa::path(post, path = "/v1/operations/{id}/cancel", tag = "operations", params(("id" = OperationId, Path, description = "The operation's id")),
    responses((status = 200, description = "The operation; it undoes what it did and ends as cancelled", body = Operation)))]
pub async fn cancel(State(plane): State<Plane>, caller: Caller, Id(id): Id<OperationId>) -> Answer<Json<Operation>> {
    answer::find_for(&plane, &caller, id).await?;
    let row = plane.engine.cancel(id.0).await.map_err(|error| refused(id, "cancelled", error))?;
    Event::done(&caller.actor(), "operation.cancel", format!("operation:{id}")).save(&plane.store).await?;
    Ok(shown(row))
}

/// Try a stuck or waiting operation again now
#[utoipa::path(post, path = "/v1/operations/{id}/retry", tag = "operations", params(("id" = OperationId, Path, description = "The operation's id")),
    responses((status = 200, description = "The operation, queued", body = Operation)))]
pub async fn retry(State(plane): State<Plane>, caller: Caller, Id(id): Id<OperationId>) -> Answer<Json<Operation>> {
    answer::find_for(&plane, &caller, id).await?;
    let row = plane.engine.retry(id.0).await.map_err(|error| refused(id, "retried", error))?;
    Event::done(&caller.actor(), "operation.retry", format!("operation:{id}")).save(&plane.store).await?;
    Ok(shown(row))
}

/// End a stuck operation whose work a person has finished or taken back
#[utoipa::path(post, path = "/v1/operations/{id}/resolve", tag = "operations", params(("id" = OperationId, Path, description = "The operation's id")),
    request_body = ResolveOperation,
    responses((status = 200, description = "The operation, ended", body = Operation)))]
pub async fn resolve(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<OperationId>,
    Json(body): Json<ResolveOperation>,
) -> Answer<Json<Operation>> {
    text("reason", &body.reason, 500)?;
    answer::find_for(&plane, &caller, id).await?;
    let (resolution, spelt) = match body.resolution {
        Resolution::Succeeded => (freehold_durable::Resolution::Succeeded, "succeeded"),
        Resolution::Undone => (freehold_durable::Resolution::Failed, "undone"),
    };
    let undoing = plane.engine.get(id.0).await?.is_some_and(|row| row.undoing());
    if undoing && body.resolution == Resolution::Succeeded {
        let detail = format!("operation {id} was taking itself back: finish that by hand and resolve it as undone");
        return Err(Refused::new(Code::WrongState, detail));
    }
    let event = Event::done(&caller.actor(), "operation.resolve", format!("operation:{id}"))
        .with(serde_json::json!({"as": spelt, "reason": body.reason}));
    let with: Record = Box::new(move |tx| Box::pin(async move { Ok(event.save(tx).await?) }));
    let row =
        plane.engine.resolve(id.0, resolution, Some(with)).await.map_err(|error| refused(id, "resolved", error))?;
    Ok(shown(row))
}

fn shown(row: OperationRow) -> Json<Operation> {
    Json(answer::show(row))
}

fn refused(id: OperationId, verb: &str, error: ControlError) -> Refused {
    match error {
        ControlError::NotFound => Refused::new(Code::NotFound, format!("there is no operation {id}")),
        ControlError::WrongState { now } => {
            let detail = format!(
                "operation {id} is {} and cannot be {verb} now; only a stuck one can be resolved",
                now.as_str()
            );
            Refused::new(Code::WrongState, detail)
        }
        ControlError::Refused(failure) => Refused::internal("resolve", &failure),
        ControlError::Store(error) => error.into(),
    }
}
