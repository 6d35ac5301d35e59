//! All SQL about servers that are made for pools.

use std::collections::BTreeMap;

use freehold_api::tenant::Labels;
use jiff_sqlx::Timestamp;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use super::definition::Definition;
use crate::tenant::placement::pools::{Growth, Waiters};

/// Who waits for which pool, and which pools could not start a server a moment ago.
pub async fn growth(store: &PgPool, labels: &[String]) -> sqlx::Result<Growth> {
    let sql = "SELECT pool, plan, template, region, labels, count(*) FROM (
            SELECT waiting_for AS pool, coalesce(waiting_plan, plan) AS plan, template, region, coalesce((SELECT jsonb_object_agg(l.key, l.value) FROM tenant_label l
                WHERE l.tenant_id = t.id AND l.key = ANY($1)), '{}') AS labels
            FROM tenant t WHERE waiting_for IS NOT NULL) w GROUP BY pool, plan, template, region, labels";
    type Row = (String, String, String, Option<String>, Json<Labels>, i64);
    let rows: Vec<Row> = sqlx::query_as(sql).bind(labels).fetch_all(store).await?;
    let waiting = rows.into_iter().map(|(pool, plan, template, region, labels, count)| Waiters {
        pool,
        plan,
        template,
        region,
        labels: labels.0,
        count,
    });
    let waiting = waiting.collect();
    let sql = "SELECT pool, format('%s (%s)', coalesce(health_message, 'no reason recorded'), id) FROM server
        WHERE pool IS NOT NULL AND state = 'failed' AND provisioned_at IS NULL AND retry_at > now()";
    let resting: BTreeMap<String, String> = sqlx::query_as(sql).fetch_all(store).await?.into_iter().collect();
    Ok(Growth { waiting, resting })
}

/// When the pool tries again to make a server.
pub async fn retry_at(store: &PgPool, pool: &str) -> sqlx::Result<Option<Timestamp>> {
    let sql = "SELECT retry_at FROM server
        WHERE pool = $1 AND state = 'failed' AND provisioned_at IS NULL AND retry_at > now()";
    sqlx::query_scalar(sql).bind(pool).fetch_optional(store).await
}

/// One at a time decides which server, by which name and at which port.
pub async fn lock(tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('server_pool'))").execute(tx).await.map(drop)
}

/// The server that is being made for the pool.
pub async fn growing(tx: &mut PgConnection, pool: &str) -> sqlx::Result<Option<String>> {
    let sql = "SELECT id FROM server WHERE pool = $1 AND state = 'provisioning'";
    sqlx::query_scalar(sql).bind(pool).fetch_optional(tx).await
}

/// How many count towards the maximum.
pub async fn count(tx: &mut PgConnection, pool: &str) -> sqlx::Result<i64> {
    let sql = "SELECT count(*) FROM server
        WHERE pool = $1 AND state <> 'removed' AND (state <> 'failed' OR provisioned_at IS NOT NULL)";
    sqlx::query_scalar(sql).bind(pool).fetch_one(tx).await
}

/// One that never came into being, and was taken back: the next try goes by its name.
pub async fn failed(tx: &mut PgConnection, pool: &str) -> sqlx::Result<Option<String>> {
    let sql =
        "SELECT id FROM server WHERE pool = $1 AND state = 'failed' AND provisioned_at IS NULL ORDER BY id LIMIT 1";
    sqlx::query_scalar(sql).bind(pool).fetch_optional(tx).await
}

/// Names that were ever given, of removed servers too.
pub async fn names(tx: &mut PgConnection, prefix: &str) -> sqlx::Result<Vec<String>> {
    let sql = "SELECT id FROM server WHERE left(id, length($1)) = $1";
    sqlx::query_scalar(sql).bind(prefix).fetch_all(tx).await
}

pub async fn ports(tx: &mut PgConnection, platform: &str, but: &str) -> sqlx::Result<Vec<i32>> {
    let sql = "SELECT port FROM server WHERE platform = $1 AND id <> $2 AND port IS NOT NULL AND state <> 'removed'";
    sqlx::query_scalar(sql).bind(platform).bind(but).fetch_all(tx).await
}

