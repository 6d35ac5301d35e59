//! All SQL about servers.

use freehold_api::id::ServerId;
use freehold_api::server::{Finding, Server, ServerHealth, ServerKind, ServerState};
use jiff_sqlx::Timestamp;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

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
    pub fn health(&self) -> ServerHealth {
        match self.health.as_str() {
            "healthy" => ServerHealth::Healthy,
            "degraded" => ServerHealth::Degraded,
            "unhealthy" => ServerHealth::Unhealthy,
            _ => ServerHealth::Unknown,
        }
    }
}

/// A server with what is on it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ServerWithUse {
    #[sqlx(flatten)]
    pub row: ServerRow,
    pub tenants: i64,
    pub stock: i64,
    /// Databases of any state: what the capacity bounds.
    pub used: i64,
    pub operation: Option<Uuid>,
}

impl From<ServerWithUse> for Server {
    fn from(found: ServerWithUse) -> Self {
        let row = found.row;
        Self {
            kind: row.kind(),
            state: row.state(),
            health: row.health(),
            has_room: row.state == "active" && found.used - found.stock < i64::from(row.capacity),
            id: row.id.parse().unwrap_or_else(|_| "unnamed".parse::<ServerId>().expect("a slug")),
            health_message: row.health_message,
            checked_at: row.checked_at.map(Timestamp::to_jiff),
            capacity: u32::try_from(row.capacity).unwrap_or(0),
            tenants: u32::try_from(found.tenants).unwrap_or(u32::MAX),
            stock: u32::try_from(found.stock).unwrap_or(u32::MAX),
            dsn: row.dsn,
            host: row.tenant_host,
            port: u16::try_from(row.tenant_port).unwrap_or(0),
            sslmode: row.tenant_sslmode,
            region: row.region,
            postgres_version: row.version,
            findings: row.findings.0,
            operation: found.operation.map(freehold_api::OperationId),
            created_at: row.created_at.to_jiff(),
        }
    }
}

macro_rules! with_use {
    ($tail:literal) => {
        concat!(
            "SELECT s.*, coalesce(d.tenants, 0) AS tenants, coalesce(d.stock, 0) AS stock, coalesce(d.used, 0) AS used,
                (SELECT o.id FROM operation o WHERE o.subject = 'server:' || s.id
                    AND o.state NOT IN ('succeeded', 'failed', 'cancelled')) AS operation
             FROM server s
             LEFT JOIN (SELECT server_id, count(*) AS used, count(*) FILTER (WHERE state = 'ready') AS stock,
                    count(tenant_id) AS tenants FROM tenant_database GROUP BY server_id) d ON d.server_id = s.id
             WHERE s.state <> 'removed' ",
            $tail
        )
    };
}

pub async fn all_with_use(store: impl PgExecutor<'_>) -> sqlx::Result<Vec<ServerWithUse>> {
    sqlx::query_as(with_use!("ORDER BY s.id")).fetch_all(store).await
}

pub async fn page(store: &PgPool, after: Option<&str>, limit: i64) -> sqlx::Result<Vec<ServerWithUse>> {
    let sql = with_use!("AND ($1::text IS NULL OR s.id > $1) ORDER BY s.id LIMIT $2");
    sqlx::query_as(sql).bind(after).bind(limit).fetch_all(store).await
}

pub async fn find_with_use(store: &PgPool, id: &str) -> sqlx::Result<Option<ServerWithUse>> {
    sqlx::query_as(with_use!("AND s.id = $1")).bind(id).fetch_optional(store).await
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

/// False when a server of this id exists, in whatever state but `failed`.
pub async fn declare(tx: &mut PgConnection, server: &Declared<'_>) -> sqlx::Result<bool> {
    let sql = "INSERT INTO server AS s (id, kind, state, capacity, region, dsn, dsn_sealed, dsn_seal_id,
            tenant_host, tenant_port, tenant_sslmode, ca_certificate)
        VALUES ($1, $2, 'provisioning', $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, state = 'provisioning', capacity = excluded.capacity,
            region = excluded.region, dsn = excluded.dsn, dsn_sealed = excluded.dsn_sealed, dsn_seal_id = excluded.dsn_seal_id,
            tenant_host = excluded.tenant_host, tenant_port = excluded.tenant_port,
            tenant_sslmode = excluded.tenant_sslmode, ca_certificate = excluded.ca_certificate,
            health = 'unknown', health_message = NULL, system_identifier = NULL
        WHERE s.state = 'failed'";
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

/// One failure is degraded, three in a row unhealthy; one success is healthy again.
pub async fn record_health(store: &PgPool, id: &str, failure: Option<&str>) -> sqlx::Result<()> {
    let sql = "UPDATE server SET checked_at = now(), health_message = $2,
            health_failures = CASE WHEN $2::text IS NULL THEN 0 ELSE health_failures + 1 END,
            health = CASE WHEN $2::text IS NULL THEN 'healthy' WHEN health_failures + 1 >= 3 THEN 'unhealthy' ELSE 'degraded' END
        WHERE id = $1";
    sqlx::query(sql).bind(id).bind(failure).execute(store).await?;
    Ok(())
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

/// What may change of a server that is registered: its secret, its certificate, its capacity.
pub async fn redeclare(tx: &mut PgConnection, server: &Declared<'_>, capacity: bool) -> sqlx::Result<()> {
    let sql = "UPDATE server SET dsn_sealed = $2, dsn_seal_id = $3, dsn_version = 1,
        ca_certificate = coalesce($4, ca_certificate), capacity = CASE WHEN $5 THEN $6 ELSE capacity END WHERE id = $1";
    sqlx::query(sql)
        .bind(server.id)
        .bind(server.dsn_sealed)
        .bind(server.dsn_seal_id)
        .bind(server.ca_certificate)
        .bind(capacity)
        .bind(server.capacity)
        .execute(tx)
        .await?;
    Ok(())
}
