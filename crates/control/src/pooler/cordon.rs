//! Cordon and uncordon: whether a pooler takes more databases. It serves those that it has all the same.

use axum::extract::State;
use freehold_api::id::PoolerId;
use freehold_api::pooler::{Pooler, PoolerState};

use super::{list, store};
use crate::audit::record::Event;
use crate::http::access::Caller;
use crate::http::extract::{Id, Json};
use crate::plane::{Answer, Plane};

/// Give a pooler no more databases
#[utoipa::path(post, path = "/v1/poolers/{id}/cordon", tag = "poolers", params(("id" = PoolerId, Path, description = "The pooler's name")),
    responses((status = 200, description = "The pooler, cordoned", body = Pooler)))]
pub async fn cordon(State(plane): State<Plane>, caller: Caller, Id(id): Id<PoolerId>) -> Answer<Json<Pooler>> {
    change(&plane, &caller, &id, PoolerState::Active, PoolerState::Cordoned, "pooler.cordon").await
}

/// Give a pooler databases again
#[utoipa::path(post, path = "/v1/poolers/{id}/uncordon", tag = "poolers", params(("id" = PoolerId, Path, description = "The pooler's name")),
    responses((status = 200, description = "The pooler, active", body = Pooler)))]
pub async fn uncordon(State(plane): State<Plane>, caller: Caller, Id(id): Id<PoolerId>) -> Answer<Json<Pooler>> {
    change(&plane, &caller, &id, PoolerState::Cordoned, PoolerState::Active, "pooler.uncordon").await
}

async fn change(
    plane: &Plane,
    caller: &Caller,
    id: &PoolerId,
    from: PoolerState,
    to: PoolerState,
    action: &str,
) -> Answer<Json<Pooler>> {
    let mut tx = plane.store.begin().await?;
    if store::set_state(&mut tx, id.as_str(), from, to).await? {
        Event::done(&caller.actor(), action, format!("pooler:{id}")).save(&mut *tx).await?;
        plane.engine.wake_in(&mut tx, "pooler").await?;
        tx.commit().await?;
    }
    Ok(Json(list::find(&plane.core, id).await?.into()))
}
