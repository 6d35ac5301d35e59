//! Legal holds: what is under one is neither removed nor redacted, until it is released.
//!
//! Setting and releasing one waits for whoever redacts or removes, and they for it: a hold that was answered holds.

use axum::extract::State;
use axum::http::StatusCode;
use freehold_api::audit::{AuditHold, CreateAuditHold, ReleaseAuditHold};
use freehold_api::page::{Page, Paging};
use freehold_api::problem::Code;
use serde_json::json;
use uuid::Uuid;

use super::record::Event;
use super::seal;
use super::store::lock_end;
use crate::http::access::Caller;
use crate::http::extract::{Id, Json, Query, cursor, limit, next_cursor, text};
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};

pub mod store;

/// List the holds on the audit
#[utoipa::path(get, path = "/v1/audit/holds", tag = "audit", params(Paging),
    responses((status = 200, description = "A page of holds, oldest first", body = Page<AuditHold>)))]
pub async fn list(State(plane): State<Plane>, Query(query): Query<Paging>) -> Answer<Json<Page<AuditHold>>> {
    let limit = limit(query.limit)?;
    let after: Option<Uuid> = cursor(query.cursor.as_deref())?;
    let mut items = store::list(&plane.store, after, limit + 1).await?;
    let more = items.len() as i64 > limit;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| more).and_then(|hold| next_cursor(&hold.id));
    Ok(Json(Page { items, next_cursor: next }))
}

/// Keep events of the audit from being removed and redacted
#[utoipa::path(post, path = "/v1/audit/holds", tag = "audit", request_body = CreateAuditHold,
    responses((status = 201, description = "They are held", body = AuditHold)))]
pub async fn create(
    State(plane): State<Plane>,
    caller: Caller,
    Json(body): Json<CreateAuditHold>,
) -> Answer<(StatusCode, Json<AuditHold>)> {
    text("reason", &body.reason, 1000)?;
    for (field, value) in [("subject", &body.subject), ("actor", &body.actor)] {
        value.as_deref().map_or(Ok(()), |value| text(field, value, 500))?;
    }
    if body.since.zip(body.until).is_some_and(|(since, until)| since >= until) {
        return Err(Refused::field("until", "it is not after since: nothing would be held"));
    }
    let mut tx = plane.store.begin().await?;
    let end = lock_end(&mut tx).await?.ok_or_else(gone)?;
    let hold = store::insert(&mut tx, &body, &caller.name).await?;
    let event = Event::done(&caller.actor(), "audit.hold", format!("hold:{}", hold.id)).with(json!({
        "reason": hold.reason, "subject": hold.subject, "actor": hold.actor, "since": hold.since, "until": hold.until,
    }));
    seal::at_once(&mut tx, &end, event).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(hold)))
}

/// Release a hold
#[utoipa::path(delete, path = "/v1/audit/holds/{id}", tag = "audit",
    params(("id" = Uuid, Path, description = "The hold's id"), ReleaseAuditHold),
    responses((status = 200, description = "The hold, which is no more", body = AuditHold)))]
pub async fn release(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<Uuid>,
    Query(query): Query<ReleaseAuditHold>,
) -> Answer<Json<AuditHold>> {
    text("reason", &query.reason, 1000)?;
    let mut tx = plane.store.begin().await?;
    let end = lock_end(&mut tx).await?.ok_or_else(gone)?;
    let hold = store::delete(&mut tx, id).await?;
    let hold = hold.ok_or_else(|| Refused::new(Code::NotFound, format!("there is no hold {id}")))?;
    let event =
        Event::done(&caller.actor(), "audit.release", format!("hold:{id}")).with(json!({"reason": query.reason}));
    seal::at_once(&mut tx, &end, event).await?;
    tx.commit().await?;
    Ok(Json(hold))
}

fn gone() -> Refused {
    Refused::new(Code::Prerequisite, seal::END_IS_GONE)
}
