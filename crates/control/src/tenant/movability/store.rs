//! SQL about what a move has to know besides.

use sqlx::PgPool;
use uuid::Uuid;

/// Whether a pooler serves the database.
pub async fn is_pooled(store: &PgPool, database: Uuid) -> sqlx::Result<bool> {
    let sql = "SELECT pooler_id IS NOT NULL FROM tenant_database WHERE id = $1";
    Ok(sqlx::query_scalar(sql).bind(database).fetch_optional(store).await?.unwrap_or(false))
}
