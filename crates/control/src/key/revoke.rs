//! Revokes an API key, at once: keys are looked up at every request.

use axum::extract::State;
use freehold_api::id::KeyId;
use freehold_api::key::ApiKey;
use freehold_api::problem::Code;

use super::store;
use crate::audit::record::Event;
use crate::http::access::Caller;
use crate::http::extract::{Id, Json};
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};

/// Revoke an API key
#[utoipa::path(delete, path = "/v1/keys/{id}", tag = "keys", params(("id" = KeyId, Path, description = "The key's id")),
    responses((status = 200, description = "The key, revoked", body = ApiKey)))]
pub async fn revoke(State(plane): State<Plane>, caller: Caller, Id(id): Id<KeyId>) -> Answer<Json<ApiKey>> {
    let mut tx = plane.store.begin().await?;
    let key = store::revoke(&mut tx, id).await?;
    let key = key.ok_or_else(|| Refused::new(Code::NotFound, format!("there is no key {id}")))?;
    Event::done(&caller.actor(), "key.revoke", format!("key:{id}")).save(&mut *tx).await?;
    tx.commit().await?;
    Ok(Json(key))
}
