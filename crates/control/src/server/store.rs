//! All SQL about servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use freehold_api::id::ServerId;
use freehold_api::server::{Finding, Observed, Server, ServerHealth, ServerKind, ServerState};
use freehold_api::tenant::Labels;
use jiff_sqlx::Timestamp;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgExecutor, PgPool, Row};
use uuid::Uuid;

use super::again::Candidate;
use crate::server_pool::definition::Definition;

#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ServerRow {
    pub id: String,
    pub kind: String,
    pub state: String,
    pub health: String,
    pub health_message: Option<String>,
    pub checked_at: Option<Timestamp>,
    pub capacity: i32,
    pub region: Option<String>,
    pub dsn: String,
    pub dsn_sealed: Vec<u8>,
    pub dsn_seal_id: Uuid,
    pub dsn_version: i32,
    pub tenant_host: String,
    pub tenant_port: i32,
    pub tenant_sslmode: String,
    pub ca_certificate: Option<String>,
    pub version_num: Option<i32>,
    pub version: Option<String>,
    pub system_identifier: Option<String>,
    pub superuser: Option<bool>,
    pub extensions: Json<Value>,
    pub findings: Json<Vec<Finding>>,
    /// What health last saw; None is not known.
    pub size_bytes: Option<i64>,
    pub connections: Option<i32>,
    pub connections_max: Option<i32>,
    pub databases: Option<i32>,
    pub oldest_transaction_seconds: Option<f64>,
    pub xid_age: Option<i64>,
    pub replication_lag_bytes: Option<i64>,
    pub data_free_bytes: Option<i64>,
    pub data_total_bytes: Option<i64>,
    pub observed_at: Option<Timestamp>,
    /// What it was before health made it `failed`.
    pub state_before: Option<String>,
    pub health_code: Option<String>,
    pub health_findings: Json<Vec<Finding>>,
    pub truth_at: Option<Timestamp>,
    pub truth_error: Option<String>,
    pub labels: Json<Labels>,
    pub priority: i32,
    /// The pool it was made for, the platform it runs on, and what is asked of that. None: registered.
    pub pool: Option<String>,
    pub platform: Option<String>,
    pub definition: Option<Json<Definition>>,
    /// When it first let its admin in. None: nothing of anybody's was ever on it.
    pub provisioned_at: Option<Timestamp>,
    /// What it becomes again after maintenance, or when its removal comes to nothing.
    pub resume_to: Option<String>,
    pub created_at: Timestamp,
}

impl ServerRow {
    pub fn has_extension(&self, name: &str) -> bool {
        self.extensions.get(name).is_some()
    }
    pub fn kind(&self) -> ServerKind {
        match self.kind.as_str() {
            "dedicated" => ServerKind::Dedicated,
            "system" => ServerKind::System,
            _ => ServerKind::Shared,
        }
    }
    fn state(&self) -> ServerState {
        match self.state.as_str() {
            "provisioning" => ServerState::Provisioning,
            "active" => ServerState::Active,
            "cordoned" => ServerState::Cordoned,
            "draining" => ServerState::Draining,
            "maintenance" => ServerState::Maintenance,
            "removed" => ServerState::Removed,
            _ => ServerState::Failed,
        }
    }
    fn observed(&self) -> Option<Observed> {
        let at = self.observed_at?.to_jiff();
        let count = |seen: Option<i32>| seen.and_then(|seen| u32::try_from(seen).ok());
        let bytes = |seen: Option<i64>| seen.and_then(|seen| u64::try_from(seen).ok());
        Some(Observed {
            at,
            connections: count(self.connections),
            connections_max: count(self.connections_max),
            databases: count(self.databases),
            size_bytes: bytes(self.size_bytes),
            oldest_transaction_seconds: self.oldest_transaction_seconds,
            xid_age: bytes(self.xid_age),
            replication_lag_bytes: bytes(self.replication_lag_bytes),
            data_free_bytes: bytes(self.data_free_bytes),
            data_total_bytes: bytes(self.data_total_bytes),
        })
    }
    pub fn health(&self) -> ServerHealth {
        match self.health.as_str() {
            "healthy" => ServerHealth::Healthy,
            "degraded" => ServerHealth::Degraded,
            "unhealthy" => ServerHealth::Unhealthy,
            _ => ServerHealth::Unknown,
        }
    }
}

