//! Asks a pooler's agent for everything again: a new generation, which it writes, reloads and verifies.

use axum::extract::State;
use freehold_api::id::PoolerId;
use freehold_api::pooler::Pooler;

use super::{list, raise, store};
use crate::audit::record::Event;
use crate::http::access::Caller;
use crate::http::extract::{Id, Json};
use crate::plane::{Answer, Plane};

/// Have a pooler's agent write, reload and verify everything again
#[utoipa::path(post, path = "/v1/poolers/{id}/reconcile", tag = "poolers", params(("id" = PoolerId, Path, description = "The pooler's name")),
    responses((status = 200, description = "The pooler, with the generation that is wanted now", body = Pooler)))]
pub async fn reconcile(State(plane): State<Plane>, caller: Caller, Id(id): Id<PoolerId>) -> Answer<Json<Pooler>> {
    let mut tx = plane.store.begin().await?;
    if !store::ask_again(&mut tx, id.as_str()).await? {
        return Err(list::not_found(&id));
    }
    Event::done(&caller.actor(), "pooler.reconcile", format!("pooler:{id}")).save(&mut *tx).await?;
    tx.commit().await?;
    raise::raise(&plane.store, id.as_str()).await?;
    plane.poolers.poke();
    Ok(Json(list::find(&plane.core, &id).await?.into()))
}
