//! Cordon and uncordon: whether new tenants and stock may come. Tenants that are there notice nothing.

use axum::extract::State;
use freehold_api::id::ServerId;
use freehold_api::problem::Code;
use freehold_api::server::Server;

use super::{change, list, store};
use crate::audit::record::Event;
use crate::http::access::Caller;
use crate::http::extract::{Id, Json};
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};

/// Stop placing new tenants on a server
#[utoipa::path(post, path = "/v1/servers/{id}/cordon", tag = "servers", params(("id" = ServerId, Path, description = "The server's name")),
    responses((status = 200, description = "The server, cordoned", body = Server)))]
pub async fn cordon(State(plane): State<Plane>, caller: Caller, Id(id): Id<ServerId>) -> Answer<Json<Server>> {
    change(&plane, &caller, &id, "active", "cordoned", "server.cordon").await
}

/// Place new tenants on a server again
#[utoipa::path(post, path = "/v1/servers/{id}/uncordon", tag = "servers", params(("id" = ServerId, Path, description = "The server's name")),
    responses((status = 200, description = "The server, active", body = Server)))]
pub async fn uncordon(State(plane): State<Plane>, caller: Caller, Id(id): Id<ServerId>) -> Answer<Json<Server>> {
    change(&plane, &caller, &id, "cordoned", "active", "server.uncordon").await
}

async fn change(
    plane: &Plane,
    caller: &Caller,
    id: &ServerId,
    from: &str,
    to: &str,
    action: &str,
) -> Answer<Json<Server>> {
    let mut tx = plane.store.begin().await?;
    if store::set_state(&mut tx, id.as_str(), &[from], to, None).await? {
        Event::done(&caller.actor(), action, format!("server:{id}")).save(&mut *tx).await?;
        change::commit_room(plane, tx).await?;
    }
    let server = list::find(&plane.core, id).await?;
    if server.state.as_str() != to {
        let detail = format!("server {id} is {}; this is possible only when it is {from}", server.state.as_str());
        return Err(Refused::new(Code::WrongState, detail));
    }
    Ok(Json(server))
}