/// What a server is declared to be before any of it is there.
pub struct Declared<'a> {
    pub id: &'a str,
    pub pool: &'a str,
    pub platform: &'a str,
    pub kind: &'a str,
    pub capacity: i32,
    pub region: Option<&'a str>,
    pub labels: &'a BTreeMap<String, String>,
    pub priority: i32,
    pub definition: &'a Definition,
    pub host: &'a str,
    pub port: u16,
    /// Of the platform's range.
    pub given_port: Option<u16>,
    /// Without a password, which is made later.
    pub dsn: &'a str,
    pub sslmode: &'a str,
}

/// False when the pool has one that is being made, or a server of this name is there.
pub async fn declare(tx: &mut PgConnection, server: &Declared<'_>) -> sqlx::Result<bool> {
    let sql = "INSERT INTO server AS s (id, kind, state, capacity, region, dsn, dsn_sealed, dsn_seal_id, tenant_host, tenant_port,
            tenant_sslmode, pool, platform, definition, generation, port, labels, priority)
        VALUES ($1, $2, 'provisioning', $3, $4, $5, '', $6, $7, $8, $9, $10, $11, $12, 1, $13, $14, $15)
        ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, state = 'provisioning', capacity = excluded.capacity,
            region = excluded.region, dsn = excluded.dsn, dsn_sealed = '', tenant_host = excluded.tenant_host,
            tenant_port = excluded.tenant_port, tenant_sslmode = excluded.tenant_sslmode, platform = excluded.platform,
            definition = excluded.definition, generation = s.generation + 1, port = excluded.port, labels = excluded.labels,
            priority = excluded.priority, health = 'unknown', health_message = NULL, health_failures = 0,
            system_identifier = NULL, version_num = NULL, version = NULL, retry_at = NULL
        WHERE s.state = 'failed' AND s.provisioned_at IS NULL AND s.pool = excluded.pool";
    let done = sqlx::query(sql)
        .bind(server.id)
        .bind(server.kind)
        .bind(server.capacity)
        .bind(server.region)
        .bind(server.dsn)
        .bind(Uuid::now_v7())
        .bind(server.host)
        .bind(i32::from(server.port))
        .bind(server.sslmode)
        .bind(server.pool)
        .bind(server.platform)
        .bind(Json(server.definition))
        .bind(server.given_port.map(i32::from))
        .bind(Json(server.labels))
        .bind(server.priority)
        .execute(tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// What is asked of the platform, with what only the server may read.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ManagedRow {
    pub id: String,
    pub platform: String,
    pub pool: String,
    pub state: String,
    pub generation: i64,
    pub definition: Json<Definition>,
    pub port: Option<i32>,
    pub tenant_host: String,
    pub tenant_sslmode: String,
    pub dsn_seal_id: Uuid,
    pub admin_verifier: Option<String>,
    pub certificate: Option<String>,
    pub certificate_key_sealed: Option<Vec<u8>>,
    pub certificate_until: Option<Timestamp>,
    pub provisioned_at: Option<Timestamp>,
    pub resume_to: Option<String>,
}

/// None for a server that was registered, or is removed.
pub async fn find(store: impl PgExecutor<'_>, id: &str) -> sqlx::Result<Option<ManagedRow>> {
    let sql = "SELECT * FROM server WHERE id = $1 AND platform IS NOT NULL";
    sqlx::query_as(sql).bind(id).fetch_optional(store).await
}

/// What was made up for a server: sealed before any of it is used.
pub struct Secrets<'a> {
    pub dsn_sealed: &'a [u8],
    pub seal_id: Uuid,
    pub admin_verifier: &'a str,
    pub ca_certificate: Option<&'a str>,
    pub certificate: Option<&'a str>,
    pub certificate_key_sealed: Option<&'a [u8]>,
    pub certificate_until: Option<Timestamp>,
}

pub async fn set_secrets(tx: &mut PgConnection, id: &str, secrets: &Secrets<'_>) -> sqlx::Result<()> {
    let sql = "UPDATE server SET dsn_sealed = $2, dsn_seal_id = $3, dsn_version = 1, admin_verifier = $4, ca_certificate = $5,
        certificate = $6, certificate_key_sealed = $7, certificate_until = $8 WHERE id = $1 AND state = 'provisioning'";
    sqlx::query(sql)
        .bind(id)
        .bind(secrets.dsn_sealed)
        .bind(secrets.seal_id)
        .bind(secrets.admin_verifier)
        .bind(secrets.ca_certificate)
        .bind(secrets.certificate)
        .bind(secrets.certificate_key_sealed)
        .bind(secrets.certificate_until)
        .execute(tx)
        .await?;
    Ok(())
}

