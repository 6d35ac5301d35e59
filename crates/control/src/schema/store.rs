//! All SQL about templates and what was built of them.

use freehold_api::template::{Files, Manifest, Template, TemplateInfo};
use jiff_sqlx::Timestamp;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, PgPool};

#[derive(sqlx::FromRow)]
pub struct TemplateRow {
    pub name: String,
    pub version: String,
    pub files: Json<Files>,
    pub stocked: bool,
}

#[derive(sqlx::FromRow)]
struct InfoRow {
    name: String,
    version: String,
    manifest: Json<Manifest>,
    files: Json<Files>,
    tenants: i64,
    created_at: Timestamp,
}

impl InfoRow {
    fn info(self) -> Option<TemplateInfo> {
        let template = Template::parse(self.name.parse().ok()?, self.files.0).ok()?;
        Some(TemplateInfo {
            name: template.name,
            version: self.version,
            manifest: self.manifest.0,
            migrations: template.migrations.into_iter().map(|(path, _)| path).collect(),
            has_claim: template.claim.is_some(),
            tenants: u64::try_from(self.tenants).unwrap_or(0),
            created_at: self.created_at.to_jiff(),
        })
    }
}

pub async fn current(store: &PgPool) -> sqlx::Result<Vec<TemplateRow>> {
    sqlx::query_as("SELECT name, version, files, stocked FROM template WHERE current").fetch_all(store).await
}

pub async fn version(store: &PgPool, name: &str, version: &str) -> sqlx::Result<Option<TemplateRow>> {
    let sql = "SELECT name, version, files, stocked FROM template WHERE name = $1 AND version = $2";
    sqlx::query_as(sql).bind(name).bind(version).fetch_optional(store).await
}

pub async fn page(store: &PgPool, after: Option<&str>, limit: i64) -> sqlx::Result<Vec<TemplateInfo>> {
    let sql = "SELECT t.*, (SELECT count(*) FROM tenant x WHERE x.template = t.name) AS tenants FROM template t
        WHERE current AND ($1::text IS NULL OR name > $1) ORDER BY name LIMIT $2";
    let rows: Vec<InfoRow> = sqlx::query_as(sql).bind(after).bind(limit).fetch_all(store).await?;
    Ok(rows.into_iter().filter_map(InfoRow::info).collect())
}

pub async fn info(store: &PgPool, name: &str) -> sqlx::Result<Option<TemplateInfo>> {
    let sql = "SELECT t.*, (SELECT count(*) FROM tenant x WHERE x.template = t.name) AS tenants FROM template t WHERE current AND name = $1";
    let row: Option<InfoRow> = sqlx::query_as(sql).bind(name).fetch_optional(store).await?;
    Ok(row.and_then(InfoRow::info))
}

/// Makes this version the current one. A version that was there before is made current again.
pub async fn put(tx: &mut PgConnection, template: &Template, stocked: bool, shipped: bool) -> sqlx::Result<()> {
    // Two that put the same name at once take turns.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('template:' || $1))")
        .bind(template.name.as_str())
        .execute(&mut *tx)
        .await?;
    // Once a template is used its next versions are stocked too.
    let sql = "SELECT coalesce(bool_or(stocked), false) FROM template WHERE name = $1 AND current";
    let was_stocked: bool = sqlx::query_scalar(sql).bind(template.name.as_str()).fetch_one(&mut *tx).await?;
    let stocked = stocked || was_stocked;
    sqlx::query("UPDATE template SET current = false WHERE name = $1 AND current AND version <> $2")
        .bind(template.name.as_str())
        .bind(&template.version)
        .execute(&mut *tx)
        .await?;
    let sql = "INSERT INTO template AS t (name, version, manifest, files, current, stocked, shipped) VALUES ($1, $2, $3, $4, true, $5, $6)
        ON CONFLICT (name, version) DO UPDATE SET current = true, stocked = t.stocked OR excluded.stocked, shipped = excluded.shipped";
    sqlx::query(sql)
        .bind(template.name.as_str())
        .bind(&template.version)
        .bind(Json(&template.manifest))
        .bind(Json(&template.files))
        .bind(stocked)
        .bind(shipped)
        .execute(tx)
        .await?;
    Ok(())
}

