//! All SQL about external poolers.

use std::collections::BTreeMap;

use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

pub struct Declared<'a> {
    pub id: &'a str,
    pub file: &'a str,
    pub users_file: Option<&'a str>,
    pub admin: &'a str,
    pub admin_sealed: &'a [u8],
    pub seal_id: Uuid,
    pub check_sealed: &'a [u8],
    pub check_verifier: &'a str,
}

#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ExternalRow {
    pub id: String,
    pub kind: String,
    pub version: Option<String>,
    pub reloads: i64,
    pub repaired: i64,
    pub file: String,
    pub users_file: Option<String>,
    pub admin: String,
    pub admin_sealed: Vec<u8>,
    pub admin_version: i32,
    pub seal_id: Uuid,
    pub check_sealed: Vec<u8>,
    pub check_verifier: String,
    pub withheld: Json<BTreeMap<String, String>>,
}

/// The pooler is inserted already.
pub async fn insert(tx: &mut PgConnection, declared: &Declared<'_>) -> sqlx::Result<()> {
    let sql = "INSERT INTO pooler_external (pooler_id, file, users_file, admin, admin_sealed, seal_id, check_sealed, check_verifier)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    sqlx::query(sql)
        .bind(declared.id)
        .bind(declared.file)
        .bind(declared.users_file)
        .bind(declared.admin)
        .bind(declared.admin_sealed)
        .bind(declared.seal_id)
        .bind(declared.check_sealed)
        .bind(declared.check_verifier)
        .execute(tx)
        .await
        .map(drop)
}

/// Whose file it is.
pub async fn owner(tx: &mut PgConnection, file: &str) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar("SELECT pooler_id FROM pooler_external WHERE file = $1").bind(file).fetch_optional(tx).await
}

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT p.id, p.kind, p.version, p.reloads, p.repaired, x.file, x.users_file, x.admin, x.admin_sealed,
                x.admin_version, x.seal_id, x.check_sealed, x.check_verifier, x.withheld
            FROM pooler p JOIN pooler_external x ON x.pooler_id = p.id ",
            $tail
        )
    };
}

pub async fn all(store: &PgPool) -> sqlx::Result<Vec<ExternalRow>> {
    sqlx::query_as(select!("ORDER BY p.id")).fetch_all(store).await
}

/// Locked, for whoever changes it.
pub async fn lock(tx: &mut PgConnection, id: &str) -> sqlx::Result<Option<ExternalRow>> {
    sqlx::query_as(select!("WHERE p.id = $1 FOR UPDATE OF x")).bind(id).fetch_optional(tx).await
}

pub async fn set_admin(tx: &mut PgConnection, id: &str, admin: &str, sealed: &[u8], version: i32) -> sqlx::Result<()> {
    let sql = "UPDATE pooler_external SET admin = $2, admin_sealed = $3, admin_version = $4 WHERE pooler_id = $1";
    sqlx::query(sql).bind(id).bind(admin).bind(sealed).bind(version).execute(tx).await.map(drop)
}

/// What is withheld is not in the pooler, whatever generation it has.
pub async fn set_withheld(store: &PgPool, id: &str, withheld: &BTreeMap<String, String>) -> sqlx::Result<()> {
    let mut tx = store.begin().await?;
    let sql = "UPDATE pooler_external SET withheld = $2 WHERE pooler_id = $1";
    sqlx::query(sql).bind(id).bind(Json(withheld)).execute(&mut *tx).await?;
    let names: Vec<&str> = withheld.keys().map(String::as_str).collect();
    let sql = "UPDATE tenant_database SET pooled = false WHERE pooler_id = $1 AND pooler_entry = ANY($2) AND pooled";
    sqlx::query(sql).bind(id).bind(names).execute(&mut *tx).await?;
    tx.commit().await
}

/// A login of one of its databases, with its sealed password.
#[derive(sqlx::FromRow)]
pub struct SealedLogin {
    pub id: Uuid,
    pub version: i32,
    pub role: String,
    pub password: Vec<u8>,
}

pub async fn logins(store: &PgPool, id: &str) -> sqlx::Result<Vec<SealedLogin>> {
    let sql = "SELECT l.id, l.version, l.role, l.password FROM login l JOIN tenant_database d ON d.id = l.database_id
        WHERE d.pooler_id = $1 AND d.pooler_entry IS NOT NULL AND l.purpose IN ('tenant', 'next', 'retiring')";
    sqlx::query_as(sql).bind(id).fetch_all(store).await
}
