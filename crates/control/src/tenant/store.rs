//! All SQL about tenants.

use freehold_api::OperationId;
use freehold_api::plan_change::PlanChange;
use freehold_api::tenant::{CreateTenant, Labels, PatchTenant, RetiringLogin, Tenant, TenantState};
use jiff_sqlx::Timestamp;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use crate::http::idempotency::Once;
use crate::server_pool::wait::Awaited;

#[derive(Debug, Clone, sqlx::FromRow)]
pub struct TenantRow {
    pub id: String,
    pub name: String,
    pub plan: String,
    pub region: Option<String>,
    pub template: String,
    pub template_version: Option<String>,
    pub state: String,
    pub state_since: Timestamp,
    pub state_reason: Option<String>,
    pub state_before: Option<String>,
    pub server_id: Option<String>,
    pub deletion_protection: bool,
    pub deleted_at: Option<Timestamp>,
    pub purge_at: Option<Timestamp>,
    /// From then on there is no way back.
    pub purge_began_at: Option<Timestamp>,
    pub missing_extensions: Vec<String>,
    pub revision: i64,
    pub created_by: Option<Uuid>,
    pub created_once: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub labels: Json<Labels>,
    pub operation: Option<Uuid>,
    /// The login of before, until its grace is over.
    #[sqlx(default)]
    pub retiring: Option<Json<RetiringLogin>>,
    /// Another plan, until its time.
    #[sqlx(default)]
    pub plan_change: Option<Json<PlanChange>>,
    /// The pool whose next server it waits for.
    pub waiting_for: Option<String>,
}

/// Whose request makes a tenant, and which of his.
#[derive(Debug, Clone, Default)]
pub struct By {
    /// The API key; None: no key of anybody's.
    pub key: Option<Uuid>,
    pub once: Once,
}

impl By {
    /// Whether this is the very request that made the tenant, come again because its first answer was lost.
    pub fn made(&self, row: &TenantRow) -> bool {
        let same = self.key.is_some() && self.key == row.created_by;
        same && self.once.repeated && self.once.key.is_some() && self.once.key == row.created_once
    }
}

impl TenantRow {
    pub fn state(&self) -> TenantState {
        match self.state.as_str() {
            "creating" => TenantState::Creating,
            "active" => TenantState::Active,
            "suspended" => TenantState::Suspended,
            "deleted" => TenantState::Deleted,
            _ => TenantState::Failed,
        }
    }

    pub fn etag(&self) -> String {
        format!("\"{}\"", self.revision)
    }
}

impl From<TenantRow> for Tenant {
    fn from(row: TenantRow) -> Self {
        // What is in the store was parsed when it came in; a hand-made row that was not shows as itself or not at all.
        let slug = |text: &str| text.parse().ok();
        Self {
            state: row.state(),
            id: slug(&row.id).unwrap_or_else(|| "invalid".parse().expect("a slug")),
            name: row.name,
            plan: row.plan.parse().unwrap_or_else(|_| "invalid".parse().expect("a slug")),
            region: row.region,
            template: row.template.parse().unwrap_or_else(|_| "invalid".parse().expect("a slug")),
            template_version: row.template_version.map(|version| version.chars().take(12).collect()),
            labels: row.labels.0,
            state_since: row.state_since.to_jiff(),
            state_reason: row.state_reason,
            server: row.server_id.and_then(|id| id.parse().ok()),
            deletion_protection: row.deletion_protection,
            deleted_at: row.deleted_at.map(Timestamp::to_jiff),
            purge_at: row.purge_at.map(Timestamp::to_jiff),
            missing_extensions: row.missing_extensions,
            usage: None,
            movability: None,
            operation: row.operation.map(OperationId),
            retiring: row.retiring.map(|retiring| retiring.0),
            plan_change: row.plan_change.map(|change| change.0),
            created_at: row.created_at.to_jiff(),
            updated_at: row.updated_at.to_jiff(),
        }
    }
}

