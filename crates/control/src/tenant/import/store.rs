//! All SQL about imports.

use freehold_api::server::Finding;
use jiff_sqlx::Timestamp;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// Where an operation reads from.
#[derive(sqlx::FromRow)]
pub struct SourceRow {
    /// What it is sealed for.
    pub id: Uuid,
    pub dsn: Vec<u8>,
    pub ca_certificate: Option<String>,
}

/// What a tenant came from.
#[derive(sqlx::FromRow)]
pub struct ImportRow {
    pub source: String,
    pub version_num: i32,
    pub as_of: Option<Timestamp>,
    pub notes: Json<Vec<Finding>>,
}

/// In the transaction that starts the operation.
pub async fn keep_source(tx: &mut PgConnection, operation: Uuid, source: &SourceRow) -> sqlx::Result<()> {
    let sql = "INSERT INTO import_source (operation, id, dsn, ca_certificate) VALUES ($1, $2, $3, $4)";
    let query = sqlx::query(sql).bind(operation).bind(source.id).bind(&source.dsn).bind(&source.ca_certificate);
    query.execute(tx).await.map(drop)
}

pub async fn find_source(store: &PgPool, operation: Uuid) -> sqlx::Result<Option<SourceRow>> {
    let sql = "SELECT id, dsn, ca_certificate FROM import_source WHERE operation = $1";
    sqlx::query_as(sql).bind(operation).fetch_optional(store).await
}

/// In the transaction that ends the operation.
pub async fn forget_source(tx: &mut PgConnection, operation: Uuid) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM import_source WHERE operation = $1").bind(operation).execute(tx).await.map(drop)
}

/// As it was found; nothing of it is read yet.
pub async fn comes_from(
    tx: &mut PgConnection,
    tenant: &str,
    source: &str,
    version_num: i32,
    notes: &[Finding],
) -> sqlx::Result<()> {
    let sql = "INSERT INTO tenant_import (tenant_id, source, version_num, notes) VALUES ($1, $2, $3, $4)
        ON CONFLICT (tenant_id) DO UPDATE SET source = excluded.source, version_num = excluded.version_num,
            notes = excluded.notes, as_of = NULL";
    sqlx::query(sql).bind(tenant).bind(source).bind(version_num).bind(Json(notes)).execute(tx).await.map(drop)
}

/// It is here, and the same as it was there at this moment.
pub async fn is_as_of(tx: &mut PgConnection, tenant: &str, as_of: Timestamp) -> sqlx::Result<()> {
    sqlx::query("UPDATE tenant_import SET as_of = $2 WHERE tenant_id = $1")
        .bind(tenant)
        .bind(as_of)
        .execute(tx)
        .await
        .map(drop)
}

pub async fn came(store: &PgPool, tenant: &str) -> sqlx::Result<Option<ImportRow>> {
    let sql = "SELECT source, version_num, as_of, notes FROM tenant_import WHERE tenant_id = $1";
    sqlx::query_as(sql).bind(tenant).fetch_optional(store).await
}

/// It came to nothing.
pub async fn forget(tx: &mut PgConnection, tenant: &str) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM tenant_import WHERE tenant_id = $1").bind(tenant).execute(tx).await.map(drop)
}
