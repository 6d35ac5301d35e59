//! What the control store says of who asks it, and of the time.

use sqlx::PgPool;

#[derive(Debug, sqlx::FromRow)]
pub(super) struct Row {
    pub role: String,
    pub is_superuser: bool,
    pub milliseconds: i64,
}

pub(super) async fn look(store: &PgPool) -> Result<Row, sqlx::Error> {
    let sql = "
        SELECT rolname AS role, rolsuper AS is_superuser,
               (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS milliseconds
        FROM pg_catalog.pg_roles WHERE rolname = session_user";
    sqlx::query_as(sql).fetch_one(store).await
}