pub async fn set_certificate(
    tx: &mut PgConnection,
    id: &str,
    authority: &str,
    certificate: &str,
    key_sealed: &[u8],
    until: Timestamp,
) -> sqlx::Result<()> {
    let sql = "UPDATE server SET ca_certificate = $2, certificate = $3, certificate_key_sealed = $4, certificate_until = $5 WHERE id = $1";
    sqlx::query(sql).bind(id).bind(authority).bind(certificate).bind(key_sealed).bind(until).execute(tx).await?;
    Ok(())
}

/// Another port, with the connection string that names it.
pub async fn set_port(
    tx: &mut PgConnection,
    id: &str,
    port: u16,
    dsn: &str,
    sealed: &[u8],
    version: i32,
) -> sqlx::Result<()> {
    let sql = "UPDATE server SET port = $2, tenant_port = $2, dsn = $3, dsn_sealed = $4, dsn_version = $5, generation = generation + 1
        WHERE id = $1 AND state = 'provisioning'";
    sqlx::query(sql).bind(id).bind(i32::from(port)).bind(dsn).bind(sealed).bind(version).execute(tx).await?;
    Ok(())
}

/// `provisioning → active`, for the first time.
pub async fn activate(tx: &mut PgConnection, id: &str) -> sqlx::Result<bool> {
    let sql = "UPDATE server SET state = 'active', provisioned_at = now(), health = 'healthy', health_message = NULL,
        health_failures = 0, failures = 0, retry_at = NULL WHERE id = $1 AND state = 'provisioning'";
    Ok(sqlx::query(sql).bind(id).execute(tx).await?.rows_affected() == 1)
}

/// `provisioning → failed`; the next try waits twice as long as the one before, an hour at most.
pub async fn fail(tx: &mut PgConnection, id: &str, reason: &str) -> sqlx::Result<bool> {
    let sql = "UPDATE server SET state = 'failed', health_message = $2, failures = failures + 1,
        retry_at = now() + make_interval(secs => least(30 * 2 ^ least(failures, 8), 3600))
        WHERE id = $1 AND state = 'provisioning'";
    let failed = sqlx::query(sql).bind(id).bind(reason).execute(&mut *tx).await?.rows_affected() == 1;
    sqlx::query("DELETE FROM visitor WHERE server_id = $1").bind(id).execute(tx).await?;
    Ok(failed)
}

/// A name that something else has on the platform is not tried again.
pub async fn give_up_name(tx: &mut PgConnection, id: &str, reason: &str) -> sqlx::Result<()> {
    let sql = "UPDATE server SET state = 'removed', purged_at = now(), health_message = $2 WHERE id = $1 AND state = 'provisioning'";
    sqlx::query(sql).bind(id).bind(reason).execute(tx).await.map(drop)
}

/// The authority that vouches for managed servers: certificate, sealed key, and what it is sealed with.
pub async fn authority(store: impl PgExecutor<'_>) -> sqlx::Result<Option<(Uuid, String, Vec<u8>)>> {
    let sql = "SELECT id, certificate, key_sealed FROM certificate_authority WHERE retired_at IS NULL";
    sqlx::query_as(sql).fetch_optional(store).await
}

/// Whoever comes first has made it.
pub async fn put_authority(store: &PgPool, id: Uuid, certificate: &str, key_sealed: &[u8]) -> sqlx::Result<()> {
    let sql = "INSERT INTO certificate_authority (id, certificate, key_sealed) VALUES ($1, $2, $3)
        ON CONFLICT ((true)) WHERE retired_at IS NULL DO NOTHING";
    sqlx::query(sql).bind(id).bind(certificate).bind(key_sealed).execute(store).await.map(drop)
}

/// Tenants that live there, in whatever state, that move there, or whose former side is still kept there.
pub async fn tenants(tx: &mut PgConnection, id: &str) -> sqlx::Result<i64> {
    // Waits for creates that are about to be there, and lets no other begin.
    sqlx::query("SELECT id FROM server WHERE id = $1 FOR UPDATE").bind(id).execute(&mut *tx).await?;
    let sql =
        "SELECT count(*) FROM tenant_database WHERE server_id = $1 AND (tenant_id IS NOT NULL OR state = 'moving')";
    sqlx::query_scalar(sql).bind(id).fetch_one(tx).await
}

