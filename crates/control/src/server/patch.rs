//! Changes a server's labels, priority and capacity: what placement goes by. Restarts nothing.

use axum::extract::State;
use freehold_api::id::ServerId;
use freehold_api::server::{PatchServer, Server, ServerKind};

use super::{change, list};
use crate::audit::record::Event;
use crate::http::access::Caller;
use crate::http::extract::{Id, Json};
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};
use crate::server_pool::store;
use crate::tenant::change::check_labels;

const CAPACITY_MAX: u32 = 100_000;

/// Change a server's labels, priority or capacity
#[utoipa::path(patch, path = "/v1/servers/{id}", tag = "servers",
    params(("id" = ServerId, Path, description = "The server's name")),
    request_body(content = Option<PatchServer>, content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The server as it is now", body = Server)))]
pub async fn patch(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<ServerId>,
    Json(body): Json<PatchServer>,
) -> Answer<Json<Server>> {
    if let Some(labels) = &body.labels {
        check_labels(labels.iter().map(|(key, value)| (key.as_str(), value.as_deref())))?;
    }
    if body.priority.is_some_and(|priority| !(-1000..=1000).contains(&priority)) {
        return Err(Refused::field("priority", "use -1000 to 1000; lower ones are filled first"));
    }
    let mut tx = plane.store.begin().await?;
    let row = change::lock(&mut tx, &id).await?;
    if row.state == "removed" {
        return Err(change::wrong_state(&id, &row.state, "changed", "one that is there"));
    }
    if let Some(capacity) = body.capacity {
        check_capacity(capacity, row.kind())?;
        if let Some(tuned) = row.definition.as_ref().map(|definition| definition.capacity)
            && capacity > tuned
        {
            let detail = format!(
                "server {id} is tuned for {tuned}; `freehold server update {id} --capacity {capacity}` restarts it, tuned for {capacity}"
            );
            return Err(Refused::field("capacity", detail));
        }
        store::set_capacity(&mut tx, id.as_str(), i32::try_from(capacity).unwrap_or(i32::MAX)).await?;
    }
    if let Some(priority) = body.priority {
        store::set_priority(&mut tx, id.as_str(), priority).await?;
    }
    if let Some(changes) = &body.labels {
        let mut labels = row.labels.0.clone();
        for (key, value) in changes {
            match value {
                Some(value) => drop(labels.insert(key.clone(), value.clone())),
                None => drop(labels.remove(key)),
            }
        }
        check_labels(labels.iter().map(|(key, value)| (key.as_str(), Some(value.as_str()))))?;
        store::set_labels(&mut tx, id.as_str(), &labels).await?;
    }
    if body != PatchServer::default() {
        let event = Event::done(&caller.actor(), "server.update", format!("server:{id}"));
        event.with(serde_json::json!(body)).save(&mut *tx).await?;
        change::commit_room(&plane, tx).await?;
    }
    Ok(Json(list::find(&plane.core, &id).await?))
}

pub fn check_capacity(capacity: u32, kind: ServerKind) -> Answer<()> {
    if kind == ServerKind::Dedicated && capacity != 1 {
        return Err(Refused::field("capacity", "a dedicated server has one tenant"));
    }
    if !(1..=CAPACITY_MAX).contains(&capacity) {
        return Err(Refused::field("capacity", format!("{capacity} is out of range; use 1 to {CAPACITY_MAX}")));
    }
    Ok(())
}
