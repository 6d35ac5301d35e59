//! All SQL about databases on servers and their logins.

use jiff_sqlx::Timestamp;
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use crate::pooler::store::healthy;
use crate::tenant::connection::{Access, access};

mod making;

pub use making::making;

#[derive(Debug, Clone, sqlx::FromRow)]
pub struct DatabaseRow {
    pub id: Uuid,
    pub server_id: String,
    pub template: String,
    pub template_version: String,
    pub plan: String,
    pub state: String,
    pub tenant_id: Option<String>,
    pub database: String,
    pub owner: String,
    pub missing: Vec<String>,
}

#[derive(Debug, Clone, sqlx::FromRow)]
pub struct LoginRow {
    pub id: Uuid,
    pub database_id: Uuid,
    pub purpose: String,
    pub role: String,
    pub password: Vec<u8>,
    pub version: i32,
    pub verifier: String,
    /// Of a name by pattern that alternates: the one that it was made from.
    pub second_of: Option<String>,
    /// Nobody is to come in by it any more, whatever its tenant may.
    pub refused_at: Option<Timestamp>,
}

pub async fn find(store: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<DatabaseRow>> {
    sqlx::query_as("SELECT * FROM tenant_database WHERE id = $1").bind(id).fetch_optional(store).await
}

pub async fn find_of_tenant(store: impl PgExecutor<'_>, tenant: &str) -> sqlx::Result<Option<DatabaseRow>> {
    sqlx::query_as("SELECT * FROM tenant_database WHERE tenant_id = $1").bind(tenant).fetch_optional(store).await
}

/// Who owns what is in a database of this name.
pub async fn owner_of(store: &PgPool, server: &str, database: &str) -> sqlx::Result<Option<String>> {
    let sql = "SELECT owner FROM tenant_database WHERE server_id = $1 AND database = $2";
    sqlx::query_scalar(sql).bind(server).bind(database).fetch_optional(store).await
}

pub async fn logins(store: impl PgExecutor<'_>, database: Uuid) -> sqlx::Result<Vec<LoginRow>> {
    sqlx::query_as("SELECT * FROM login WHERE database_id = $1").bind(database).fetch_all(store).await
}

pub async fn insert(tx: &mut PgConnection, row: &DatabaseRow) -> sqlx::Result<()> {
    let sql = "INSERT INTO tenant_database (id, server_id, template, template_version, plan, state, tenant_id, database, owner, claimed_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, CASE WHEN $7::text IS NULL THEN NULL ELSE now() END)";
    sqlx::query(sql)
        .bind(row.id)
        .bind(&row.server_id)
        .bind(&row.template)
        .bind(&row.template_version)
        .bind(&row.plan)
        .bind(&row.state)
        .bind(&row.tenant_id)
        .bind(&row.database)
        .bind(&row.owner)
        .execute(tx)
        .await?;
    Ok(())
}

pub async fn insert_login(tx: &mut PgConnection, server: &str, login: &LoginRow) -> sqlx::Result<()> {
    let sql = "INSERT INTO login (id, database_id, server_id, purpose, role, password, version, verifier)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    sqlx::query(sql)
        .bind(login.id)
        .bind(login.database_id)
        .bind(server)
        .bind(&login.purpose)
        .bind(&login.role)
        .bind(&login.password)
        .bind(login.version)
        .bind(&login.verifier)
        .execute(tx)
        .await?;
    Ok(())
}

/// A claimed database, with the tenant's login.
#[derive(sqlx::FromRow)]
pub struct Claimed {
    pub id: Uuid,
    pub server_id: String,
    pub plan: String,
    pub missing: Vec<String>,
    /// As it is called now, which a pattern may change.
    #[sqlx(flatten)]
    pub access: Access,
}

/// Takes one ready database, of the most wanted server that has one; prefers one that carries the plan's limits.
/// Callers at the same time get different ones and do not wait for each other.
pub async fn claim(
    tx: &mut PgConnection,
    tenant: &str,
    template: &str,
    version: &str,
    plan: &str,
    servers: &[String],
) -> sqlx::Result<Option<Claimed>> {
    let sql = concat!(
        "WITH pick AS MATERIALIZED (
            SELECT d.id, d.pooler_id FROM tenant_database d JOIN server s ON s.id = d.server_id
            WHERE d.state = 'ready' AND d.template = $2 AND d.template_version = $3
              AND s.state = 'active' AND d.server_id = ANY($5)
            ORDER BY (d.plan = $4) DESC, array_position($5, d.server_id), d.pooled DESC, d.created_at DESC
            LIMIT 1 FOR UPDATE OF d SKIP LOCKED)
        UPDATE tenant_database d SET state = 'claimed', tenant_id = $1, claimed_at = now()
        FROM pick LEFT JOIN pooler p ON p.id = pick.pooler_id, login l, server s
        WHERE d.id = pick.id AND l.database_id = d.id AND l.purpose = 'tenant' AND s.id = d.server_id
        RETURNING d.id, d.server_id, d.plan, d.missing, l.id AS login, l.version, l.role, l.password, d.database, ",
        access!("d")
    );
    sqlx::query_as(sql).bind(tenant).bind(template).bind(version).bind(plan).bind(servers).fetch_optional(tx).await
}