/// Of those, the ones that live elsewhere.
pub async fn moving(tx: &mut PgConnection, id: &str) -> sqlx::Result<i64> {
    let sql = "SELECT count(*) FROM tenant_database WHERE server_id = $1 AND state = 'moving'";
    sqlx::query_scalar(sql).bind(id).fetch_one(tx).await
}

/// `→ draining`, from whatever it is.
pub async fn begin_removing(tx: &mut PgConnection, id: &str) -> sqlx::Result<()> {
    let sql = "UPDATE server SET resume_to = CASE WHEN state IN ('active', 'cordoned', 'failed') THEN state ELSE coalesce(resume_to, 'active') END,
        state = 'draining' WHERE id = $1 AND state <> 'removed'";
    sqlx::query(sql).bind(id).execute(tx).await.map(drop)
}

pub async fn begin_maintenance(tx: &mut PgConnection, id: &str) -> sqlx::Result<bool> {
    let sql =
        "UPDATE server SET resume_to = state, state = 'maintenance' WHERE id = $1 AND state IN ('active', 'cordoned')";
    Ok(sqlx::query(sql).bind(id).execute(tx).await?.rows_affected() == 1)
}

/// What it shall be from now on; nobody is put there until it is. One that had failed is active once it is.
pub async fn begin_updating(tx: &mut PgConnection, id: &str, definition: &Definition) -> sqlx::Result<()> {
    let sql = "UPDATE server SET definition = $2, generation = generation + 1, state_before = NULL,
            resume_to = CASE state WHEN 'cordoned' THEN 'cordoned' WHEN 'maintenance' THEN resume_to ELSE 'active' END,
            state = 'maintenance' WHERE id = $1";
    sqlx::query(sql).bind(id).bind(Json(definition)).execute(tx).await.map(drop)
}

pub async fn revert(tx: &mut PgConnection, id: &str, definition: &Definition) -> sqlx::Result<()> {
    let sql = "UPDATE server SET definition = $2, generation = generation + 1 WHERE id = $1 AND definition <> $2";
    sqlx::query(sql).bind(id).bind(Json(definition)).execute(tx).await.map(drop)
}

/// Back to what it was before maintenance, an update, or a removal that came to nothing.
pub async fn resume(tx: &mut PgConnection, id: &str, from: &[&str]) -> sqlx::Result<bool> {
    // Where health has found it failed meanwhile, it becomes that once it answers.
    let sql = "UPDATE server SET state = CASE WHEN state = 'failed' THEN state ELSE coalesce(resume_to, 'active') END,
            state_before = CASE WHEN state = 'failed' THEN coalesce(nullif(resume_to, 'failed'), 'active') ELSE state_before END,
            resume_to = NULL
        WHERE id = $1 AND (state = ANY($2) OR state = 'failed' AND state_before = ANY($2))";
    Ok(sqlx::query(sql).bind(id).bind(from).execute(tx).await?.rows_affected() == 1)
}

/// `draining → removed`; also from `failed`, which health may have found it to be meanwhile.
pub async fn removed(tx: &mut PgConnection, id: &str) -> sqlx::Result<bool> {
    let sql = "UPDATE server SET state = 'removed', resume_to = NULL, state_before = NULL, retry_at = NULL,
            purged_at = CASE WHEN platform IS NOT NULL AND provisioned_at IS NULL THEN now() END
        WHERE id = $1 AND state IN ('draining', 'failed')";
    let removed = sqlx::query(sql).bind(id).execute(&mut *tx).await?.rows_affected() == 1;
    // Health may have looked once more.
    sqlx::query("DELETE FROM visitor WHERE server_id = $1").bind(id).execute(tx).await?;
    Ok(removed)
}

pub async fn purged(tx: &mut PgConnection, id: &str) -> sqlx::Result<()> {
    let sql = "UPDATE server SET purged_at = coalesce(purged_at, now()) WHERE id = $1 AND state = 'removed'";
    sqlx::query(sql).bind(id).execute(tx).await.map(drop)
}

