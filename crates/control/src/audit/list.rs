//! Lists the audit, newest first.

use axum::extract::State;
use freehold_api::audit::{AuditEvent, ListAudit, Outcome};
use freehold_api::page::Page;
use jiff_sqlx::Timestamp;
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::store;
use crate::http::extract::{Json, Query, cursor, limit, next_cursor};
use crate::plane::{Answer, Plane};

/// List the audit
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(ListAudit),
    responses((status = 200, description = "A page of events, newest first", body = Page<AuditEvent>)))]
pub async fn list(State(plane): State<Plane>, Query(query): Query<ListAudit>) -> Answer<Json<Page<AuditEvent>>> {
    let limit = limit(query.limit)?;
    let before: Option<i64> = cursor(query.cursor.as_deref())?;
    // A time that only a store can write is shown as the nearest that others can read.
    let mut sql: QueryBuilder<Postgres> = QueryBuilder::new(
        "SELECT seq, id, place, greatest(least(at, timestamptz '9999-12-30'), timestamptz '0001-01-01') AS at, actor, actor_name,
           action, subject, outcome, reason, request_id, client, details, redacted IS NOT NULL AS redacted FROM audit WHERE true",
    );
    store::choose(&mut sql, &query);
    if let Some(before) = before {
        sql.push(" AND seq < ").push_bind(before);
    }
    sql.push(" ORDER BY seq DESC LIMIT ").push_bind(limit + 1);
    let mut rows: Vec<Row> = sql.build_query_as().fetch_all(&plane.store).await?;
    let more = rows.len() as i64 > limit;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).and_then(|row| next_cursor(&row.seq));
    Ok(Json(Page { items: rows.into_iter().map(AuditEvent::from).collect(), next_cursor: next }))
}

#[derive(sqlx::FromRow)]
struct Row {
    seq: i64,
    id: Uuid,
    place: Option<i64>,
    at: Timestamp,
    actor: String,
    actor_name: Option<String>,
    action: String,
    subject: Option<String>,
    outcome: String,
    reason: Option<String>,
    request_id: Option<String>,
    client: Option<String>,
    details: serde_json::Value,
    redacted: bool,
}

impl From<Row> for AuditEvent {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            place: row.place,
            at: row.at.to_jiff(),
            actor: row.actor,
            actor_name: row.actor_name,
            action: row.action,
            subject: row.subject,
            outcome: match row.outcome.as_str() {
                "success" => Outcome::Success,
                "denied" => Outcome::Denied,
                _ => Outcome::Failure,
            },
            reason: row.reason,
            request_id: row.request_id,
            client: row.client,
            details: row.details,
            redacted: row.redacted,
        }
    }
}
