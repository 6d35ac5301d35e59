//! All SQL about API keys.

use freehold_api::id::{KeyId, TenantId};
use freehold_api::key::{ApiKey, CreateKey, Scope};
use jiff_sqlx::{Timestamp, ToSqlx};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// A key is found by the hash of what the caller sent: there is nothing to compare in variable time.
pub fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

#[derive(sqlx::FromRow)]
pub struct KeyRow {
    id: Uuid,
    name: String,
    prefix: String,
    scopes: Vec<String>,
    tenants: Option<Vec<String>>,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    created_at: Timestamp,
}

impl From<KeyRow> for ApiKey {
    fn from(row: KeyRow) -> Self {
        Self {
            id: KeyId(row.id),
            name: row.name,
            prefix: row.prefix,
            scopes: row.scopes.iter().filter_map(|scope| parse(scope)).collect(),
            tenants: row.tenants.map(|ids| ids.into_iter().filter_map(|id| id.parse::<TenantId>().ok()).collect()),
            expires_at: row.expires_at.map(Timestamp::to_jiff),
            revoked_at: row.revoked_at.map(Timestamp::to_jiff),
            last_used_at: row.last_used_at.map(Timestamp::to_jiff),
            created_at: row.created_at.to_jiff(),
        }
    }
}

fn parse(scope: &str) -> Option<Scope> {
    Scope::ALL.into_iter().find(|known| known.as_str() == scope)
}

#[derive(sqlx::FromRow)]
struct Found {
    #[sqlx(flatten)]
    row: KeyRow,
    /// Used since, and not written down yet.
    unnoted: bool,
}

pub async fn find_by_token(store: &PgPool, token: &str) -> sqlx::Result<Option<ApiKey>> {
    let sql = "SELECT *, last_used_at IS NULL OR last_used_at < now() - interval '1 minute' AS unnoted FROM api_key
        WHERE hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())";
    let found: Option<Found> = sqlx::query_as(sql).bind(hash(token)).fetch_optional(store).await?;
    let Some(found) = found else { return Ok(None) };
    // Kept to the minute, so that a busy key does not turn every read into a write.
    if found.unnoted {
        let sql = "UPDATE api_key SET last_used_at = now() WHERE id = $1";
        sqlx::query(sql).bind(found.row.id).execute(store).await?;
    }
    Ok(Some(found.row.into()))
}

pub async fn insert(tx: &mut PgConnection, id: KeyId, token: &str, key: &CreateKey) -> sqlx::Result<ApiKey> {
    let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
    let tenants: Option<Vec<&str>> = key.tenants.as_ref().map(|ids| ids.iter().map(|id| id.as_str()).collect());
    let sql = "INSERT INTO api_key (id, name, prefix, hash, scopes, tenants, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING *";
    let row: KeyRow = sqlx::query_as(sql)
        .bind(id.0)
        .bind(&key.name)
        .bind(&token[..8])
        .bind(hash(token))
        .bind(scopes)
        .bind(tenants)
        .bind(key.expires_at.map(|at| at.to_sqlx()))
        .fetch_one(tx)
        .await?;
    Ok(row.into())
}

pub async fn list(store: &PgPool, after: Option<Uuid>, limit: i64) -> sqlx::Result<Vec<ApiKey>> {
    let sql = "SELECT * FROM api_key WHERE $1::uuid IS NULL OR id > $1 ORDER BY id LIMIT $2";
    let rows: Vec<KeyRow> = sqlx::query_as(sql).bind(after).bind(limit).fetch_all(store).await?;
    Ok(rows.into_iter().map(ApiKey::from).collect())
}

pub async fn revoke(tx: &mut PgConnection, id: KeyId) -> sqlx::Result<Option<ApiKey>> {
    let sql = "UPDATE api_key SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 RETURNING *";
    let row: Option<KeyRow> = sqlx::query_as(sql).bind(id.0).fetch_optional(tx).await?;
    Ok(row.map(ApiKey::from))
}
