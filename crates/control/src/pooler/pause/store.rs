//! All SQL about pauses.

use std::time::Duration;

use freehold_api::pooler::{PauseState, PauseTold, PauseWanted};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// Pauses that are wanted: nobody released them, they were not over when the agent told last, and had they been heard of
/// late, they would be over by now.
macro_rules! open_pause {
    () => {
        "released_at IS NULL AND (told IS NULL OR told IN ('draining', 'paused'))
            AND created_at > now() - make_interval(secs => (drain_ms + hold_ms) / 1000.0)"
    };
}
pub(in crate::pooler) use open_pause;

/// None: no pooler serves it.
pub async fn want(store: &PgPool, database: Uuid, drain: Duration, hold: Duration) -> sqlx::Result<Option<Uuid>> {
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX).max(1);
    let sql = "INSERT INTO pooler_pause (id, pooler_id, entry, drain_ms, hold_ms)
        SELECT $2, pooler_id, pooler_entry, $3, $4 FROM tenant_database
        WHERE id = $1 AND pooler_id IS NOT NULL AND pooler_entry IS NOT NULL RETURNING id";
    let query = sqlx::query_scalar(sql).bind(database).bind(Uuid::now_v7()).bind(millis(drain)).bind(millis(hold));
    query.fetch_optional(store).await
}

pub async fn release(store: &PgPool, id: Uuid) -> sqlx::Result<()> {
    let sql = "UPDATE pooler_pause SET released_at = now() WHERE id = $1 AND released_at IS NULL";
    sqlx::query(sql).bind(id).execute(store).await.map(drop)
}

pub async fn pooler(store: &PgPool, database: Uuid) -> sqlx::Result<Option<String>> {
    let sql = "SELECT pooler_id FROM tenant_database WHERE id = $1 AND pooler_id IS NOT NULL";
    sqlx::query_scalar(sql).bind(database).fetch_optional(store).await
}

/// Of the PgBouncer that serves it.
pub async fn pooler_version(store: &PgPool, database: Uuid) -> sqlx::Result<Option<String>> {
    let sql = "SELECT p.version FROM tenant_database d JOIN pooler p ON p.id = d.pooler_id
        WHERE d.id = $1 AND p.kind = 'pgbouncer' AND p.version IS NOT NULL";
    sqlx::query_scalar(sql).bind(database).fetch_optional(store).await
}

/// All that are wanted of one database, whoever asked.
pub async fn release_all(tx: &mut PgConnection, database: Uuid) -> sqlx::Result<()> {
    let sql = "UPDATE pooler_pause p SET released_at = now() FROM tenant_database d
        WHERE d.id = $1 AND p.pooler_id = d.pooler_id AND p.entry = d.pooler_entry AND p.released_at IS NULL";
    sqlx::query(sql).bind(database).execute(tx).await.map(drop)
}

pub async fn told(store: &PgPool, id: Uuid) -> sqlx::Result<Option<(PauseState, Option<String>)>> {
    let sql = "SELECT told, detail FROM pooler_pause WHERE id = $1";
    let found: Option<(Option<String>, Option<String>)> = sqlx::query_as(sql).bind(id).fetch_optional(store).await?;
    Ok(found.and_then(|(told, detail)| Some((super::state_of(&told?), detail))))
}

pub async fn wanted(store: &PgPool, pooler: &str) -> sqlx::Result<Vec<PauseWanted>> {
    let sql = concat!(
        "SELECT id, entry, drain_ms, hold_ms FROM pooler_pause WHERE pooler_id = $1 AND ",
        open_pause!(),
        " ORDER BY id"
    );
    let rows: Vec<(Uuid, String, i64, i64)> = sqlx::query_as(sql).bind(pooler).fetch_all(store).await?;
    let millis = |count: i64| u64::try_from(count).unwrap_or(0);
    let wanted = rows.into_iter().map(|(id, database, drain, hold)| PauseWanted {
        id,
        database,
        drain_ms: millis(drain),
        hold_ms: millis(hold),
    });
    Ok(wanted.collect())
}

/// True: something is new.
pub async fn record(store: &PgPool, pooler: &str, told: &[PauseTold]) -> sqlx::Result<bool> {
    if told.is_empty() {
        return Ok(false);
    }
    let ids: Vec<Uuid> = told.iter().map(|told| told.id).collect();
    let states: Vec<&str> = told.iter().map(|told| told.state.as_str()).collect();
    let details: Vec<Option<&str>> = told.iter().map(|told| told.detail.as_deref()).collect();
    let sql = "UPDATE pooler_pause p SET told = n.state, detail = n.detail, told_at = now()
        FROM unnest($2::uuid[], $3::text[], $4::text[]) AS n (id, state, detail)
        WHERE p.id = n.id AND p.pooler_id = $1 AND (p.told, p.detail) IS DISTINCT FROM (n.state, n.detail)";
    let query = sqlx::query(sql).bind(pooler).bind(ids).bind(states).bind(details);
    Ok(query.execute(store).await?.rows_affected() > 0)
}

/// Pauses that were over long ago.
pub async fn forget(store: &PgPool) -> sqlx::Result<()> {
    let sql = "DELETE FROM pooler_pause WHERE created_at < now() - interval '1 day' - make_interval(secs => (drain_ms + hold_ms) / 1000.0)";
    sqlx::query(sql).execute(store).await.map(drop)
}