/// What `TenantRow` is read from; the lists add their filters.
macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT t.*, coalesce((SELECT jsonb_object_agg(l.key, l.value) FROM tenant_label l WHERE l.tenant_id = t.id), '{}') AS labels,
                (SELECT o.id FROM operation o WHERE o.subject = 'tenant:' || t.id
                    AND o.state NOT IN ('succeeded', 'failed', 'cancelled')) AS operation,
                (SELECT jsonb_build_object('user', l.role, 'until', l.retire_at) FROM tenant_database d
                    JOIN login l ON l.database_id = d.id AND l.purpose = 'retiring' WHERE d.tenant_id = t.id) AS retiring,
                (SELECT jsonb_build_object('plan', c.plan, 'step', c.step, 'at', c.due_at, 'requested_at', c.requested_at,
                    'operation', c.operation, 'waits', CASE WHEN c.waits_code IS NOT NULL THEN jsonb_build_object(
                        'code', c.waits_code, 'message', c.waits_message, 'until', c.retry_at) END)
                    FROM plan_change c WHERE c.tenant_id = t.id) AS plan_change
             FROM tenant t ",
            $tail
        )
    };
}
pub(super) use select;

pub async fn find(store: impl PgExecutor<'_>, id: &str) -> sqlx::Result<Option<TenantRow>> {
    sqlx::query_as(select!("WHERE t.id = $1")).bind(id).fetch_optional(store).await
}

/// Locks the row until the transaction ends, so that two verbs do not decide on the same state.
pub async fn lock(tx: &mut PgConnection, id: &str) -> sqlx::Result<Option<TenantRow>> {
    sqlx::query_as(select!("WHERE t.id = $1 FOR UPDATE OF t")).bind(id).fetch_optional(tx).await
}

/// A new tenant, not placed yet. False when the id is taken; waits for a rival that is not decided yet.
pub async fn insert(
    tx: &mut PgConnection,
    body: &CreateTenant,
    plan: &str,
    template: &str,
    by: &By,
) -> sqlx::Result<bool> {
    let sql =
        "INSERT INTO tenant (id, name, plan, region, template, state, deletion_protection, created_by, created_once)
        VALUES ($1, $2, $3, $4, $5, 'creating', $6, $7, $8) ON CONFLICT (id) DO NOTHING";
    let done = sqlx::query(sql)
        .bind(body.id.as_str())
        .bind(body.name.as_deref().unwrap_or(body.id.as_str()))
        .bind(plan)
        .bind(&body.region)
        .bind(template)
        .bind(body.deletion_protection.unwrap_or(false))
        .bind(by.key)
        .bind(&by.once.key)
        .execute(&mut *tx)
        .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    if let Some(labels) = &body.labels {
        set_labels(tx, body.id.as_str(), labels).await?;
    }
    Ok(true)
}

/// `failed → creating`, with what the new request says.
pub async fn begin_again(
    tx: &mut PgConnection,
    body: &CreateTenant,
    plan: &str,
    template: &str,
    by: &By,
) -> sqlx::Result<()> {
    let sql = "UPDATE tenant SET name = $2, plan = $3, region = $4, template = $5, deletion_protection = $6, state = 'creating',
        created_by = $7, created_once = $8,
        state_since = now(), state_reason = NULL, server_id = NULL, template_version = NULL, missing_extensions = '{}',
        revision = revision + 1, updated_at = now() WHERE id = $1 AND state = 'failed'";
    sqlx::query(sql)
        .bind(body.id.as_str())
        .bind(body.name.as_deref().unwrap_or(body.id.as_str()))
        .bind(plan)
        .bind(&body.region)
        .bind(template)
        .bind(body.deletion_protection.unwrap_or(false))
        .bind(by.key)
        .bind(&by.once.key)
        .execute(&mut *tx)
        .await?;
    sqlx::query("DELETE FROM tenant_label WHERE tenant_id = $1").bind(body.id.as_str()).execute(&mut *tx).await?;
    if let Some(labels) = &body.labels {
        set_labels(tx, body.id.as_str(), labels).await?;
    }
    Ok(())
}

pub async fn set_labels(tx: &mut PgConnection, id: &str, labels: &Labels) -> sqlx::Result<()> {
    if labels.is_empty() {
        return Ok(());
    }
    let (keys, values): (Vec<&str>, Vec<&str>) =
        labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).unzip();
    let sql = "INSERT INTO tenant_label (tenant_id, key, value) SELECT $1, * FROM unnest($2::text[], $3::text[])
        ON CONFLICT (tenant_id, key) DO UPDATE SET value = excluded.value";
    sqlx::query(sql).bind(id).bind(keys).bind(values).execute(tx).await?;
    Ok(())
}

