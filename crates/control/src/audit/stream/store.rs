//! All SQL about how far events were sent.

use sqlx::{PgExecutor, PgPool};

pub async fn places(store: impl PgExecutor<'_>) -> sqlx::Result<Vec<(String, i64)>> {
    sqlx::query_as("SELECT receiver, place FROM audit_stream").fetch_all(store).await
}

/// 0: it has nothing.
pub async fn place(store: &PgPool, receiver: &str) -> sqlx::Result<i64> {
    let sql = "SELECT place FROM audit_stream WHERE receiver = $1";
    Ok(sqlx::query_scalar(sql).bind(receiver).fetch_optional(store).await?.unwrap_or(0))
}

/// Never back: a process that hung may be late.
pub async fn taken(store: &PgPool, receiver: &str, place: i64) -> sqlx::Result<()> {
    let sql = "INSERT INTO audit_stream AS s (receiver, place) VALUES ($1, $2)
        ON CONFLICT (receiver) DO UPDATE SET place = excluded.place, taken_at = now() WHERE s.place < excluded.place";
    sqlx::query(sql).bind(receiver).bind(place).execute(store).await.map(drop)
}