/// A server with what is on it. A clone shares the row.
#[derive(Debug, Clone)]
pub struct ServerWithUse {
    pub row: Arc<ServerRow>,
    pub tenants: i64,
    pub stock: i64,
    /// Slots that moves hold: of tenants that are about to come, and of those that left and may come back.
    pub moving: i64,
    /// Databases of any state: what the capacity bounds.
    pub used: i64,
    /// None also where nobody asked for it.
    pub operation: Option<Uuid>,
    /// Tenants that this process put there since it counted.
    pub placed: Arc<AtomicI64>,
}

impl FromRow<'_, PgRow> for ServerWithUse {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            row: Arc::new(ServerRow::from_row(row)?),
            tenants: row.try_get("tenants")?,
            stock: row.try_get("stock")?,
            moving: row.try_get("moving")?,
            used: row.try_get("used")?,
            operation: row.try_get("operation")?,
            placed: Arc::default(),
        })
    }
}

impl ServerWithUse {
    pub fn uncounted(row: ServerRow) -> Self {
        Self { row: Arc::new(row), tenants: 0, stock: 0, moving: 0, used: 0, operation: None, placed: Arc::default() }
    }

    /// Slots that are no other tenant's to take, as they were counted.
    pub fn taken(&self) -> i64 {
        self.tenants + self.moving
    }

    pub fn taken_by_now(&self) -> i64 {
        self.taken() + self.placed.load(Ordering::Relaxed)
    }
}

impl From<ServerWithUse> for Server {
    fn from(found: ServerWithUse) -> Self {
        let row = Arc::unwrap_or_clone(found.row);
        Self {
            kind: row.kind(),
            state: row.state(),
            health: row.health(),
            observed: row.observed(),
            has_room: row.state == "active" && found.used - found.stock < i64::from(row.capacity),
            id: row.id.parse().unwrap_or_else(|_| "unnamed".parse::<ServerId>().expect("a slug")),
            health_message: row.health_message,
            health_code: row.health_code,
            checked_at: row.checked_at.map(Timestamp::to_jiff),
            capacity: u32::try_from(row.capacity).unwrap_or(0),
            tenants: u32::try_from(found.tenants).unwrap_or(u32::MAX),
            stock: u32::try_from(found.stock).unwrap_or(u32::MAX),
            dsn: row.dsn,
            host: row.tenant_host,
            port: u16::try_from(row.tenant_port).unwrap_or(0),
            sslmode: row.tenant_sslmode,
            region: row.region,
            labels: row.labels.0,
            priority: row.priority,
            pool: row.pool.and_then(|pool| pool.parse().ok()),
            platform: row.platform,
            image: row.definition.as_ref().and_then(|definition| definition.image.clone()),
            limits: row.definition.map(|definition| definition.limits),
            postgres_version: row.version,
            findings: row.findings.0.into_iter().chain(row.health_findings.0).collect(),
            pooling: None,
            operation: found.operation.map(freehold_api::OperationId),
            created_at: row.created_at.to_jiff(),
        }
    }
}

macro_rules! with_use {
    ($tail:literal) => {
        concat!(
            "SELECT s.*, d.tenants, d.stock, d.moving, d.used,
                (SELECT o.id FROM operation o WHERE o.subject = 'server:' || s.id
                    AND o.state NOT IN ('succeeded', 'failed', 'cancelled')) AS operation
             FROM server s
             CROSS JOIN LATERAL (SELECT count(*) AS used, count(*) FILTER (WHERE state = 'ready') AS stock,
                    count(*) FILTER (WHERE state = 'moving') AS moving, count(tenant_id) AS tenants
                    FROM tenant_database WHERE server_id = s.id) d ",
            $tail
        )
    };
}