/// Stock, built templates and the login of health: rows of what is gone with the server, or was taken away.
pub async fn forget_unowned(tx: &mut PgConnection, id: &str) -> sqlx::Result<()> {
    for sql in [
        "DELETE FROM tenant_database WHERE server_id = $1 AND tenant_id IS NULL AND state <> 'moving'",
        "DELETE FROM template_build WHERE server_id = $1",
        "DELETE FROM visitor WHERE server_id = $1",
    ] {
        sqlx::query(sql).bind(id).execute(&mut *tx).await?;
    }
    Ok(())
}

pub async fn unowned(store: &PgPool, id: &str) -> sqlx::Result<Vec<Uuid>> {
    let sql = "SELECT id FROM tenant_database WHERE server_id = $1 AND tenant_id IS NULL AND state <> 'moving' ORDER BY created_at";
    sqlx::query_scalar(sql).bind(id).fetch_all(store).await
}

/// Operations at work on a server's stock and templates.
pub async fn in_flight(store: &PgPool, id: &str) -> sqlx::Result<Vec<(Uuid, String)>> {
    let sql = "SELECT o.id, o.kind FROM operation o WHERE o.state NOT IN ('succeeded', 'failed', 'cancelled')
          AND (o.subject LIKE 'template:' || $1 || ':%'
            OR o.subject IN (SELECT 'database:' || d.id FROM tenant_database d WHERE d.server_id = $1 AND d.tenant_id IS NULL))
        ORDER BY o.id";
    sqlx::query_as(sql).bind(id).fetch_all(store).await
}

/// A lower one makes stock give way at once.
pub async fn set_capacity(tx: &mut PgConnection, id: &str, capacity: i32) -> sqlx::Result<()> {
    sqlx::query("UPDATE server SET capacity = $2 WHERE id = $1").bind(id).bind(capacity).execute(&mut *tx).await?;
    let sql = "UPDATE tenant_database SET state = 'dropping' WHERE id IN (
            SELECT id FROM tenant_database WHERE server_id = $1 AND state = 'ready' ORDER BY created_at
            LIMIT greatest(0, (SELECT count(*) FROM tenant_database WHERE server_id = $1 AND state <> 'dropping') - $2)
            FOR UPDATE SKIP LOCKED)";
    sqlx::query(sql).bind(id).bind(capacity).execute(tx).await.map(drop)
}

pub async fn set_priority(tx: &mut PgConnection, id: &str, priority: i32) -> sqlx::Result<()> {
    sqlx::query("UPDATE server SET priority = $2 WHERE id = $1").bind(id).bind(priority).execute(tx).await.map(drop)
}

pub async fn set_labels(tx: &mut PgConnection, id: &str, labels: &BTreeMap<String, String>) -> sqlx::Result<()> {
    sqlx::query("UPDATE server SET labels = $2 WHERE id = $1").bind(id).bind(Json(labels)).execute(tx).await.map(drop)
}

/// Managed servers whose certificate ends within half a year, and in how many days.
pub async fn certificates_ending(store: &PgPool) -> sqlx::Result<Vec<(String, i64)>> {
    let sql = "SELECT id, (extract(epoch FROM certificate_until - now()) / 86400)::bigint FROM server
        WHERE state <> 'removed' AND certificate_until < now() + interval '180 days' ORDER BY id LIMIT 50";
    sqlx::query_as(sql).fetch_all(store).await
}

/// Managed servers that failed so many seconds ago, have no tenants, and that nobody is at work on.
pub async fn failed_long_ago(store: &PgPool, seconds: u64) -> sqlx::Result<Vec<String>> {
    let sql = "SELECT s.id FROM server s WHERE s.platform IS NOT NULL AND s.state = 'failed'
          AND s.state_since < now() - make_interval(secs => $1)
          AND NOT EXISTS (SELECT FROM tenant_database d WHERE d.server_id = s.id AND (d.tenant_id IS NOT NULL OR d.state = 'moving'))
          AND NOT EXISTS (SELECT FROM operation o WHERE o.subject = 'server:' || s.id
              AND (o.state NOT IN ('succeeded', 'failed', 'cancelled') OR o.kind = 'server.remove' AND o.finished_at > now() - interval '1 hour'))
        ORDER BY s.id LIMIT 20";
    sqlx::query_scalar(sql).bind(seconds as f64).fetch_all(store).await
}
