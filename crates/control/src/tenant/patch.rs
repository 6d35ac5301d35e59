//! Changes what a tenant is called, its labels and its protection: a merge patch (RFC 7396), guarded by `If-Match`.

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use freehold_api::id::TenantId;
use freehold_api::problem::Code;
use freehold_api::tenant::{PatchTenant, Tenant};

use super::{change, store};
use crate::audit::record::Event;
use crate::http::access::Caller;
use crate::http::extract::{Id, Json, text};
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};

/// Change a tenant's name, labels or deletion protection
#[utoipa::path(patch, path = "/v1/tenants/{id}", tag = "tenants", params(("id" = TenantId, Path, description = "The tenant's id")),
    request_body(content = Option<PatchTenant>, content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The tenant as it is now", body = Tenant)))]
pub async fn patch(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<TenantId>,
    headers: HeaderMap,
    Json(body): Json<PatchTenant>,
) -> Answer<Response> {
    if let Some(Some(name)) = &body.name {
        text("name", name, 512)?;
    }
    if let Some(Some(labels)) = &body.labels {
        change::check_labels(labels.iter().map(|(key, value)| (key.as_str(), value.as_deref())))?;
    }
    let mut tx = plane.store.begin().await?;
    let row = store::lock(&mut tx, id.as_str()).await?.ok_or_else(|| change::not_found(&id))?;
    if let Some(expected) = headers.get(header::IF_MATCH) {
        let expected = expected.to_str().unwrap_or_default();
        if expected != "*" && !expected.split(',').any(|tag| tag.trim() == row.etag()) {
            let detail = format!(
                "tenant {id} changed meanwhile: its ETag is {}, not {}",
                row.etag(),
                freehold_api::id::shown(expected)
            );
            return Err(Refused::new(Code::PreconditionFailed, detail));
        }
    }
    if body == PatchTenant::default() {
        return Ok(change::shown(row));
    }
    store::patch(&mut tx, id.as_str(), &body).await?;
    let after = store::find(&mut *tx, id.as_str()).await?.ok_or_else(|| change::not_found(&id))?;
    if after.labels.len() > 32 {
        return Err(Refused::field("labels", format!("there would be {}; at most 32 are kept", after.labels.len())));
    }
    Event::done(&caller.actor(), "tenant.update", format!("tenant:{id}"))
        .with(serde_json::json!(body))
        .save(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(change::shown(after))
}