/// Where it lives; active at once when its database is ready. Answers the row, without labels and operation.
pub async fn place(
    tx: &mut PgConnection,
    id: &str,
    server: &str,
    version: &str,
    missing: &[String],
    ready: bool,
) -> sqlx::Result<TenantRow> {
    let sql = "UPDATE tenant SET server_id = $2, template_version = $3, missing_extensions = $4, updated_at = now(),
            waiting_for = NULL, state_reason = NULL, state = CASE WHEN $5 THEN 'active' ELSE 'creating' END
        WHERE id = $1 AND state = 'creating' RETURNING *, '{}'::jsonb AS labels, NULL::uuid AS operation";
    sqlx::query_as(sql).bind(id).bind(server).bind(version).bind(missing).bind(ready).fetch_one(tx).await
}

/// Until a server of this pool has a slot for it.
pub async fn wait_for(tx: &mut PgConnection, id: &str, awaited: &Awaited) -> sqlx::Result<()> {
    let sql = "UPDATE tenant SET waiting_for = $2, state_reason = $3, updated_at = now()
        WHERE id = $1 AND state = 'creating' AND (waiting_for, state_reason) IS DISTINCT FROM ($2, $3)";
    sqlx::query(sql).bind(id).bind(awaited.pool.as_str()).bind(awaited.message()).execute(tx).await?;
    Ok(())
}

/// The same of one that has a server, and goes to another for the sake of this plan.
pub async fn wait_as(tx: &mut PgConnection, id: &str, plan: &str, awaited: &Awaited) -> sqlx::Result<()> {
    let sql = "UPDATE tenant SET waiting_for = $2, waiting_plan = $3 WHERE id = $1 AND state <> 'creating'";
    sqlx::query(sql).bind(id).bind(awaited.pool.as_str()).bind(plan).execute(tx).await.map(drop)
}

pub async fn wait_no_more(tx: &mut PgConnection, id: &str) -> sqlx::Result<()> {
    let sql = "UPDATE tenant SET waiting_for = NULL, waiting_plan = NULL WHERE id = $1 AND waiting_plan IS NOT NULL";
    sqlx::query(sql).bind(id).execute(tx).await.map(drop)
}

pub async fn activate(tx: &mut PgConnection, id: &str, missing: &[String]) -> sqlx::Result<()> {
    let sql = "UPDATE tenant SET state = 'active', state_since = now(), state_reason = NULL, missing_extensions = $2,
        revision = revision + 1, updated_at = now() WHERE id = $1 AND state = 'creating'";
    sqlx::query(sql).bind(id).bind(missing).execute(tx).await?;
    Ok(())
}

pub async fn fail(tx: &mut PgConnection, id: &str, reason: &str) -> sqlx::Result<()> {
    let sql = "UPDATE tenant SET state = 'failed', state_since = now(), state_reason = $2, server_id = NULL, waiting_for = NULL,
        revision = revision + 1, updated_at = now() WHERE id = $1 AND state = 'creating'";
    sqlx::query(sql).bind(id).bind(reason).execute(tx).await?;
    Ok(())
}

pub async fn suspend(tx: &mut PgConnection, id: &str, reason: Option<&str>) -> sqlx::Result<()> {
    let sql = "UPDATE tenant SET state = 'suspended', state_since = now(), state_reason = $2,
        revision = revision + 1, updated_at = now() WHERE id = $1 AND state = 'active'";
    sqlx::query(sql).bind(id).bind(reason).execute(tx).await?;
    Ok(())
}

pub async fn resume(tx: &mut PgConnection, id: &str) -> sqlx::Result<()> {
    let sql = "UPDATE tenant SET state = 'active', state_since = now(), state_reason = NULL,
        revision = revision + 1, updated_at = now() WHERE id = $1 AND state = 'suspended'";
    sqlx::query(sql).bind(id).execute(tx).await?;
    Ok(())
}

/// Its grace begins now; `grace` seconds of zero means that its purge may begin at once.
pub async fn delete(tx: &mut PgConnection, id: &str, grace: u64) -> sqlx::Result<()> {
    let sql = "UPDATE tenant SET state_before = state, state = 'deleted', state_since = now(), deleted_at = now(),
        purge_at = now() + make_interval(secs => $2), revision = revision + 1, updated_at = now()
        WHERE id = $1 AND state IN ('active', 'suspended', 'failed')";
    sqlx::query(sql).bind(id).bind(grace as f64).execute(tx).await?;
    Ok(())
}

pub async fn undelete(tx: &mut PgConnection, id: &str) -> sqlx::Result<()> {
    let sql = "UPDATE tenant SET state = state_before, state_before = NULL, state_since = now(), deleted_at = NULL, purge_at = NULL,
        revision = revision + 1, updated_at = now() WHERE id = $1 AND state = 'deleted' AND purge_began_at IS NULL";
    sqlx::query(sql).bind(id).execute(tx).await?;
    Ok(())
}

