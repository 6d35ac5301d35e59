//! Lists API keys, revoked ones too. Never their secret.

use axum::extract::State;
use freehold_api::id::KeyId;
use freehold_api::key::ApiKey;
use freehold_api::page::{Page, Paging};
use uuid::Uuid;

use super::store;
use crate::http::extract::{Json, Query, cursor, limit, next_cursor};
use crate::plane::{Answer, Plane};

/// List API keys
#[utoipa::path(get, path = "/v1/keys", tag = "keys", params(Paging),
    responses((status = 200, description = "A page of keys, oldest first", body = Page<ApiKey>)))]
pub async fn list(State(plane): State<Plane>, Query(query): Query<Paging>) -> Answer<Json<Page<ApiKey>>> {
    let limit = limit(query.limit)?;
    let after: Option<Uuid> = cursor(query.cursor.as_deref())?;
    let mut items = store::list(&plane.store, after, limit + 1).await?;
    let more = items.len() as i64 > limit;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| more).and_then(|key| next_cursor::<KeyId>(&key.id));
    Ok(Json(Page { items, next_cursor: next }))
}
