//! Lists and shows servers, without any secret of theirs.

use axum::extract::State;
use freehold_api::id::ServerId;
use freehold_api::page::Page;
use freehold_api::problem::Code;
use freehold_api::server::{ListServers, Server, ServerState};

use super::store;
use crate::http::extract::{Id, Json, Query, cursor, limit, next_cursor};
use crate::http::problem::Refused;
use crate::plane::{Answer, Core, Plane};
use crate::pooler::budget::show as budget;

/// List servers
#[utoipa::path(get, path = "/v1/servers", tag = "servers", params(ListServers),
    responses((status = 200, description = "A page of servers, by name", body = Page<Server>)))]
pub async fn list(State(plane): State<Plane>, Query(query): Query<ListServers>) -> Answer<Json<Page<Server>>> {
    let limit = limit(query.limit)?;
    let after: Option<String> = cursor(query.cursor.as_deref())?;
    let mut rows = store::page(&plane.store, query.state.map(ServerState::as_str), after.as_deref(), limit + 1).await?;
    let more = rows.len() as i64 > limit;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).and_then(|found| next_cursor(&found.row.id));
    let mut items: Vec<Server> = rows.into_iter().map(Server::from).collect();
    budget::add(&plane.core, &mut items).await?;
    Ok(Json(Page { items, next_cursor: next }))
}

/// Show one server
#[utoipa::path(get, path = "/v1/servers/{id}", tag = "servers", params(("id" = ServerId, Path, description = "The server's name")),
    responses((status = 200, description = "The server", body = Server)))]
pub async fn show(State(plane): State<Plane>, Id(id): Id<ServerId>) -> Answer<Json<Server>> {
    Ok(Json(find(&plane.core, &id).await?))
}

/// As it is declared, without what is on it.
pub async fn row(core: &Core, id: &ServerId) -> Answer<store::ServerRow> {
    store::find(&core.store, id.as_str()).await?.ok_or_else(|| not_found(id))
}

pub async fn find(core: &Core, id: &ServerId) -> Answer<Server> {
    let found = store::find_with_use(&core.store, id.as_str()).await?;
    let mut found = found.map(Server::from).ok_or_else(|| not_found(id))?;
    budget::add(core, std::slice::from_mut(&mut found)).await?;
    Ok(found)
}

fn not_found(id: &ServerId) -> Refused {
    Refused::new(Code::NotFound, format!("there is no server {id}; `freehold server list` shows them"))
}