/// Of this state; all but those removed when none is named.
pub async fn page(
    store: &PgPool,
    state: Option<&str>,
    after: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<ServerWithUse>> {
    let sql = with_use!(
        "WHERE CASE WHEN $3::text IS NULL THEN s.state <> 'removed' ELSE s.state = $3 END
           AND ($1::text IS NULL OR s.id > $1) ORDER BY s.id LIMIT $2"
    );
    sqlx::query_as(sql).bind(after).bind(limit).bind(state).fetch_all(store).await
}

/// Of all servers, how many databases of which sort; those that have none are not among them. Reads every database's row.
pub async fn counts(store: impl PgExecutor<'_>) -> sqlx::Result<Vec<Counts>> {
    let sql = "SELECT server_id, count(*) AS used, count(*) FILTER (WHERE state = 'ready') AS stock,
            count(*) FILTER (WHERE state = 'moving') AS moving, count(tenant_id) AS tenants FROM tenant_database GROUP BY server_id";
    sqlx::query_as(sql).fetch_all(store).await
}

#[derive(Debug, sqlx::FromRow)]
pub struct Counts {
    pub server_id: String,
    pub used: i64,
    pub stock: i64,
    pub moving: i64,
    pub tenants: i64,
}

/// Which version of its row each server has: a row that was not written to keeps its own.
pub async fn versions(store: impl PgExecutor<'_>) -> sqlx::Result<Vec<(String, i64)>> {
    let sql = "SELECT id, xmin::text::bigint FROM server WHERE state <> 'removed' ORDER BY id";
    sqlx::query_as(sql).fetch_all(store).await
}

pub async fn rows(store: impl PgExecutor<'_>, ids: &[String]) -> sqlx::Result<Vec<ServerRow>> {
    sqlx::query_as("SELECT * FROM server WHERE id = ANY($1) AND state <> 'removed'").bind(ids).fetch_all(store).await
}

pub async fn all(store: impl PgExecutor<'_>) -> sqlx::Result<Vec<ServerRow>> {
    sqlx::query_as("SELECT * FROM server WHERE state <> 'removed' ORDER BY id").fetch_all(store).await
}

pub async fn find_with_use(store: &PgPool, id: &str) -> sqlx::Result<Option<ServerWithUse>> {
    sqlx::query_as(with_use!("WHERE s.id = $1")).bind(id).fetch_optional(store).await
}

/// Whatever its state. Until the transaction ends nobody is put there, and no other verb decides on what it is now.
pub async fn lock(tx: &mut PgConnection, id: &str) -> sqlx::Result<Option<ServerRow>> {
    sqlx::query_as("SELECT * FROM server WHERE id = $1 FOR UPDATE").bind(id).fetch_optional(tx).await
}

pub async fn find(store: impl PgExecutor<'_>, id: &str) -> sqlx::Result<Option<ServerRow>> {
    sqlx::query_as("SELECT * FROM server WHERE id = $1 AND state <> 'removed'").bind(id).fetch_optional(store).await
}

/// Everything that a new or again-registered server is declared to be.
pub struct Declared<'a> {
    pub id: &'a str,
    pub kind: &'a str,
    pub capacity: i32,
    pub region: Option<&'a str>,
    pub dsn: &'a str,
    pub dsn_sealed: &'a [u8],
    pub dsn_seal_id: Uuid,
    pub tenant_host: &'a str,
    pub tenant_port: i32,
    pub tenant_sslmode: &'a str,
    pub ca_certificate: Option<&'a str>,
}

