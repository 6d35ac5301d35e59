//! What checkpoints are signed with, as far as it is public.

use axum::extract::State;
use freehold_api::audit::AuditKey;
use freehold_chain::PublicKey;
use uuid::Uuid;

use super::store;
use crate::http::extract::Json;
use crate::plane::{Answer, Core, Plane};

/// The public key that checkpoints of the audit are verified with
#[utoipa::path(get, path = "/v1/audit/key", tag = "audit",
    responses((status = 200, description = "Keep it apart from the store", body = AuditKey)))]
pub async fn show(State(plane): State<Plane>) -> Answer<Json<AuditKey>> {
    let key = of(&plane.core);
    let store = store::end(&plane.store).await?.map_or(Uuid::nil(), |end| end.store);
    Ok(Json(AuditKey { id: key.id(), public_key: key.to_string(), store }))
}

pub(super) fn of(core: &Core) -> PublicKey {
    PublicKey(core.sealer.signer().public_key())
}
