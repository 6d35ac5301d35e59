//! All SQL about rotation: the login beside the one that is handed out.

use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use crate::pooler::store::healthy;
use crate::stock::declare::Credential;

/// A login that is going to be handed out.
pub struct Planned<'a> {
    pub database: Uuid,
    pub server: &'a str,
    /// `next` or `replacement`.
    pub purpose: &'a str,
    pub role: &'a str,
    pub second_of: Option<&'a str>,
    pub minted: Credential,
    pub by: Option<Uuid>,
    pub once: Option<&'a str>,
}

/// Before any of it exists. A name that somebody has on the server breaks `login_server_id_role_key`.
pub async fn plan(tx: &mut PgConnection, planned: &Planned<'_>) -> sqlx::Result<()> {
    let sql = "INSERT INTO login (id, database_id, server_id, purpose, role, second_of, password, verifier, pooler_generation,
            asked_by, asked_once)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL, $9, $10)";
    let Credential { id, sealed, verifier } = &planned.minted;
    sqlx::query(sql)
        .bind(id)
        .bind(planned.database)
        .bind(planned.server)
        .bind(planned.purpose)
        .bind(planned.role)
        .bind(planned.second_of)
        .bind(sealed)
        .bind(verifier)
        .bind(planned.by)
        .bind(planned.once)
        .execute(tx)
        .await
        .map(drop)
}

/// Whether another login of its server, or of its pooler, which has one list for all servers, is called so.
pub async fn is_taken(store: &PgPool, database: Uuid, role: &str) -> sqlx::Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM login l JOIN tenant_database o ON o.id = l.database_id
        JOIN tenant_database d ON d.server_id = o.server_id OR d.pooler_id = o.pooler_id
        WHERE d.id = $1 AND l.role = $2 AND l.database_id <> d.id)";
    sqlx::query_scalar(sql).bind(database).bind(role).fetch_one(store).await
}

/// Where its pooler stands with a login beside the one that is handed out.
#[derive(Debug, sqlx::FromRow)]
pub struct Told {
    pub pooler_id: Option<String>,
    /// Its change is part of a generation.
    pub raised: bool,
    /// That generation is in force.
    pub seen: bool,
    pub healthy: bool,
    /// It has been waited for for too long.
    pub over: bool,
}

