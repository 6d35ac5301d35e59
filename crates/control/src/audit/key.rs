//! What checkpoints are signed with, as far as it is public.

use axum::extract::State;
use freehold_api::audit::{AuditBeginning, AuditKey};
use freehold_chain::{Checkpoint, PublicKey};
use uuid::Uuid;

use super::{retention, store};
use crate::http::extract::Json;
use crate::plane::{Answer, Core, Plane};

/// The public key that checkpoints of the audit are verified with
#[utoipa::path(get, path = "/v1/audit/key", tag = "audit",
    responses((status = 200, description = "Keep it apart from the store", body = AuditKey)))]
pub async fn show(State(plane): State<Plane>) -> Answer<Json<AuditKey>> {
    let key = of(&plane.core);
    let end = store::end(&plane.store).await?;
    let beginning = match &end {
        Some(end) => retention::beginning(&plane.core, &plane.store, end).await?,
        None => None,
    };
    let beginning = beginning.map(|Checkpoint { place, hash, at, key, signature, .. }| AuditBeginning {
        place,
        hash: hash.to_string(),
        at,
        key,
        signature,
    });
    let store = end.map_or(Uuid::nil(), |end| end.store);
    Ok(Json(AuditKey { id: key.id(), public_key: key.to_string(), store, beginning }))
}

pub(super) fn of(core: &Core) -> PublicKey {
    PublicKey(core.sealer.signer().public_key())
}
