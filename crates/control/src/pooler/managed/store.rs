//! All SQL about poolers that Freehold starts itself.

use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use super::need::Supply;
use crate::pooler::store::healthy;

/// A managed pooler, with what its agent is started by.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ServiceRow {
    pub id: String,
    pub state: String,
    pub host: String,
    pub port: i32,
    pub platform: String,
    pub place: Option<String>,
    pub key_sealed: Option<Vec<u8>>,
    pub key_seal_id: Option<Uuid>,
    /// It was heard of since it was begun, and nothing hinders it.
    pub healthy: bool,
    pub observed_generation: Option<i64>,
}

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT p.id, p.state, p.host, p.port, p.observed_generation, v.platform, v.place, v.key_sealed, v.key_seal_id, ",
            healthy!(),
            " AS healthy FROM pooler p JOIN pooler_service v ON v.pooler_id = p.id ",
            $tail
        )
    };
}

pub async fn find(store: impl PgExecutor<'_>, id: &str) -> sqlx::Result<Option<ServiceRow>> {
    sqlx::query_as(select!("WHERE p.id = $1")).bind(id).fetch_optional(store).await
}

/// Those that are to run.
pub async fn running(store: &PgPool) -> sqlx::Result<Vec<ServiceRow>> {
    sqlx::query_as(select!("WHERE p.state IN ('active', 'cordoned') ORDER BY p.id")).fetch_all(store).await
}

pub async fn supply(store: impl PgExecutor<'_>) -> sqlx::Result<Supply> {
    let sql = "SELECT
        (SELECT coalesce(sum(greatest(p.capacity - d.used, 0)), 0)::bigint FROM pooler p
            CROSS JOIN LATERAL (SELECT count(*) AS used FROM tenant_database WHERE pooler_id = p.id AND state <> 'dropping') d
            WHERE p.state = 'active') AS free,
        (SELECT count(*) FROM tenant_database d JOIN server s ON s.id = d.server_id
            WHERE d.pooler_id IS NULL AND NOT d.pooled AND d.state IN ('building', 'ready', 'claimed')
                AND s.tenant_host NOT LIKE '%,%') AS homeless,
        count(*) FILTER (WHERE p.state <> 'failed') AS managed,
        count(*) FILTER (WHERE p.state = 'starting') AS starting,
        coalesce(bool_or(p.state = 'failed' AND v.retry_at > now()), false) AS resting
        FROM pooler p JOIN pooler_service v ON v.pooler_id = p.id";
    sqlx::query_as(sql).fetch_one(store).await
}

/// One at a time decides whether another is started, by which name and at which port.
pub async fn lock(tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('pooler_platform'))").execute(tx).await.map(drop)
}

/// One that could not be started: the next try goes by its name.
pub async fn failed(tx: &mut PgConnection) -> sqlx::Result<Option<String>> {
    let sql = "SELECT p.id FROM pooler p JOIN pooler_service v ON v.pooler_id = p.id
        WHERE p.state = 'failed' ORDER BY p.created_at, p.id LIMIT 1";
    sqlx::query_scalar(sql).fetch_optional(tx).await
}

/// The next name of this kind that nobody has.
pub async fn next_name(tx: &mut PgConnection, prefix: &str) -> sqlx::Result<String> {
    loop {
        let number: i64 = sqlx::query_scalar("SELECT nextval('pooler_number')").fetch_one(&mut *tx).await?;
        let name = format!("{prefix}-{number}");
        let taken = sqlx::query("SELECT id FROM pooler WHERE id = $1").bind(&name).fetch_optional(&mut *tx).await?;
        if taken.is_none() {
            return Ok(name);
        }
    }
}

/// Ports that other poolers have: of Freehold's own, and at this address.
pub async fn ports(tx: &mut PgConnection, host: &str, but: &str) -> sqlx::Result<Vec<i32>> {
    let sql = "SELECT p.port FROM pooler p LEFT JOIN pooler_service v ON v.pooler_id = p.id
        WHERE p.id <> $2 AND (p.host = $1 OR v.pooler_id IS NOT NULL)";
    sqlx::query_scalar(sql).bind(host).bind(but).fetch_all(tx).await
}

pub struct Declared<'a> {
    pub id: &'a str,
    pub platform: &'a str,
    pub host: &'a str,
    pub port: u16,
    pub sslmode: &'a str,
    pub ca_certificate: Option<&'a str>,
    pub capacity: i32,
}

/// As `starting`, new or once more. False: there is another pooler of this name.
pub async fn declare(tx: &mut PgConnection, pooler: &Declared<'_>) -> sqlx::Result<bool> {
    let sql = "INSERT INTO pooler AS p (id, kind, management, state, host, port, sslmode, ca_certificate, capacity)
        VALUES ($1, 'pgbouncer', 'agent', 'starting', $2, $3, $4, $5, $6)
        ON CONFLICT (id) DO UPDATE SET state = 'starting', host = $2, port = $3, sslmode = $4, ca_certificate = $5, capacity = $6
        WHERE p.state = 'failed'";
    let done = sqlx::query(sql)
        .bind(pooler.id)
        .bind(pooler.host)
        .bind(i32::from(pooler.port))
        .bind(pooler.sslmode)
        .bind(pooler.ca_certificate)
        .bind(pooler.capacity)
        .execute(&mut *tx)
        .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    let sql = "INSERT INTO pooler_service (pooler_id, platform) VALUES ($1, $2)
        ON CONFLICT (pooler_id) DO UPDATE SET platform = $2, place = NULL";
    sqlx::query(sql).bind(pooler.id).bind(pooler.platform).execute(tx).await?;
    Ok(true)
}

