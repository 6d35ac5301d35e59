//! Removes a pooler that has no databases any more. One that Freehold runs is ended; that takes a moment.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use freehold_api::id::{OperationId, PoolerId};
use freehold_api::operation::Operation;
use freehold_api::problem::Code;
use freehold_durable::{StartError, State as OpState};

use super::managed::{remove as managed, store as services};
use super::{assign, list, store};
use crate::audit::record::Event;
use crate::http::access::Caller;
use crate::http::extract::Id;
use crate::http::problem::Refused;
use crate::http::request::Wait;
use crate::operation::answer;
use crate::plane::{Answer, Plane};
use crate::tenant::change::refused_by;

/// Remove a pooler that has no databases
#[utoipa::path(delete, path = "/v1/poolers/{id}", tag = "poolers", params(("id" = PoolerId, Path, description = "The pooler's name")),
    responses(
        (status = 204, description = "It is gone; the agent of one that somebody else runs ends with an error at its next request"),
        (status = 202, description = "It is still being ended; look at the operation", body = Operation)))]
pub async fn remove(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<PoolerId>,
    Wait(wait): Wait,
) -> Answer<Response> {
    let mut tx = plane.store.begin().await?;
    // Nobody is given to it between the count and the end.
    assign::lock(&mut tx).await?;
    match store::lock_and_count(&mut tx, id.as_str()).await? {
        None => return Err(list::not_found(&id)),
        Some(0) => {}
        Some(count) => {
            let detail = format!(
                "pooler {id} has {count} databases, whose tenants know its address; cordon it and wait until they are gone"
            );
            return Err(Refused::new(Code::WrongState, detail));
        }
    }
    if services::exists(&mut *tx, id.as_str()).await? {
        let started = match managed::begin(&plane.engine, &mut tx, id.as_str(), &caller.actor()).await {
            Ok(Some(started)) => started,
            Ok(None) => {
                let detail = format!("pooler {id} is being started or ended; wait for that operation, or cancel it");
                return Err(Refused::new(Code::Busy, detail));
            }
            Err(StartError::Busy { operation, kind }) => {
                let detail =
                    format!("operation {operation} ({kind}) is working on pooler {id}; wait for it, or cancel it");
                return Err(Refused::new(Code::Busy, detail));
            }
            Err(StartError::Store(error)) => return Err(error.into()),
        };
        tx.commit().await?;
        let operation = started.id;
        plane.engine.go(started);
        return match plane.engine.wait(operation, wait).await? {
            Some(row) if row.state == OpState::Succeeded => Ok(StatusCode::NO_CONTENT.into_response()),
            Some(row) if row.state.is_over() => Err(refused_by(&format!("remove pooler {id}"), &row)),
            _ => Ok(answer::accepted(answer::find(&plane, OperationId(operation)).await?)),
        };
    }
    store::remove(&mut tx, id.as_str()).await?;
    Event::done(&caller.actor(), "pooler.remove", format!("pooler:{id}")).save(&mut *tx).await?;
    tx.commit().await?;
    plane.poolers.poke();
    Ok(StatusCode::NO_CONTENT.into_response())
}
