//! All SQL about holds; whether an event is under one is `held!` in `audit/store.rs`.

use freehold_api::audit::{AuditHold, CreateAuditHold};
use jiff_sqlx::{Timestamp, ToSqlx};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    reason: String,
    subject: Option<String>,
    actor: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    by: String,
    created_at: Timestamp,
}

impl From<Row> for AuditHold {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            reason: row.reason,
            subject: row.subject,
            actor: row.actor,
            since: row.since.map(Timestamp::to_jiff),
            until: row.until.map(Timestamp::to_jiff),
            by: row.by,
            created_at: row.created_at.to_jiff(),
        }
    }
}

pub async fn list(store: &PgPool, after: Option<Uuid>, limit: i64) -> sqlx::Result<Vec<AuditHold>> {
    let sql = "SELECT * FROM audit_hold WHERE $1::uuid IS NULL OR id > $1 ORDER BY id LIMIT $2";
    let rows: Vec<Row> = sqlx::query_as(sql).bind(after).bind(limit).fetch_all(store).await?;
    Ok(rows.into_iter().map(AuditHold::from).collect())
}

pub async fn insert(tx: &mut PgConnection, hold: &CreateAuditHold, by: &str) -> sqlx::Result<AuditHold> {
    let sql = "INSERT INTO audit_hold (id, reason, subject, actor, since, until, by)
        VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING *";
    let row: Row = sqlx::query_as(sql)
        .bind(Uuid::now_v7())
        .bind(&hold.reason)
        .bind(&hold.subject)
        .bind(&hold.actor)
        .bind(hold.since.map(|at| at.to_sqlx()))
        .bind(hold.until.map(|at| at.to_sqlx()))
        .bind(by)
        .fetch_one(tx)
        .await?;
    Ok(row.into())
}

pub async fn delete(tx: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<AuditHold>> {
    let sql = "DELETE FROM audit_hold WHERE id = $1 RETURNING *";
    let row: Option<Row> = sqlx::query_as(sql).bind(id).fetch_optional(tx).await?;
    Ok(row.map(AuditHold::from))
}
