//! Maintenance: whoever looks after a server says so, and nobody is put there until it is over. Touches no server.

use axum::extract::State;
use freehold_api::id::ServerId;
use freehold_api::server::{Server, SetMaintenance};

use super::{change, list};
use crate::audit::record::Event;
use crate::http::access::Caller;
use crate::http::extract::{Id, Json};
use crate::plane::{Answer, Plane};
use crate::server_pool::store;

/// Begin or end a server's maintenance
#[utoipa::path(post, path = "/v1/servers/{id}/maintenance", tag = "servers", request_body = SetMaintenance,
    params(("id" = ServerId, Path, description = "The server's name")),
    responses((status = 200, description = "The server as it is now", body = Server)))]
pub async fn maintain(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<ServerId>,
    Json(body): Json<SetMaintenance>,
) -> Answer<Json<Server>> {
    let mut tx = plane.store.begin().await?;
    let row = change::lock(&mut tx, &id).await?;
    change::require_idle(&mut tx, &id).await?;
    let changed = match (row.state.as_str(), body.on) {
        ("maintenance", true) | ("active" | "cordoned", false) => false,
        ("active" | "cordoned", true) => store::begin_maintenance(&mut tx, id.as_str()).await?,
        ("maintenance", false) => store::resume(&mut tx, id.as_str(), &["maintenance"]).await?,
        (now, true) => {
            return Err(change::wrong_state(&id, now, "put into maintenance", "an active or cordoned server"));
        }
        (now, false) => return Err(change::wrong_state(&id, now, "taken out of maintenance", "one that is in it")),
    };
    if changed {
        let event = Event::done(&caller.actor(), "server.maintenance", format!("server:{id}"));
        event.with(serde_json::json!(body)).save(&mut *tx).await?;
        change::commit_room(&plane, tx).await?;
    }
    Ok(Json(list::find(&plane.core, &id).await?))
}
