//! Removes a pooler that has no databases any more.

use axum::extract::State;
use axum::http::StatusCode;
use freehold_api::id::PoolerId;
use freehold_api::problem::Code;

use super::{list, store};
use crate::audit::record::Event;
use crate::http::access::Caller;
use crate::http::extract::Id;
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};

/// Remove a pooler that has no databases
#[utoipa::path(delete, path = "/v1/poolers/{id}", tag = "poolers", params(("id" = PoolerId, Path, description = "The pooler's name")),
    responses((status = 204, description = "It is gone from the store; its agent ends with an error at its next request")))]
pub async fn remove(State(plane): State<Plane>, caller: Caller, Id(id): Id<PoolerId>) -> Answer<StatusCode> {
    let mut tx = plane.store.begin().await?;
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
    store::remove(&mut tx, id.as_str()).await?;
    Event::done(&caller.actor(), "pooler.remove", format!("pooler:{id}")).save(&mut *tx).await?;
    tx.commit().await?;
    plane.poolers.poke();
    Ok(StatusCode::NO_CONTENT)
}
