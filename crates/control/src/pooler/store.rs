//! All SQL about poolers, but that of assigning databases to them, of counting generations up, and of what they count.

use std::collections::BTreeMap;

use freehold_api::pooler::{PoolerKind, PoolerManagement, PoolerReport, PoolerState};
use jiff_sqlx::Timestamp;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use super::pause::store::open_pause;

/// A pooler whose agent was silent for longer is not counted on. Agents report every few seconds.
macro_rules! fresh {
    () => {
        "(p.observed_at IS NOT NULL AND p.observed_at > now() - interval '15 seconds')"
    };
}

/// One that is heard of, and that nothing hinders.
macro_rules! healthy {
    () => {
        concat!("(p.error IS NULL AND ", crate::pooler::store::fresh!(), ")")
    };
}

/// Which databases could have a pooler: `d` the database, `s` its server. Poolers take one host, or they would take turns
/// through standbys too.
macro_rules! servable {
    () => {
        "((d.state IN ('ready', 'claimed') OR d.state = 'building' AND d.pooling_since IS NOT NULL)
            AND s.tenant_host NOT LIKE '%,%')"
    };
}

/// Which databases their pooler is to have: `t` is the tenant, if any.
macro_rules! served {
    () => {
        concat!("(t.purge_began_at IS NULL AND ", crate::pooler::store::servable!(), ")")
    };
}

/// Something of pooler `p` is in no generation yet.
macro_rules! marked {
    () => {
        "(p.changed OR EXISTS (SELECT FROM tenant_database d
            WHERE d.pooler_id = p.id AND NOT d.pooled AND d.pooler_generation IS NULL))"
    };
}
pub(crate) use {fresh, healthy};
pub(super) use {servable, served};

#[derive(Debug, Clone, sqlx::FromRow)]
pub struct PoolerRow {
    pub id: String,
    pub kind: String,
    pub management: String,
    /// Where Freehold runs it itself.
    pub platform: Option<String>,
    /// Why it could not be started.
    pub reason: Option<String>,
    pub state: String,
    pub host: String,
    pub port: i32,
    pub sslmode: String,
    pub ca_certificate: Option<String>,
    pub capacity: i32,
    pub generation: i64,
    pub observed_generation: Option<i64>,
    pub observed_at: Option<Timestamp>,
    pub error: Option<String>,
    pub version: Option<String>,
    pub reloads: i64,
    pub deaths: i64,
    pub repaired: i64,
    pub needs_restart: Vec<String>,
    pub created_at: Timestamp,
    /// Its agent was heard of a moment ago.
    pub fresh: bool,
    pub tenants: i64,
    pub stock: i64,
    /// Databases of its that it cannot serve.
    pub unserved: i64,
    /// Of an external one.
    pub file: Option<String>,
    pub users_file: Option<String>,
    pub admin: Option<String>,
    pub withheld: Option<Json<BTreeMap<String, String>>>,
    /// Of one that starts or goes, and should have long: what it waits for.
    pub slow: Option<String>,
    /// Connections that its pools may open, and those that they have open.
    pub granted: i32,
    pub open: i64,
}

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT p.*, ",
            fresh!(),
            " AS fresh, v.platform, v.reason, d.tenants, d.stock, d.unserved, k.open, x.file, x.users_file, x.admin, x.withheld, o.slow
            FROM pooler p LEFT JOIN pooler_service v ON v.pooler_id = p.id LEFT JOIN pooler_external x ON x.pooler_id = p.id
            LEFT JOIN LATERAL (SELECT coalesce(o.error ->> 'message', 'step ' || o.step_name) AS slow FROM operation o
                WHERE p.state IN ('starting', 'removing') AND o.subject = 'pooler:' || p.id
                    AND o.state NOT IN ('succeeded', 'failed', 'cancelled') AND o.created_at < now() - interval '1 minute') o ON true
            CROSS JOIN LATERAL (SELECT coalesce(sum(k.servers_active + k.servers_idle), 0) AS open
                FROM pooler_stats k JOIN tenant_database d ON d.id = k.database_id WHERE d.pooler_id = p.id) k
            CROSS JOIN LATERAL (SELECT count(d.tenant_id) AS tenants, count(*) FILTER (WHERE d.tenant_id IS NULL) AS stock,
                    count(*) FILTER (WHERE d.pooler_generation IS NOT NULL AND d.pooler_entry IS NULL AND t.purge_began_at IS NULL) AS unserved
                FROM tenant_database d LEFT JOIN tenant t ON t.id = d.tenant_id
                WHERE d.pooler_id = p.id AND d.state <> 'dropping') d ",
            $tail
        )
    };
}