/// Whether somebody added a template of this name himself; the shipped one of the same name then stays back.
pub async fn is_owned(tx: &mut PgConnection, name: &str) -> sqlx::Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM template WHERE name = $1 AND current AND NOT shipped)";
    sqlx::query_scalar(sql).bind(name).fetch_one(tx).await
}

/// From its first use on, servers keep stock of it.
pub async fn begin_stocking(store: impl PgExecutor<'_>, name: &str) -> sqlx::Result<bool> {
    let sql = "UPDATE template SET stocked = true WHERE name = $1 AND current AND NOT stocked";
    Ok(sqlx::query(sql).bind(name).execute(store).await?.rows_affected() > 0)
}

/// One version on one server.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct BuildRow {
    pub server_id: String,
    pub name: String,
    pub version: String,
    pub database: String,
    pub owner: String,
    pub state: String,
    pub error: Option<String>,
    pub failures: i32,
    /// Whether the stock loop waits before it copies again.
    #[sqlx(default)]
    pub resting: bool,
    pub missing: Vec<String>,
}

pub async fn find_build(
    store: impl PgExecutor<'_>,
    server: &str,
    name: &str,
    version: &str,
) -> sqlx::Result<Option<BuildRow>> {
    let sql = "SELECT *, coalesce(retry_at > now(), false) AS resting FROM template_build
        WHERE server_id = $1 AND name = $2 AND version = $3";
    sqlx::query_as(sql).bind(server).bind(name).bind(version).fetch_optional(store).await
}

pub async fn builds_of(store: &PgPool, server: &str) -> sqlx::Result<Vec<BuildRow>> {
    let sql = "SELECT * FROM template_build WHERE server_id = $1 ORDER BY name, version";
    sqlx::query_as(sql).bind(server).fetch_all(store).await
}