/// The server whose ready database [`claim`] would take now.
pub async fn peek(
    store: &PgPool,
    template: &str,
    version: &str,
    plan: &str,
    servers: &[String],
) -> sqlx::Result<Option<String>> {
    let sql = "SELECT d.server_id FROM tenant_database d JOIN server s ON s.id = d.server_id
        WHERE d.state = 'ready' AND d.template = $1 AND d.template_version = $2 AND s.state = 'active' AND d.server_id = ANY($4)
        ORDER BY (d.plan = $3) DESC, array_position($4, d.server_id), d.pooled DESC, d.created_at DESC LIMIT 1";
    sqlx::query_scalar(sql).bind(template).bind(version).bind(plan).bind(servers).fetch_optional(store).await
}

/// Records the names that a claimed database and its login are going to have. A name that somebody has breaks a
/// constraint (`tenant_database_server_id_database_key`, `login_server_id_role_key`).
pub async fn set_names(tx: &mut PgConnection, database: Uuid, name: &str, login: Uuid, role: &str) -> sqlx::Result<()> {
    sqlx::query("UPDATE tenant_database SET database = $2 WHERE id = $1")
        .bind(database)
        .bind(name)
        .execute(&mut *tx)
        .await?;
    sqlx::query("UPDATE login SET role = $2 WHERE id = $1").bind(login).bind(role).execute(tx).await?;
    Ok(())
}

pub async fn set_plan(tx: &mut PgConnection, database: Uuid, plan: &str) -> sqlx::Result<()> {
    sqlx::query("UPDATE tenant_database SET plan = $2 WHERE id = $1").bind(database).bind(plan).execute(tx).await?;
    Ok(())
}