pub async fn all(store: impl PgExecutor<'_>) -> sqlx::Result<Vec<PoolerRow>> {
    sqlx::query_as(select!("ORDER BY p.id")).fetch_all(store).await
}

pub async fn page(store: &PgPool, after: Option<&str>, limit: i64) -> sqlx::Result<Vec<PoolerRow>> {
    let sql = select!("WHERE $1::text IS NULL OR p.id > $1 ORDER BY p.id LIMIT $2");
    sqlx::query_as(sql).bind(after).bind(limit).fetch_all(store).await
}

pub async fn find(store: impl PgExecutor<'_>, id: &str) -> sqlx::Result<Option<PoolerRow>> {
    sqlx::query_as(select!("WHERE p.id = $1")).bind(id).fetch_optional(store).await
}

pub struct Declared<'a> {
    pub id: &'a str,
    pub kind: PoolerKind,
    pub management: PoolerManagement,
    pub host: &'a str,
    pub port: u16,
    pub sslmode: &'a str,
    pub ca_certificate: Option<&'a str>,
    pub capacity: i32,
}

/// False: there is one of this name.
pub async fn insert(tx: &mut PgConnection, pooler: &Declared<'_>) -> sqlx::Result<bool> {
    let sql = "INSERT INTO pooler (id, kind, management, host, port, sslmode, ca_certificate, capacity)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING";
    let done = sqlx::query(sql)
        .bind(pooler.id)
        .bind(pooler.kind.as_str())
        .bind(pooler.management.as_str())
        .bind(pooler.host)
        .bind(i32::from(pooler.port))
        .bind(pooler.sslmode)
        .bind(pooler.ca_certificate)
        .bind(pooler.capacity)
        .execute(tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Of `dev`, whose ports may be others every time.
pub async fn relocate(store: &PgPool, id: &str, host: &str, port: u16, sslmode: &str, ca: &str) -> sqlx::Result<()> {
    let sql = "UPDATE pooler SET host = $2, port = $3, sslmode = $4, ca_certificate = $5
        WHERE id = $1 AND (host, port, sslmode, ca_certificate) IS DISTINCT FROM ($2, $3, $4, $5)";
    sqlx::query(sql).bind(id).bind(host).bind(i32::from(port)).bind(sslmode).bind(ca).execute(store).await.map(drop)
}

pub async fn set_state(tx: &mut PgConnection, id: &str, from: PoolerState, to: PoolerState) -> sqlx::Result<bool> {
    let sql = "UPDATE pooler SET state = $3 WHERE id = $1 AND state = $2";
    let done = sqlx::query(sql).bind(id).bind(from.as_str()).bind(to.as_str()).execute(tx).await?;
    Ok(done.rows_affected() == 1)
}

/// Everything of it is in a generation that is not there yet, also what could not be served before.
pub async fn ask_again(tx: &mut PgConnection, id: &str) -> sqlx::Result<bool> {
    let sql = "UPDATE tenant_database SET pooler_generation = NULL, pooled = false
        WHERE pooler_id = $1 AND pooler_entry IS NULL";
    sqlx::query(sql).bind(id).execute(&mut *tx).await?;
    let sql = "UPDATE pooler SET changed = true WHERE id = $1";
    Ok(sqlx::query(sql).bind(id).execute(tx).await?.rows_affected() == 1)
}

/// What is on its way out, and served by nobody any more, does not hold it.
pub async fn remove(tx: &mut PgConnection, id: &str) -> sqlx::Result<()> {
    let sql = "UPDATE tenant_database SET pooler_id = NULL WHERE pooler_id = $1 AND state = 'dropping'";
    sqlx::query(sql).bind(id).execute(&mut *tx).await?;
    sqlx::query("DELETE FROM pooler WHERE id = $1").bind(id).execute(tx).await.map(drop)
}

/// Locks its row. How many databases it has, stock included. None: there is no such pooler.
pub async fn lock_and_count(tx: &mut PgConnection, id: &str) -> sqlx::Result<Option<i64>> {
    let found = sqlx::query("SELECT id FROM pooler WHERE id = $1 FOR UPDATE").bind(id).fetch_optional(&mut *tx).await?;
    if found.is_none() {
        return Ok(None);
    }
    let sql = "SELECT count(*) FROM tenant_database WHERE pooler_id = $1 AND state <> 'dropping'";
    sqlx::query_scalar(sql).bind(id).fetch_one(tx).await.map(Some)
}

/// Whose a key is, seen from a pooler.
#[derive(Debug, sqlx::FromRow)]
pub struct Voice {
    pub is_external: bool,
    /// Nobody has one of his own there, or it is this one.
    pub is_own: bool,
    pub is_of_another: bool,
}

pub async fn voice(store: &PgPool, id: &str, key: Uuid) -> sqlx::Result<Option<Voice>> {
    let sql = "SELECT p.management = 'external' AS is_external, coalesce(v.key_id = $2, true) AS is_own,
            EXISTS (SELECT FROM pooler_service o WHERE o.key_id = $2 AND o.pooler_id <> p.id) AS is_of_another
        FROM pooler p LEFT JOIN pooler_service v ON v.pooler_id = p.id WHERE p.id = $1";
    sqlx::query_as(sql).bind(id).bind(key).fetch_optional(store).await
}

/// What an agent waits for.
#[derive(Debug, sqlx::FromRow)]
pub struct Look {
    pub generation: i64,
    /// Something is in no generation yet.
    pub marked: bool,
    /// Of the pauses that are wanted, to tell one list from another.
    pub pauses: Option<String>,
}

pub async fn look(store: &PgPool, id: &str) -> sqlx::Result<Option<Look>> {
    let sql = concat!(
        "SELECT p.generation, ",
        marked!(),
        " AS marked,
            (SELECT md5(string_agg(id::text, ' ' ORDER BY id)) FROM pooler_pause WHERE pooler_id = p.id AND ",
        open_pause!(),
        ") AS pauses
        FROM pooler p WHERE p.id = $1"
    );
    sqlx::query_as(sql).bind(id).fetch_optional(store).await
}

/// Poolers of which something is in no generation yet.
pub async fn marked(store: &PgPool) -> sqlx::Result<Vec<String>> {
    let sql = concat!("SELECT id FROM pooler p WHERE ", marked!(), " ORDER BY id");
    sqlx::query_scalar(sql).fetch_all(store).await
}

/// One database, as the pooler is to have it.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct EntryRow {
    pub entry: String,
    pub database: String,
    pub plan: String,
    pub host: String,
    pub port: i32,
    pub role: String,
    pub verifier: String,
    /// While its credential is rotated: the one that comes, the one that goes.
    pub beside: Json<Vec<Beside>>,
    /// Its tenant is suspended or deleted.
    pub refused: bool,
    /// Of its server's budget. None: all that its plan says.
    pub pooler_grant: Option<i32>,
    /// Its server has more databases than connections.
    pub crowded: bool,
}

#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
pub struct Beside {
    pub role: String,
    pub verifier: String,
    /// It is retired.
    pub refused: bool,
}

/// The generation, and what is in it or newer: read together.
pub async fn entries(store: &PgPool, id: &str) -> sqlx::Result<Option<(i64, Vec<EntryRow>)>> {
    let mut tx = store.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").execute(&mut *tx).await?;
    let generation = sqlx::query_scalar("SELECT generation FROM pooler WHERE id = $1").bind(id);
    let Some(generation) = generation.fetch_optional(&mut *tx).await? else { return Ok(None) };
    let sql = concat!(
        "SELECT d.pooler_entry AS entry, d.database, d.plan, s.tenant_host AS host, s.tenant_port AS port, l.role, l.verifier,
            coalesce(n.logins, '[]') AS beside,
            coalesce(t.state IN ('suspended', 'deleted'), false) AS refused, d.pooler_grant, coalesce(b.crowded, false) AS crowded
        FROM tenant_database d JOIN server s ON s.id = d.server_id
            JOIN login l ON l.database_id = d.id AND l.purpose = 'tenant' LEFT JOIN tenant t ON t.id = d.tenant_id
            LEFT JOIN server_budget b ON b.server_id = d.server_id
            LEFT JOIN (SELECT database_id, jsonb_agg(jsonb_build_object('role', role, 'verifier', verifier,
                    'refused', refused_at IS NOT NULL) ORDER BY role) AS logins
                FROM login WHERE purpose IN ('next', 'retiring') GROUP BY database_id) n ON n.database_id = d.id
        WHERE d.pooler_id = $1 AND d.pooler_entry IS NOT NULL AND ",
        served!(),
        " ORDER BY d.pooler_entry COLLATE \"C\""
    );
    let rows = sqlx::query_as(sql).bind(id).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    Ok(Some((generation, rows)))
}

/// What an agent said. Answers the generation that is wanted; None: there is no such pooler.
pub async fn record(store: &PgPool, id: &str, told: &PoolerReport) -> sqlx::Result<Option<i64>> {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let sql =
        "UPDATE pooler SET observed_generation = $2, observed_at = now(), error = $3, version = coalesce($4, version),
        reloads = $5, deaths = $6, repaired = $7, needs_restart = $8 WHERE id = $1 RETURNING generation";
    sqlx::query_scalar(sql)
        .bind(id)
        .bind(told.generation.map(count))
        .bind(&told.error)
        .bind(&told.version)
        .bind(count(told.reloads))
        .bind(count(told.deaths))
        .bind(count(told.repaired))
        .bind(&told.needs_restart)
        .fetch_optional(store)
        .await
}

/// The pooler has a generation that this store never wanted: the store is older than it was, restored from a backup. What
/// is in force there is nothing that is known here, so everything is marked, and the next generation is newer than both.
pub async fn surpass(store: &PgPool, id: &str, generation: i64) -> sqlx::Result<bool> {
    let mut tx = store.begin().await?;
    let sql = "UPDATE pooler SET generation = $2, changed = true WHERE id = $1 AND generation < $2";
    let is_older = sqlx::query(sql).bind(id).bind(generation).execute(&mut *tx).await?.rows_affected() == 1;
    if is_older {
        let sql = "UPDATE tenant_database SET pooler_generation = NULL, pooled = false WHERE pooler_id = $1";
        sqlx::query(sql).bind(id).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(is_older)
}

/// What is in this generation is seen now; stock that waited for it is ready. In a statement of its own: who changes a
/// database may hold its row, and wait for the pooler's.
pub async fn seen(store: &PgPool, id: &str, generation: i64) -> sqlx::Result<u64> {
    let sql = "WITH seen AS (
            SELECT id, state = 'building' AND pooling_since IS NOT NULL AND tenant_id IS NULL AS waits FROM tenant_database
            WHERE pooler_id = $1 AND NOT pooled AND pooler_generation <= $2 AND NOT EXISTS (SELECT FROM pooler_external x
                WHERE x.pooler_id = $1 AND jsonb_exists(x.withheld, pooler_entry)) FOR UPDATE)
        UPDATE tenant_database d SET pooled = true, state = CASE WHEN waits THEN 'ready' ELSE d.state END,
            ready_at = CASE WHEN waits THEN now() ELSE ready_at END, pooling_since = NULL
        FROM seen WHERE d.id = seen.id";
    Ok(sqlx::query(sql).bind(id).bind(generation).execute(store).await?.rows_affected())
}

/// Where a database stands with its pooler.
#[derive(Debug, sqlx::FromRow)]
pub struct Standing {
    pub pooler_id: Option<String>,
    pub pooled: bool,
    /// There are poolers that take databases.
    pub has_choice: bool,
    /// Its waiting was begun.
    pub waits: bool,
    /// What is to be served of it is part of a generation.
    pub raised: bool,
    /// Its pooler is heard of, and nothing hinders it.
    pub healthy: bool,
    /// It has waited for too long.
    pub over: bool,
}

pub async fn standing(store: &PgPool, database: Uuid, seconds: f64) -> sqlx::Result<Option<Standing>> {
    let sql = concat!(
        "SELECT d.pooler_id, d.pooled, d.pooling_since IS NOT NULL AS waits, d.pooler_generation IS NOT NULL AS raised,
            EXISTS (SELECT FROM pooler WHERE state = 'active') AS has_choice, coalesce(",
        healthy!(),
        ", false) AS healthy,
            coalesce(coalesce(t.purge_began_at, d.pooling_since) < now() - make_interval(secs => $2), false) AS over
        FROM tenant_database d LEFT JOIN pooler p ON p.id = d.pooler_id LEFT JOIN tenant t ON t.id = d.tenant_id
        WHERE d.id = $1"
    );
    sqlx::query_as(sql).bind(database).bind(seconds).fetch_optional(store).await
}

/// From now on it waits for its pooler.
pub async fn begin_pooling(store: &PgPool, database: Uuid) -> sqlx::Result<()> {
    let sql = "UPDATE tenant_database SET pooling_since = now() WHERE id = $1 AND pooling_since IS NULL";
    sqlx::query(sql).bind(database).execute(store).await.map(drop)
}

/// Of what the settings add to what is served: another one than before makes another generation.
pub async fn set_settings(store: &PgPool, fingerprint: &str) -> sqlx::Result<()> {
    let sql =
        "UPDATE pooler SET settings = $1, changed = changed OR settings IS NOT NULL WHERE settings IS DISTINCT FROM $1";
    sqlx::query(sql).bind(fingerprint).execute(store).await.map(drop)
}