pub async fn told(store: &PgPool, database: Uuid, purpose: &str, seconds: f64) -> sqlx::Result<Option<Told>> {
    let sql = concat!(
        "SELECT d.pooler_id, l.pooler_generation IS NOT NULL AS raised,
            coalesce(l.pooler_generation <= p.observed_generation, false) AS seen, coalesce(",
        healthy!(),
        ", false) AS healthy, coalesce(l.refused_at, l.created_at) < now() - make_interval(secs => $3) AS over
        FROM login l JOIN tenant_database d ON d.id = l.database_id LEFT JOIN pooler p ON p.id = d.pooler_id
        WHERE l.database_id = $1 AND l.purpose = $2"
    );
    sqlx::query_as(sql).bind(database).bind(purpose).bind(seconds).fetch_optional(store).await
}

/// The next one is handed out from now on, and the one before is in force for so many seconds more. Where the pooler was not
/// seen to have it, the database is marked: it is not ready there until it was.
pub async fn hand_out(tx: &mut PgConnection, tenant: &str, grace: u64) -> sqlx::Result<()> {
    let sql = "UPDATE login l SET purpose = 'retiring', retire_at = now() + make_interval(secs => $2)
        FROM tenant_database d WHERE d.id = l.database_id AND d.tenant_id = $1 AND l.purpose = 'tenant'
          AND EXISTS (SELECT FROM login n WHERE n.database_id = d.id AND n.purpose = 'next')";
    sqlx::query(sql).bind(tenant).bind(grace as f64).execute(&mut *tx).await?;
    let sql = "UPDATE tenant_database d SET pooled = false, pooler_generation = NULL
        FROM login l, pooler p WHERE d.tenant_id = $1 AND l.database_id = d.id AND l.purpose = 'next' AND p.id = d.pooler_id
          AND coalesce(l.pooler_generation > p.observed_generation, true)";
    sqlx::query(sql).bind(tenant).execute(&mut *tx).await?;
    let sql = "UPDATE login l SET purpose = 'tenant' FROM tenant_database d
        WHERE d.id = l.database_id AND d.tenant_id = $1 AND l.purpose = 'next'";
    sqlx::query(sql).bind(tenant).execute(&mut *tx).await?;
    changed(tx, tenant).await
}

/// In place: the replacement takes over the name, and the password before is nobody's any more.
pub async fn replace(tx: &mut PgConnection, tenant: &str) -> sqlx::Result<()> {
    let sql = "DELETE FROM login l USING tenant_database d WHERE d.id = l.database_id AND d.tenant_id = $1 AND l.purpose = 'tenant'
          AND EXISTS (SELECT FROM login n WHERE n.database_id = d.id AND n.purpose = 'replacement')
        RETURNING l.role, l.second_of";
    let before: Option<(String, Option<String>)> = sqlx::query_as(sql).bind(tenant).fetch_optional(&mut *tx).await?;
    let Some((role, second_of)) = before else { return Ok(()) };
    let sql =
        "UPDATE login l SET purpose = 'tenant', role = $2, second_of = $3, pooler_generation = 0 FROM tenant_database d
        WHERE d.id = l.database_id AND d.tenant_id = $1 AND l.purpose = 'replacement'";
    sqlx::query(sql).bind(tenant).bind(role).bind(second_of).execute(&mut *tx).await?;
    changed(tx, tenant).await
}

/// What was planned and not handed out.
pub async fn forget_next(tx: &mut PgConnection, tenant: &str) -> sqlx::Result<()> {
    let sql = "DELETE FROM login l USING tenant_database d
        WHERE d.id = l.database_id AND d.tenant_id = $1 AND l.purpose IN ('next', 'replacement')";
    sqlx::query(sql).bind(tenant).execute(tx).await.map(drop)
}

/// Nobody is to come in by the one before any more.
pub async fn refuse(store: &PgPool, database: Uuid) -> sqlx::Result<()> {
    let sql = "UPDATE login SET refused_at = now(), retire_at = least(retire_at, now()), pooler_generation = NULL
        WHERE database_id = $1 AND purpose = 'retiring' AND refused_at IS NULL";
    sqlx::query(sql).bind(database).execute(store).await.map(drop)
}

pub async fn forget_retired(tx: &mut PgConnection, tenant: &str) -> sqlx::Result<()> {
    let sql = "DELETE FROM login l USING tenant_database d
        WHERE d.id = l.database_id AND d.tenant_id = $1 AND l.purpose = 'retiring'";
    sqlx::query(sql).bind(tenant).execute(&mut *tx).await?;
    changed(tx, tenant).await
}

/// What is shown of the tenant is another, and the note in its database is written anew.
async fn changed(tx: &mut PgConnection, tenant: &str) -> sqlx::Result<()> {
    let sql = "UPDATE tenant_database SET noted_at = NULL WHERE tenant_id = $1";
    sqlx::query(sql).bind(tenant).execute(&mut *tx).await?;
    let sql = "UPDATE tenant SET revision = revision + 1, updated_at = now() WHERE id = $1";
    sqlx::query(sql).bind(tenant).execute(tx).await.map(drop)
}

/// Whether the login that is handed out was made by this very request.
pub async fn was_made_by(tx: &mut PgConnection, tenant: &str, key: Uuid, once: &str) -> sqlx::Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM login l JOIN tenant_database d ON d.id = l.database_id
        WHERE d.tenant_id = $1 AND l.purpose = 'tenant' AND l.asked_by = $2 AND l.asked_once = $3)";
    sqlx::query_scalar(sql).bind(tenant).bind(key).bind(once).fetch_one(tx).await
}

/// The rotation that works on a tenant now, if it is of this caller.
pub async fn in_flight(tx: &mut PgConnection, operation: Uuid, by: &str) -> sqlx::Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM operation WHERE id = $1 AND kind = 'tenant.rotate' AND requested_by = $2)";
    sqlx::query_scalar(sql).bind(operation).bind(by).fetch_one(tx).await
}

/// Whose login's grace is over, and that nobody works on. A retirement that failed is tried again ten minutes later.
pub async fn due(store: &PgPool) -> sqlx::Result<Vec<String>> {
    let sql = "SELECT t.id FROM login l JOIN tenant_database d ON d.id = l.database_id JOIN tenant t ON t.id = d.tenant_id
        WHERE l.purpose = 'retiring' AND l.retire_at <= now() AND t.state IN ('active', 'suspended')
          AND NOT EXISTS (SELECT FROM operation o WHERE o.subject = 'tenant:' || t.id
            AND (o.state NOT IN ('succeeded', 'failed', 'cancelled')
              OR o.kind = 'tenant.retire_login' AND o.state <> 'succeeded' AND o.finished_at > now() - interval '10 minutes'))
        ORDER BY l.retire_at LIMIT 100";
    sqlx::query_scalar(sql).fetch_all(store).await
}

/// The same for one of them, whose row is locked.
pub async fn is_due(tx: &mut PgConnection, tenant: &str) -> sqlx::Result<bool> {
    let sql = "SELECT t.id FROM tenant t JOIN tenant_database d ON d.tenant_id = t.id JOIN login l ON l.database_id = d.id
        WHERE t.id = $1 AND l.purpose = 'retiring' AND l.retire_at <= now() AND t.state IN ('active', 'suspended') FOR UPDATE OF t";
    Ok(sqlx::query(sql).bind(tenant).fetch_optional(tx).await?.is_some())
}

/// How many logins are waiting for the end of their grace, and of how many that is over.
pub async fn count(store: impl PgExecutor<'_>) -> sqlx::Result<(i64, i64)> {
    let sql = "SELECT count(*), count(*) FILTER (WHERE retire_at <= now()) FROM login WHERE purpose = 'retiring'";
    sqlx::query_as(sql).fetch_one(store).await
}