/// Declares a build, or a failed one anew. False when it is being built, is ready, or is going.
pub async fn declare_build(tx: &mut PgConnection, build: &BuildRow) -> sqlx::Result<bool> {
    let sql = "INSERT INTO template_build AS b (server_id, name, version, database, owner, state) VALUES ($1, $2, $3, $4, $5, 'building')
        ON CONFLICT (server_id, name, version) DO UPDATE SET state = 'building', error = NULL WHERE b.state = 'failed'";
    let done = sqlx::query(sql)
        .bind(&build.server_id)
        .bind(&build.name)
        .bind(&build.version)
        .bind(&build.database)
        .bind(&build.owner)
        .execute(tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn build_ready(tx: &mut PgConnection, build: &BuildRow, missing: &[String]) -> sqlx::Result<()> {
    let sql = "UPDATE template_build SET state = 'ready', missing = $4, error = NULL
        WHERE server_id = $1 AND name = $2 AND version = $3 AND state = 'building'";
    sqlx::query(sql).bind(&build.server_id).bind(&build.name).bind(&build.version).bind(missing).execute(tx).await?;
    Ok(())
}

pub async fn build_failed(tx: &mut PgConnection, build: &BuildRow, error: &str) -> sqlx::Result<()> {
    let sql = "UPDATE template_build SET state = 'failed', error = $4 WHERE server_id = $1 AND name = $2 AND version = $3 AND state = 'building'";
    sqlx::query(sql).bind(&build.server_id).bind(&build.name).bind(&build.version).bind(error).execute(tx).await?;
    Ok(())
}

pub async fn begin_dropping(tx: &mut PgConnection, build: &BuildRow) -> sqlx::Result<bool> {
    let sql = "UPDATE template_build SET state = 'dropping' WHERE server_id = $1 AND name = $2 AND version = $3 AND state IN ('ready', 'failed', 'dropping')";
    let done = sqlx::query(sql).bind(&build.server_id).bind(&build.name).bind(&build.version).execute(tx).await?;
    Ok(done.rows_affected() == 1)
}

pub async fn forget_build(tx: &mut PgConnection, build: &BuildRow) -> sqlx::Result<()> {
    let sql = "DELETE FROM template_build WHERE server_id = $1 AND name = $2 AND version = $3 AND state = 'dropping'";
    sqlx::query(sql).bind(&build.server_id).bind(&build.name).bind(&build.version).execute(tx).await?;
    Ok(())
}

/// Builds of versions that are not current any more and that nothing is being copied from; also those whose removal
/// failed a minute ago and longer, so that it is begun again.
pub async fn outdated_builds(store: &PgPool) -> sqlx::Result<Vec<BuildRow>> {
    let sql =
        "SELECT b.* FROM template_build b JOIN template t USING (name, version) JOIN server s ON s.id = b.server_id
        WHERE NOT t.current AND s.state = 'active'
          AND (b.state IN ('ready', 'failed') OR b.state = 'dropping' AND NOT EXISTS (SELECT FROM operation o
              WHERE o.subject = 'template:' || b.server_id || ':' || b.name || ':' || left(b.version, 12)
                AND (o.state NOT IN ('succeeded', 'failed', 'cancelled') OR o.kind = 'template.retire' AND o.finished_at > now() - interval '1 minute')))
          AND NOT EXISTS (SELECT FROM tenant_database d WHERE d.server_id = b.server_id AND d.template = b.name
              AND d.template_version = b.version AND d.state = 'building')";
    sqlx::query_as(sql).fetch_all(store).await
}

/// Why a template cannot be built on a server; shown by `status`.
pub async fn failed_builds(store: &PgPool) -> sqlx::Result<Vec<BuildRow>> {
    let sql = "SELECT b.* FROM template_build b JOIN template t USING (name, version) WHERE t.current AND (b.state = 'failed' OR b.failures > 0) LIMIT 50";
    sqlx::query_as(sql).fetch_all(store).await
}

/// A copy was made: what failed before is over.
pub async fn copied(tx: &mut PgConnection, build: &BuildRow) -> sqlx::Result<()> {
    let sql = "UPDATE template_build SET failures = 0, retry_at = NULL
        WHERE server_id = $1 AND name = $2 AND version = $3 AND failures > 0";
    sqlx::query(sql).bind(&build.server_id).bind(&build.name).bind(&build.version).execute(tx).await?;
    Ok(())
}

/// A copy could not be made: the next try waits twice as long, five minutes at most.
pub async fn copy_failed(tx: &mut PgConnection, server: &str, name: &str, version: &str) -> sqlx::Result<()> {
    let sql = "UPDATE template_build SET failures = failures + 1,
            retry_at = now() + make_interval(secs => least(2 ^ least(failures, 10), 300))
        WHERE server_id = $1 AND name = $2 AND version = $3";
    sqlx::query(sql).bind(server).bind(name).bind(version).execute(tx).await?;
    Ok(())
}

/// Whoever adds a template again, or checks a server again, has mended something: failed builds are begun anew.
pub async fn retry_failed(tx: &mut PgConnection, server: Option<&str>, name: Option<&str>) -> sqlx::Result<()> {
    for sql in [
        "DELETE FROM template_build WHERE state = 'failed' AND ($1::text IS NULL OR server_id = $1) AND ($2::text IS NULL OR name = $2)",
        "UPDATE template_build SET retry_at = NULL WHERE ($1::text IS NULL OR server_id = $1) AND ($2::text IS NULL OR name = $2)",
    ] {
        sqlx::query(sql).bind(server).bind(name).execute(&mut *tx).await?;
    }
    Ok(())
}
