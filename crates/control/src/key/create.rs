//! Makes an API key. It is shown in the answer and nowhere else.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use freehold_api::id::KeyId;
use freehold_api::key::{CreateKey, CreatedKey};
use rand::TryRng;
use sqlx::PgPool;

use super::store;
use crate::audit::record::{Actor, Event};
use crate::http::access::Caller;
use crate::http::extract::{Json, text};
use crate::http::idempotency::Carries;
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};

/// Make an API key
#[utoipa::path(post, path = "/v1/keys", tag = "keys", request_body = CreateKey,
    responses((status = 201, description = "The key, shown only here", body = CreatedKey)))]
pub async fn create(State(plane): State<Plane>, caller: Caller, Json(body): Json<CreateKey>) -> Answer<Response> {
    let created = make(&plane.store, &caller.actor(), &body).await?;
    let mut response = (StatusCode::CREATED, Json(created)).into_response();
    response.extensions_mut().insert(Carries::Key);
    Ok(response)
}

/// Also called without a caller, by `freehold key create` on the server's side and by `dev`.
pub async fn make(pool: &PgPool, actor: &Actor, body: &CreateKey) -> Answer<CreatedKey> {
    text("name", &body.name, 200)?;
    if body.scopes.is_empty() {
        return Err(Refused::field("scopes", "a key without a scope opens nothing; name at least one"));
    }
    let token = random_token().map_err(|error| Refused::internal("the system's random source failed", &error))?;
    let id = KeyId::new();
    let mut tx = pool.begin().await?;
    let info = store::insert(&mut tx, id, &token, body).await?;
    let scopes: Vec<_> = body.scopes.iter().map(|scope| scope.as_str()).collect();
    Event::done(actor, "key.create", format!("key:{id}"))
        .with(serde_json::json!({"name": body.name, "scopes": scopes}))
        .save(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(CreatedKey { info, key: Some(token) })
}

pub(crate) fn random_token() -> Result<String, rand::rngs::SysError> {
    let mut bytes = [0u8; 32];
    rand::rngs::SysRng.try_fill_bytes(&mut bytes)?;
    Ok(format!("fh_{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)))
}