/// Where it is going to be begun; what was heard of it before is of another.
pub async fn set_place(tx: &mut PgConnection, id: &str, place: &str) -> sqlx::Result<()> {
    sqlx::query("UPDATE pooler_service SET place = $2 WHERE pooler_id = $1")
        .bind(id)
        .bind(place)
        .execute(&mut *tx)
        .await?;
    let sql = "UPDATE pooler SET observed_at = NULL, observed_generation = NULL, error = NULL WHERE id = $1";
    sqlx::query(sql).bind(id).execute(tx).await.map(drop)
}

pub async fn set_port(tx: &mut PgConnection, id: &str, port: u16) -> sqlx::Result<()> {
    let sql = "UPDATE pooler SET port = $2 WHERE id = $1 AND state = 'starting'";
    sqlx::query(sql).bind(id).bind(i32::from(port)).execute(tx).await.map(drop)
}

pub async fn set_key(tx: &mut PgConnection, id: &str, key: Uuid, sealed: &[u8], seal_id: Uuid) -> sqlx::Result<()> {
    let sql = "UPDATE pooler_service SET key_id = $2, key_sealed = $3, key_seal_id = $4 WHERE pooler_id = $1";
    sqlx::query(sql).bind(id).bind(key).bind(sealed).bind(seal_id).execute(tx).await.map(drop)
}

/// It has none any more. Answers which it was.
pub async fn take_key(tx: &mut PgConnection, id: &str) -> sqlx::Result<Option<Uuid>> {
    let sql = "UPDATE pooler_service v SET key_id = NULL, key_sealed = NULL, key_seal_id = NULL
        FROM (SELECT pooler_id, key_id FROM pooler_service WHERE pooler_id = $1 FOR UPDATE) had
        WHERE v.pooler_id = had.pooler_id RETURNING had.key_id";
    Ok(sqlx::query_scalar(sql).bind(id).fetch_optional(tx).await?.flatten())
}

/// `starting → active`
pub async fn activate(tx: &mut PgConnection, id: &str) -> sqlx::Result<bool> {
    let sql = "UPDATE pooler_service SET reason = NULL, failures = 0, retry_at = NULL WHERE pooler_id = $1";
    sqlx::query(sql).bind(id).execute(&mut *tx).await?;
    let sql = "UPDATE pooler SET state = 'active' WHERE id = $1 AND state = 'starting'";
    Ok(sqlx::query(sql).bind(id).execute(tx).await?.rows_affected() == 1)
}

/// `starting → failed`; the next try waits twice as long as the one before, an hour at most.
pub async fn fail(tx: &mut PgConnection, id: &str, reason: &str) -> sqlx::Result<()> {
    let sql = "UPDATE pooler_service SET reason = $2, failures = failures + 1,
        retry_at = now() + make_interval(secs => least(30 * 2 ^ least(failures, 8), 3600)) WHERE pooler_id = $1";
    sqlx::query(sql).bind(id).bind(reason).execute(&mut *tx).await?;
    let sql = "UPDATE pooler SET state = 'failed', observed_at = NULL, observed_generation = NULL, error = NULL
        WHERE id = $1 AND state = 'starting'";
    sqlx::query(sql).bind(id).execute(tx).await.map(drop)
}

/// From here on it gets no databases. False: it is being started, or ended already.
pub async fn begin_removing(tx: &mut PgConnection, id: &str) -> sqlx::Result<bool> {
    let sql = "UPDATE pooler SET state = 'removing' WHERE id = $1 AND state IN ('active', 'cordoned', 'failed')";
    Ok(sqlx::query(sql).bind(id).execute(tx).await?.rows_affected() == 1)
}

/// `removing → cordoned`: what was not ended runs on. One that never ran, or lost its key by then, is `failed`.
pub async fn keep(tx: &mut PgConnection, id: &str) -> sqlx::Result<()> {
    let sql = "UPDATE pooler p SET state = CASE WHEN v.key_id IS NULL THEN 'failed' ELSE 'cordoned' END
        FROM pooler_service v WHERE p.id = $1 AND v.pooler_id = p.id AND p.state = 'removing'";
    sqlx::query(sql).bind(id).execute(tx).await.map(drop)
}

pub async fn exists(store: impl PgExecutor<'_>, id: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pooler_service WHERE pooler_id = $1)")
        .bind(id)
        .fetch_one(store)
        .await
}

/// Whom an operation is about.
pub async fn subject(tx: &mut PgConnection, operation: Uuid) -> sqlx::Result<Option<String>> {
    let sql = "SELECT substr(subject, 8) FROM operation WHERE id = $1 AND subject LIKE 'pooler:%'";
    sqlx::query_scalar(sql).bind(operation).fetch_optional(tx).await
}
