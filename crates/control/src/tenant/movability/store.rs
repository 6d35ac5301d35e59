//! All SQL about the movability of tenants.

use std::time::Duration;

use freehold_api::movability::{Movability, MoveCode, MoveMethod, MoveSeverity, TenantMovability};
use jiff_sqlx::Timestamp;
use sqlx::PgPool;
use uuid::Uuid;

/// Whether a pooler serves the database.
pub async fn is_pooled(store: &PgPool, database: Uuid) -> sqlx::Result<bool> {
    let sql = "SELECT pooler_id IS NOT NULL FROM tenant_database WHERE id = $1";
    Ok(sqlx::query_scalar(sql).bind(database).fetch_optional(store).await?.unwrap_or(false))
}

/// Whom to judge now, those that never were first. Whoever came within the hour has nothing to tell yet.
pub async fn due(store: &PgPool, limit: i64) -> sqlx::Result<Vec<String>> {
    let sql = "SELECT t.id FROM tenant t JOIN tenant_database d ON d.tenant_id = t.id AND d.state = 'claimed'
        JOIN server s ON s.id = d.server_id AND s.state IN ('active', 'cordoned', 'draining') AND s.health <> 'unhealthy'
        LEFT JOIN movability m ON m.tenant_id = t.id
        WHERE t.state IN ('active', 'suspended') AND d.claimed_at < now() - interval '1 hour' AND (m.due_at IS NULL OR m.due_at <= now())
        ORDER BY m.due_at NULLS FIRST, t.id LIMIT $1";
    sqlx::query_scalar(sql).bind(limit).fetch_all(store).await
}

pub async fn record(store: &PgPool, found: &Movability, again: Duration) -> sqlx::Result<()> {
    let told = found.findings.iter().filter(|finding| finding.severity != MoveSeverity::Note);
    let mut codes: Vec<&str> = told.map(|finding| finding.code.as_str()).collect();
    codes.dedup();
    // Purged meanwhile: nothing is kept of it.
    let sql = "INSERT INTO movability (tenant_id, at, score, method, codes, due_at)
        SELECT id, now(), $2, $3, $4, now() + make_interval(secs => $5) FROM tenant WHERE id = $1
        ON CONFLICT (tenant_id) DO UPDATE SET at = excluded.at, score = excluded.score, method = excluded.method,
            codes = excluded.codes, error = NULL, due_at = excluded.due_at";
    sqlx::query(sql)
        .bind(found.tenant.as_str())
        .bind(i32::from(found.score))
        .bind(found.methods.first().map(|method| method.as_str()))
        .bind(codes)
        .bind(again.as_secs_f64())
        .execute(store)
        .await?;
    Ok(())
}

/// What was known before stays.
pub async fn record_failure(store: &PgPool, tenant: &str, error: &str, again: Duration) -> sqlx::Result<()> {
    let sql = "INSERT INTO movability (tenant_id, error, due_at) SELECT id, $2, now() + make_interval(secs => $3) FROM tenant WHERE id = $1
        ON CONFLICT (tenant_id) DO UPDATE SET error = excluded.error, due_at = excluded.due_at";
    sqlx::query(sql).bind(tenant).bind(error).bind(again.as_secs_f64()).execute(store).await?;
    Ok(())
}

/// None: it was not judged yet.
pub async fn of_tenant(store: &PgPool, tenant: &str) -> sqlx::Result<Option<TenantMovability>> {
    let sql =
        "SELECT at, score, method, codes FROM movability WHERE tenant_id = $1 AND at IS NOT NULL AND score IS NOT NULL";
    let row: Option<(Timestamp, i32, Option<String>, Vec<String>)> =
        sqlx::query_as(sql).bind(tenant).fetch_optional(store).await?;
    Ok(row.map(|(at, score, method, codes)| TenantMovability {
        at: at.to_jiff(),
        score: u8::try_from(score).unwrap_or(0),
        method: method.as_deref().and_then(MoveMethod::called),
        codes: MoveCode::ALL.iter().copied().filter(|code| codes.iter().any(|known| known == code.as_str())).collect(),
    }))
}

/// Tenants that can be moved in their state and were judged, by the best method that is left to them: logical, dump, none.
pub async fn counts(store: &PgPool) -> sqlx::Result<[(&'static str, i64); 3]> {
    let sql = "SELECT coalesce(m.method, 'none'), count(*) FROM movability m
        JOIN tenant t ON t.id = m.tenant_id AND t.state IN ('active', 'suspended') WHERE m.at IS NOT NULL GROUP BY 1";
    let rows: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(store).await?;
    let count = |method: &str| rows.iter().find(|(known, _)| known == method).map_or(0, |(_, count)| *count);
    Ok(["logical", "dump", "none"].map(|method| (method, count(method))))
}
