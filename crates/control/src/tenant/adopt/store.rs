//! All SQL about adoptions.

use std::collections::BTreeMap;

use freehold_drivers::server::sql::adopt::Former;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

/// Roles on a server that are Freehold's, and whose; but those of this database.
pub async fn taken(store: &PgPool, server: &str, but: Option<Uuid>) -> sqlx::Result<BTreeMap<String, String>> {
    let sql = "WITH theirs AS (
            SELECT d.id, d.owner, coalesce('tenant ' || d.tenant_id || '''s', 'a stock database''s') AS whose
            FROM tenant_database d WHERE d.server_id = $1 AND d.id IS DISTINCT FROM $2)
        SELECT owner, whose FROM theirs
        UNION ALL SELECT l.role, t.whose FROM theirs t JOIN login l ON l.database_id = t.id
        UNION ALL SELECT k.role, t.whose FROM theirs t JOIN kept_login k ON k.database_id = t.id
        UNION ALL SELECT owner, 'the owner of template ' || name FROM template_build WHERE server_id = $1
        UNION ALL SELECT role, 'the login of health' FROM visitor WHERE server_id = $1";
    let rows: Vec<(String, String)> = sqlx::query_as(sql).bind(server).bind(but).fetch_all(store).await?;
    Ok(rows.into_iter().collect())
}

/// What of Freehold's a database of this name is, if it is.
pub async fn whose(store: &PgPool, server: &str, database: &str, but: Option<Uuid>) -> sqlx::Result<Option<String>> {
    let sql = "SELECT coalesce('tenant ' || tenant_id || '''s', 'Freehold''s stock') FROM tenant_database
            WHERE server_id = $1 AND database = $2 AND id IS DISTINCT FROM $3
        UNION ALL SELECT 'what template ' || name || ' is copied from' FROM template_build WHERE server_id = $1 AND database = $2";
    sqlx::query_scalar(sql).bind(server).bind(database).bind(but).fetch_optional(store).await
}

/// Locks the server, and says whether it may take one more. None: it takes nobody, or there is none.
pub async fn has_room(tx: &mut PgConnection, server: &str) -> sqlx::Result<Option<bool>> {
    let sql = "SELECT capacity FROM server WHERE id = $1 AND state IN ('active', 'cordoned') AND kind <> 'system' FOR NO KEY UPDATE";
    let capacity: Option<i32> = sqlx::query_scalar(sql).bind(server).fetch_optional(&mut *tx).await?;
    let Some(capacity) = capacity else { return Ok(None) };
    let sql = "SELECT count(*) FROM tenant_database WHERE server_id = $1 AND state <> 'dropping'";
    let used: i64 = sqlx::query_scalar(sql).bind(server).fetch_one(tx).await?;
    Ok(Some(used < i64::from(capacity)))
}

pub async fn keep_logins(tx: &mut PgConnection, database: Uuid, roles: &[String]) -> sqlx::Result<()> {
    let sql =
        "INSERT INTO kept_login (database_id, role) SELECT $1, r FROM unnest($2::text[]) r ON CONFLICT DO NOTHING";
    sqlx::query(sql).bind(database).bind(roles).execute(tx).await?;
    Ok(())
}

pub async fn kept_logins(store: impl PgExecutor<'_>, database: Uuid) -> sqlx::Result<Vec<String>> {
    let sql = "SELECT role FROM kept_login WHERE database_id = $1 ORDER BY role";
    sqlx::query_scalar(sql).bind(database).fetch_all(store).await
}

/// What the database was before. Written before anything is changed; what is found later is added.
pub async fn record(store: impl PgExecutor<'_>, database: Uuid, former: &Former) -> sqlx::Result<()> {
    let sql = "INSERT INTO adoption (database_id, record) VALUES ($1, $2)
        ON CONFLICT (database_id) DO UPDATE SET record = excluded.record";
    sqlx::query(sql).bind(database).bind(Json(former)).execute(store).await?;
    Ok(())
}

pub async fn former(store: impl PgExecutor<'_>, database: Uuid) -> sqlx::Result<Option<Former>> {
    let sql = "SELECT record FROM adoption WHERE database_id = $1";
    let found: Option<Json<Former>> = sqlx::query_scalar(sql).bind(database).fetch_optional(store).await?;
    Ok(found.map(|record| record.0))
}

/// It is the tenant's now: there is no way back any more.
pub async fn forget(tx: &mut PgConnection, database: Uuid) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM adoption WHERE database_id = $1").bind(database).execute(tx).await?;
    Ok(())
}