/// False when a server of this id exists, in whatever state but `failed`, or removed with its data.
pub async fn declare(tx: &mut PgConnection, server: &Declared<'_>) -> sqlx::Result<bool> {
    let sql = "INSERT INTO server AS s (id, kind, state, capacity, region, dsn, dsn_sealed, dsn_seal_id,
            tenant_host, tenant_port, tenant_sslmode, ca_certificate)
        VALUES ($1, $2, 'provisioning', $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, state = 'provisioning', capacity = excluded.capacity,
            region = excluded.region, dsn = excluded.dsn, dsn_sealed = excluded.dsn_sealed, dsn_seal_id = excluded.dsn_seal_id,
            tenant_host = excluded.tenant_host, tenant_port = excluded.tenant_port,
            tenant_sslmode = excluded.tenant_sslmode, ca_certificate = excluded.ca_certificate,
            health = 'unknown', health_message = NULL, system_identifier = NULL, pool = NULL, platform = NULL, definition = NULL,
            port = NULL, purged_at = NULL, created_at = CASE WHEN s.state = 'removed' THEN now() ELSE s.created_at END
        WHERE s.platform IS NULL AND s.state = 'failed' AND s.state_before IS NULL
            OR s.state = 'removed' AND (s.platform IS NULL OR s.purged_at IS NOT NULL)";
    let done = sqlx::query(sql)
        .bind(server.id)
        .bind(server.kind)
        .bind(server.capacity)
        .bind(server.region)
        .bind(server.dsn)
        .bind(server.dsn_sealed)
        .bind(server.dsn_seal_id)
        .bind(server.tenant_host)
        .bind(server.tenant_port)
        .bind(server.tenant_sslmode)
        .bind(server.ca_certificate)
        .execute(tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// What a probe found out.
pub struct Facts {
    pub version_num: i32,
    pub version: String,
    pub system_identifier: String,
    pub superuser: bool,
    pub extensions: Value,
    pub findings: Vec<Finding>,
}

pub async fn record_facts(tx: &mut PgConnection, id: &str, facts: &Facts) -> sqlx::Result<()> {
    let sql =
        "UPDATE server SET version_num = $2, version = $3, system_identifier = nullif($4, ''), superuser = $5, extensions = $6,
        findings = $7, checked_at = now() WHERE id = $1";
    sqlx::query(sql)
        .bind(id)
        .bind(facts.version_num)
        .bind(&facts.version)
        .bind(&facts.system_identifier)
        .bind(facts.superuser)
        .bind(&facts.extensions)
        .bind(Json(&facts.findings))
        .execute(tx)
        .await?;
    Ok(())
}

/// Guarded: only from one of `from`. True when it was.
pub async fn set_state(
    tx: &mut PgConnection,
    id: &str,
    from: &[&str],
    to: &str,
    message: Option<&str>,
) -> sqlx::Result<bool> {
    let sql =
        "UPDATE server SET state = $3, health_message = coalesce($4, health_message) WHERE id = $1 AND state = ANY($2)";
    let done = sqlx::query(sql).bind(id).bind(from).bind(to).bind(message).execute(tx).await?;
    Ok(done.rows_affected() == 1)
}

pub async fn with_tenants(store: &PgPool) -> sqlx::Result<Vec<String>> {
    let sql = "SELECT DISTINCT server_id FROM tenant_database WHERE tenant_id IS NOT NULL";
    sqlx::query_scalar(sql).fetch_all(store).await
}

/// Takes the lock that makes the last slot go to one caller, and says how many slots are free; None when the server
/// takes nobody now. The weaker lock lets creates from stock pass, which only refer to the server.
pub async fn lock_free_slots(tx: &mut PgConnection, id: &str) -> sqlx::Result<Option<i64>> {
    let sql = "SELECT capacity FROM server WHERE id = $1 AND state = 'active' FOR NO KEY UPDATE";
    let locked: Option<(i32,)> = sqlx::query_as(sql).bind(id).fetch_optional(&mut *tx).await?;
    let Some((capacity,)) = locked else { return Ok(None) };
    let sql = "SELECT count(*) FROM tenant_database WHERE server_id = $1 AND state <> 'dropping'";
    let (used,): (i64,) = sqlx::query_as(sql).bind(id).fetch_one(tx).await?;
    Ok(Some(i64::from(capacity) - used))
}

/// The same server at another address, with another capacity.
#[expect(clippy::too_many_arguments, reason = "one caller, one statement")]
pub async fn relocate(
    store: &PgPool,
    id: &str,
    dsn: &str,
    sealed: &[u8],
    seal_id: Uuid,
    host: &str,
    port: u16,
    capacity: u32,
) -> sqlx::Result<()> {
    let sql = "UPDATE server SET dsn = $2, dsn_sealed = $3, dsn_seal_id = $4, dsn_version = 1, tenant_host = $5, tenant_port = $6,
        capacity = $7 WHERE id = $1";
    sqlx::query(sql)
        .bind(id)
        .bind(dsn)
        .bind(sealed)
        .bind(seal_id)
        .bind(host)
        .bind(i32::from(port))
        .bind(i32::try_from(capacity).unwrap_or(i32::MAX))
        .execute(store)
        .await?;
    Ok(())
}

/// It answered just now.
pub async fn answers(tx: &mut PgConnection, id: &str) -> sqlx::Result<()> {
    let sql = "UPDATE server SET health = 'healthy', health_message = NULL, health_failures = 0 WHERE id = $1";
    sqlx::query(sql).bind(id).execute(tx).await.map(drop)
}

/// The same server by another way, which was proven. Never one that Freehold runs: nobody else has its secret.
pub async fn redeclare(tx: &mut PgConnection, id: &str, way: &Candidate, sealed: &[u8]) -> sqlx::Result<()> {
    let sql = "UPDATE server SET dsn = $2, dsn_sealed = $3, dsn_seal_id = $4, dsn_version = 1, tenant_host = $5, tenant_port = $6,
        tenant_sslmode = $7, ca_certificate = coalesce($8, ca_certificate)
        WHERE id = $1 AND platform IS NULL AND state <> 'removed'";
    sqlx::query(sql)
        .bind(id)
        .bind(&way.dsn)
        .bind(sealed)
        .bind(way.dsn_seal_id)
        .bind(&way.tenant_host)
        .bind(way.tenant_port)
        .bind(&way.tenant_sslmode)
        .bind(&way.ca_certificate)
        .execute(tx)
        .await
        .map(drop)
}
