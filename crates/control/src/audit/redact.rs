//! Takes names, addresses and details out of sealed events. The chain goes on proving the rest: their hash stays.
//!
//! Absent: events that are not sealed (in a second they are), what the audit says of itself, and what somebody holds. What was
//! bent is not touched either: it is evidence.

use axum::extract::State;
use freehold_api::audit::{AuditRedacted, ListAudit, RedactAudit};
use freehold_api::problem::Code;
use freehold_chain::{REDACT, Record, Redaction};
use serde_json::json;

use super::record::Event;
use super::{seal, store};
use crate::http::access::Caller;
use crate::http::extract::{Json, text};
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};

/// The end of the chain is locked meanwhile.
const BATCH: i64 = 1000;

/// Take names, addresses and details out of events
#[utoipa::path(post, path = "/v1/audit/redactions", tag = "audit", request_body = RedactAudit,
    responses((status = 200, description = "How many; the same again where there are more", body = AuditRedacted)))]
pub async fn redact(
    State(plane): State<Plane>,
    caller: Caller,
    Json(body): Json<RedactAudit>,
) -> Answer<Json<AuditRedacted>> {
    text("reason", &body.reason, 1000)?;
    let (id, choice) = (body.id, body.choice());
    if id.is_none() && choice == ListAudit::default() {
        return Err(Refused::field("id", "choose by id, actor, action, subject, outcome, request_id, since or until"));
    }
    let mut tx = plane.store.begin().await?;
    let end = store::lock_end(&mut tx).await?.ok_or_else(|| Refused::new(Code::Prerequisite, seal::END_IS_GONE))?;
    let held = store::held_back(&mut tx, id, &choice).await?.unsigned_abs();
    let mut rows = store::to_redact(&mut tx, id, &choice, BATCH + 1).await?;
    let more = rows.len() as i64 > BATCH;
    rows.truncate(BATCH as usize);
    let mut records: Vec<Record> = rows.into_iter().map(Record::from).collect();
    if records.is_empty() {
        return Ok(Json(AuditRedacted { event: None, redacted: 0, held, more: false }));
    }
    for record in &mut records {
        if !record.fits() {
            let detail = format!(
                "the event at place {} is not what was sealed: it was changed, and is kept as it is; run: freehold audit verify",
                record.place
            );
            return Err(Refused::new(Code::WrongState, detail));
        }
        record.redact();
    }
    if store::redact(&mut tx, &records).await? != records.len() as u64 {
        return Err(Refused::new(Code::Busy, "the events changed meanwhile; send the same request again"));
    }
    let told = Redaction::of(body.reason, records.iter().map(|record| record.place));
    let event = Event::done(&caller.actor(), REDACT, "audit")
        .with(json!({"reason": told.reason, "places": told.places, "events": records.len()}));
    let id = event.id();
    seal::at_once(&mut tx, &end, event).await?;
    tx.commit().await?;
    Ok(Json(AuditRedacted { event: Some(id), redacted: records.len() as u64, held, more }))
}