/// `building → ready`, or straight to `claimed` when it was made for a tenant. Where a pooler is there for it, stock is
/// ready once that serves it ([`crate::pooler::store::seen`]), or once that has taken too long ([`unpooled`]). True: it
/// waits for its pooler.
pub async fn made(tx: &mut PgConnection, database: Uuid, missing: &[String]) -> sqlx::Result<bool> {
    let sql = concat!(
        "UPDATE tenant_database d SET missing = $2, ready_at = CASE WHEN w.waits THEN NULL ELSE now() END,
            pooling_since = CASE WHEN w.waits THEN now() ELSE d.pooling_since END,
            state = CASE WHEN d.tenant_id IS NOT NULL THEN 'claimed' WHEN w.waits THEN 'building' ELSE 'ready' END
        FROM (SELECT b.id, b.tenant_id IS NULL AND s.tenant_host NOT LIKE '%,%'
                AND EXISTS (SELECT FROM pooler p WHERE p.state = 'active' AND ",
        healthy!(),
        ") AS waits FROM tenant_database b JOIN server s ON s.id = b.server_id) w
        WHERE d.id = $1 AND w.id = d.id AND d.state = 'building' AND d.pooling_since IS NULL
        RETURNING w.waits"
    );
    let waits: Option<bool> = sqlx::query_scalar(sql).bind(database).bind(missing).fetch_optional(tx).await?;
    Ok(waits.unwrap_or(false))
}

/// Stock that waited for its pooler in vain is as good as any: it is reached directly until the pooler has it.
pub async fn unpooled(store: &PgPool) -> sqlx::Result<()> {
    let sql = "UPDATE tenant_database SET state = 'ready', ready_at = now(), pooling_since = NULL
        WHERE NOT pooled AND state = 'building' AND tenant_id IS NULL AND pooling_since < now() - interval '3 seconds'";
    sqlx::query(sql).execute(store).await.map(drop)
}

/// Takes a database out of stock so that nobody claims it any more. False when somebody just did.
pub async fn begin_dropping(tx: &mut PgConnection, database: Uuid) -> sqlx::Result<bool> {
    let sql = "UPDATE tenant_database SET state = 'dropping' WHERE id = $1 AND tenant_id IS NULL AND state IN ('ready', 'building')";
    Ok(sqlx::query(sql).bind(database).execute(tx).await?.rows_affected() == 1)
}

pub async fn forget(tx: &mut PgConnection, database: Uuid) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM tenant_database WHERE id = $1").bind(database).execute(tx).await?;
    Ok(())
}

/// How much there is of each template's current version, per server, for the default plan and per other plan.
#[derive(Debug, sqlx::FromRow)]
pub struct Level {
    pub server_id: String,
    pub template: String,
    pub template_version: String,
    pub plan: String,
    pub ready: i64,
    pub building: i64,
    /// Made, and waiting for their pooler.
    pub pooling: i64,
}

pub async fn levels(store: &PgPool) -> sqlx::Result<Vec<Level>> {
    let sql = "SELECT server_id, template, template_version, plan, count(*) FILTER (WHERE state = 'ready') AS ready,
            count(*) FILTER (WHERE state = 'building' AND pooling_since IS NULL) AS building,
            count(*) FILTER (WHERE state = 'building' AND pooling_since IS NOT NULL) AS pooling
        FROM tenant_database WHERE tenant_id IS NULL AND state IN ('ready', 'building')
        GROUP BY server_id, template, template_version, plan";
    sqlx::query_as(sql).fetch_all(store).await
}

/// Stock of versions that are not current any more, and stock that was found bad.
pub async fn outdated(store: &PgPool) -> sqlx::Result<Vec<DatabaseRow>> {
    let sql = "SELECT d.* FROM tenant_database d JOIN server s ON s.id = d.server_id
        WHERE d.state = 'ready' AND s.state IN ('active', 'cordoned')
          AND NOT EXISTS (SELECT FROM template t WHERE t.name = d.template AND t.version = d.template_version AND t.current)
        ORDER BY d.created_at LIMIT 200";
    sqlx::query_as(sql).fetch_all(store).await
}

/// Claimed databases that do not say yet, inside, whom they belong to.
pub async fn unnoted(store: &PgPool, limit: i64) -> sqlx::Result<Vec<Uuid>> {
    let sql =
        "SELECT d.id FROM tenant_database d JOIN server s ON s.id = d.server_id JOIN tenant t ON t.id = d.tenant_id
        WHERE d.state = 'claimed' AND d.noted_at IS NULL AND s.state IN ('active', 'cordoned', 'draining')
          AND s.health <> 'unhealthy'
          AND t.state IN ('active', 'suspended', 'deleted')
        ORDER BY d.claimed_at LIMIT $1";
    sqlx::query_scalar(sql).bind(limit).fetch_all(store).await
}

pub async fn set_noted(store: impl PgExecutor<'_>, database: Uuid) -> sqlx::Result<()> {
    sqlx::query("UPDATE tenant_database SET noted_at = now() WHERE id = $1").bind(database).execute(store).await?;
    Ok(())
}

/// Databases of a server that are to be as they should, the longest unprobed first.
pub async fn of_server(store: &PgPool, server: &str, before: Timestamp) -> sqlx::Result<Vec<DatabaseRow>> {
    let sql = "SELECT * FROM tenant_database WHERE server_id = $1 AND state IN ('ready', 'claimed')
        AND greatest(ready_at, claimed_at) < $2 ORDER BY probed_at NULLS FIRST";
    sqlx::query_as(sql).bind(server).bind(before).fetch_all(store).await
}

pub async fn logins_of_server(store: &PgPool, server: &str) -> sqlx::Result<Vec<LoginRow>> {
    let sql = "SELECT l.* FROM login l JOIN tenant_database d ON d.id = l.database_id WHERE l.server_id = $1 AND d.state IN ('ready', 'claimed')";
    sqlx::query_as(sql).bind(server).fetch_all(store).await
}

/// What could not be repaired; empty where all is as it should be. Writes only what changed: a server holds thousands.
pub async fn record_drift(store: &PgPool, databases: &[Uuid], drift: &serde_json::Value) -> sqlx::Result<()> {
    let sql = "UPDATE tenant_database SET drift = $2, drift_since = CASE WHEN $2 = '[]' THEN NULL ELSE coalesce(drift_since, now()) END
        WHERE id = ANY($1) AND drift <> $2";
    sqlx::query(sql).bind(databases).bind(drift).execute(store).await?;
    Ok(())
}

/// These were logged in to.
pub async fn record_probed(store: &PgPool, databases: &[Uuid]) -> sqlx::Result<()> {
    let sql = "UPDATE tenant_database SET probed_at = now() WHERE id = ANY($1)";
    sqlx::query(sql).bind(databases).execute(store).await?;
    Ok(())
}

/// Takes one database out of a full server's stock, so that its slot is free: one that waits, else one that is being
/// built. The stock loop drops it. Waits for whoever has it in hand: what is passed over would be a tenant refused.
pub async fn displace(tx: &mut PgConnection, server: &str) -> sqlx::Result<bool> {
    let sql = "UPDATE tenant_database SET state = 'dropping' WHERE id =
        (SELECT id FROM tenant_database WHERE server_id = $1 AND tenant_id IS NULL AND state IN ('ready', 'building')
            ORDER BY state DESC, created_at LIMIT 1 FOR UPDATE)";
    Ok(sqlx::query(sql).bind(server).execute(tx).await?.rows_affected() == 1)
}

/// Databases on their way out whose drop has no operation yet.
pub async fn displaced(store: &PgPool) -> sqlx::Result<Vec<DatabaseRow>> {
    let sql = "SELECT d.* FROM tenant_database d WHERE d.state = 'dropping' AND d.tenant_id IS NULL
        AND NOT EXISTS (SELECT FROM operation o WHERE o.subject = 'database:' || d.id
            AND (o.state NOT IN ('succeeded', 'failed', 'cancelled') OR o.kind = 'stock.drop' AND o.finished_at > now() - interval '5 minutes'))
        LIMIT 200";
    sqlx::query_as(sql).fetch_all(store).await
}

/// Tenants of a server whose logins are to be refused, and those that an operation is working on.
pub struct RefusedTenants {
    pub refused: std::collections::BTreeSet<String>,
    pub in_flight: std::collections::BTreeSet<String>,
}

pub async fn refused_tenants(store: &PgPool, server: &str) -> sqlx::Result<RefusedTenants> {
    let sql = "SELECT t.id, t.state IN ('suspended', 'deleted') AS refused,
            EXISTS (SELECT FROM operation o WHERE o.subject = 'tenant:' || t.id AND o.state NOT IN ('succeeded', 'failed', 'cancelled')) AS busy
        FROM tenant t WHERE t.server_id = $1";
    let rows: Vec<(String, bool, bool)> = sqlx::query_as(sql).bind(server).fetch_all(store).await?;
    let take = |which: fn(&(String, bool, bool)) -> bool| {
        rows.iter().filter(|row| which(row)).map(|row| row.0.clone()).collect()
    };
    Ok(RefusedTenants { refused: take(|row| row.1), in_flight: take(|row| row.2) })
}

/// Whether a database was claimed or moved, has another plan, or its tenant changed state or is being changed, since the row was read.
pub async fn changed_since(store: &PgPool, row: &DatabaseRow) -> sqlx::Result<bool> {
    let sql = "SELECT NOT EXISTS (SELECT FROM tenant_database d LEFT JOIN tenant t ON t.id = d.tenant_id
        WHERE d.id = $1 AND d.state = $2 AND d.tenant_id IS NOT DISTINCT FROM $3 AND d.server_id = $4 AND d.plan = $5
          AND (t.id IS NULL OR t.state_since < now() - interval '5 seconds')
          AND NOT EXISTS (SELECT FROM operation o WHERE o.subject = 'tenant:' || d.tenant_id AND o.state NOT IN ('succeeded', 'failed', 'cancelled')))";
    sqlx::query_scalar(sql)
        .bind(row.id)
        .bind(&row.state)
        .bind(&row.tenant_id)
        .bind(&row.server_id)
        .bind(&row.plan)
        .fetch_one(store)
        .await
}

/// Whether a login is what it was when it was read: neither rotated nor retired since.
pub async fn is_still(store: &PgPool, login: &LoginRow) -> sqlx::Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM login WHERE id = $1 AND purpose = $2 AND role = $3 AND refused_at IS NOT DISTINCT FROM $4)";
    sqlx::query_scalar(sql)
        .bind(login.id)
        .bind(&login.purpose)
        .bind(&login.role)
        .bind(login.refused_at)
        .fetch_one(store)
        .await
}

/// The store's clock, which every process agrees on.
pub async fn now(store: &PgPool) -> sqlx::Result<Timestamp> {
    sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(store).await
}

/// Whether the logins of its tenant are to be refused as of now.
pub async fn is_refused(store: &PgPool, row: &DatabaseRow) -> sqlx::Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM tenant WHERE id = $1 AND state IN ('suspended', 'deleted'))";
    sqlx::query_scalar(sql).bind(&row.tenant_id).fetch_one(store).await
}