/// Nothing is destroyed before this is written; false when the tenant is not deleted (any more).
pub async fn begin_purge(store: impl PgExecutor<'_>, id: &str) -> sqlx::Result<bool> {
    let sql = "UPDATE tenant SET purge_began_at = coalesce(purge_began_at, now()) WHERE id = $1 AND state = 'deleted'";
    Ok(sqlx::query(sql).bind(id).execute(store).await?.rows_affected() == 1)
}

/// A purge that ended before it began: the grace is what it would have been.
pub async fn keep(tx: &mut PgConnection, id: &str, grace: u64) -> sqlx::Result<()> {
    let sql = "UPDATE tenant SET purge_at = greatest(purge_at, deleted_at + make_interval(secs => $2))
        WHERE id = $1 AND state = 'deleted' AND purge_began_at IS NULL";
    sqlx::query(sql).bind(id).bind(grace as f64).execute(tx).await?;
    Ok(())
}

/// The last of it: tenant, labels, database, logins with their secrets, edge ids, kept answers.
pub async fn erase(tx: &mut PgConnection, id: &str) -> sqlx::Result<()> {
    // The tenant first: if it is not to be purged, neither is anything of it.
    let sql = "DELETE FROM tenant WHERE id = $1 AND state = 'deleted' AND purge_began_at IS NOT NULL";
    if sqlx::query(sql).bind(id).execute(&mut *tx).await?.rows_affected() == 0 {
        return Ok(());
    }
    for sql in [
        "DELETE FROM tenant_database WHERE tenant_id = $1",
        "DELETE FROM edge_tenant WHERE tenant_id = $1",
        "DELETE FROM idempotency WHERE connection_of = $1",
        "DELETE FROM report WHERE tenant_id = $1",
    ] {
        sqlx::query(sql).bind(id).execute(&mut *tx).await?;
    }
    Ok(())
}

/// Deleted tenants whose grace has ended and that nobody is purging.
pub async fn due_for_purge(store: &PgPool) -> sqlx::Result<Vec<TenantRow>> {
    let sql = select!(
        "WHERE t.state = 'deleted' AND t.purge_at <= now() AND NOT EXISTS (SELECT FROM operation o WHERE o.subject = 'tenant:' || t.id
            AND (o.state NOT IN ('succeeded', 'failed', 'cancelled') OR o.finished_at > now() - interval '1 hour' AND o.kind = 'tenant.purge'))
        ORDER BY t.purge_at LIMIT 100"
    );
    sqlx::query_as(sql).fetch_all(store).await
}

/// Locks the row: nobody undeletes it between this look and what follows.
pub async fn is_due(tx: &mut PgConnection, id: &str) -> sqlx::Result<bool> {
    let sql = "SELECT id FROM tenant WHERE id = $1 AND state = 'deleted' AND purge_at <= now() FOR UPDATE";
    Ok(sqlx::query(sql).bind(id).fetch_optional(tx).await?.is_some())
}

/// What the patch names; the caller has locked the row.
pub async fn patch(tx: &mut PgConnection, id: &str, patch: &PatchTenant) -> sqlx::Result<()> {
    let name = patch.name.as_ref().map(|name| name.as_deref().unwrap_or(id));
    let protection = patch.deletion_protection.map(|protection| protection.unwrap_or(false));
    let sql = "UPDATE tenant SET name = coalesce($2, name), deletion_protection = coalesce($3, deletion_protection),
        revision = revision + 1, updated_at = now() WHERE id = $1";
    sqlx::query(sql).bind(id).bind(name).bind(protection).execute(&mut *tx).await?;
    match &patch.labels {
        None => Ok(()),
        Some(None) => {
            sqlx::query("DELETE FROM tenant_label WHERE tenant_id = $1").bind(id).execute(tx).await?;
            Ok(())
        }
        Some(Some(labels)) => {
            let gone: Vec<&str> =
                labels.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| key.as_str()).collect();
            let sql = "DELETE FROM tenant_label WHERE tenant_id = $1 AND key = ANY($2)";
            sqlx::query(sql).bind(id).bind(gone).execute(&mut *tx).await?;
            let set = labels.iter().filter_map(|(key, value)| value.clone().map(|value| (key.clone(), value)));
            set_labels(tx, id, &set.collect()).await
        }
    }
}
