//! All SQL about changes of plan. Whoever locks both takes the tenant first, and its `plan_change` after it.

use freehold_api::plan_change::PlanStep;
use freehold_durable::OperationRow;
use jiff_sqlx::{Timestamp, ToSqlx};
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use crate::operation::answer;

/// The first pause of one that waits, in seconds; each is twice as long as the one before it.
const RETRY: f64 = 30.0;
const RETRY_MOST: f64 = 1800.0;

#[derive(Debug, sqlx::FromRow)]
pub struct ChangeRow {
    pub plan: String,
    /// Up or down from the plan that it had when this was asked for.
    pub step: String,
    pub over_quota: bool,
    pub operation: Option<Uuid>,
}

/// What is kept of a change until its time.
pub struct Kept<'a> {
    pub plan: &'a str,
    pub step: PlanStep,
    pub at: jiff::Timestamp,
    pub over_quota: bool,
    pub by: &'a str,
}

/// In the place of another that was kept.
pub async fn keep(tx: &mut PgConnection, tenant: &str, kept: &Kept<'_>) -> sqlx::Result<()> {
    touch(tx, tenant).await?;
    let sql = "INSERT INTO plan_change (tenant_id, plan, step, due_at, over_quota, requested_by) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (tenant_id) DO UPDATE SET plan = excluded.plan, step = excluded.step, due_at = excluded.due_at,
            over_quota = excluded.over_quota, requested_by = excluded.requested_by, requested_at = now(), operation = NULL,
            waits_code = NULL, waits_message = NULL, tries = 0, retry_at = NULL";
    sqlx::query(sql)
        .bind(tenant)
        .bind(kept.plan)
        .bind(kept.step.as_str())
        .bind(kept.at.to_sqlx())
        .bind(kept.over_quota)
        .bind(kept.by)
        .execute(tx)
        .await
        .map(drop)
}

pub async fn find(tx: &mut PgConnection, tenant: &str) -> sqlx::Result<Option<ChangeRow>> {
    let sql = "SELECT plan, step, over_quota, operation FROM plan_change WHERE tenant_id = $1 FOR UPDATE";
    sqlx::query_as(sql).bind(tenant).fetch_optional(tx).await
}

pub async fn forget(tx: &mut PgConnection, tenant: &str) -> sqlx::Result<()> {
    touch(tx, tenant).await?;
    sqlx::query("DELETE FROM plan_change WHERE tenant_id = $1").bind(tenant).execute(tx).await.map(drop)
}

async fn touch(tx: &mut PgConnection, tenant: &str) -> sqlx::Result<()> {
    let sql = "UPDATE tenant SET revision = revision + 1, updated_at = now() WHERE id = $1";
    sqlx::query(sql).bind(tenant).execute(tx).await.map(drop)
}

macro_rules! due {
    () => {
        "c.due_at <= now() AND coalesce(c.retry_at <= now(), true) AND t.state IN ('active', 'suspended')
            AND NOT EXISTS (SELECT FROM operation o WHERE o.id = c.operation AND o.state NOT IN ('succeeded', 'failed', 'cancelled'))"
    };
}

/// Those whose time has come, and that nobody carries out. A tenant that is deleted gets it if it comes back.
pub async fn due(store: &PgPool) -> sqlx::Result<Vec<String>> {
    let sql = concat!(
        "SELECT t.id FROM plan_change c JOIN tenant t ON t.id = c.tenant_id WHERE ",
        due!(),
        " ORDER BY c.due_at LIMIT 100"
    );
    sqlx::query_scalar(sql).fetch_all(store).await
}

/// What is due of a tenant. Nobody who has not locked the tenant decides by it.
pub async fn find_due(tx: &mut PgConnection, tenant: &str) -> sqlx::Result<Option<ChangeRow>> {
    let sql = concat!(
        "SELECT c.plan, c.step, c.over_quota, c.operation FROM plan_change c JOIN tenant t ON t.id = c.tenant_id
        WHERE t.id = $1 AND ",
        due!(),
        " FOR UPDATE OF c"
    );
    sqlx::query_as(sql).bind(tenant).fetch_optional(tx).await
}

pub async fn begun(tx: &mut PgConnection, tenant: &str, operation: Uuid) -> sqlx::Result<()> {
    let sql = "UPDATE plan_change SET operation = $2, waits_code = NULL, waits_message = NULL, retry_at = NULL WHERE tenant_id = $1";
    sqlx::query(sql).bind(tenant).bind(operation).execute(tx).await.map(drop)
}

/// It cannot be carried out now: why, and that it is tried again, each time after a longer pause.
pub async fn waits(tx: &mut PgConnection, tenant: &str, code: &str, message: &str) -> sqlx::Result<()> {
    let sql = "UPDATE plan_change SET waits_code = $2, waits_message = $3, tries = tries + 1,
            retry_at = now() + make_interval(secs => least($4 * 2 ^ least(tries, 20), $5)) WHERE tenant_id = $1";
    sqlx::query(sql).bind(tenant).bind(code).bind(message).bind(RETRY).bind(RETRY_MOST).execute(tx).await.map(drop)
}

/// The same of somebody at work on the tenant, who will be done: nothing was tried.
pub async fn waits_for(tx: &mut PgConnection, tenant: &str, code: &str, message: &str, secs: f64) -> sqlx::Result<()> {
    let sql = "UPDATE plan_change SET waits_code = $2, waits_message = $3, retry_at = now() + make_interval(secs => $4)
        WHERE tenant_id = $1";
    sqlx::query(sql).bind(tenant).bind(code).bind(message).bind(secs).execute(tx).await.map(drop)
}

/// The operation that was to carry it out came to nothing. A person who cancelled it does not want it begun again.
pub async fn ended(tx: &mut PgConnection, operation: &OperationRow) -> sqlx::Result<()> {
    let (code, message) = answer::failure_of(operation);
    let message = answer::without_fleet(&code, message);
    if !operation.cancel_requested {
        return failed(tx, operation.id, &code, &message).await;
    }
    match lock_of(tx, operation.id).await? {
        Some(tenant) => forget(tx, &tenant).await,
        None => Ok(()),
    }
}

/// The tenant whose change of plan this operation carries out, with both locked.
async fn lock_of(tx: &mut PgConnection, operation: Uuid) -> sqlx::Result<Option<String>> {
    let sql =
        "SELECT t.id FROM tenant t WHERE t.id = (SELECT tenant_id FROM plan_change WHERE operation = $1) FOR UPDATE";
    let tenant: Option<String> = sqlx::query_scalar(sql).bind(operation).fetch_optional(&mut *tx).await?;
    let Some(tenant) = tenant else { return Ok(None) };
    // Another may have taken its place until the tenant was free.
    let sql = "SELECT tenant_id FROM plan_change WHERE tenant_id = $1 AND operation = $2 FOR UPDATE";
    sqlx::query_scalar(sql).bind(tenant).bind(operation).fetch_optional(tx).await
}

/// For whatever else it was: it is tried again.
pub async fn failed(tx: &mut PgConnection, operation: Uuid, code: &str, message: &str) -> sqlx::Result<()> {
    match lock_of(tx, operation).await? {
        Some(tenant) => waits(tx, &tenant, code, message).await,
        None => Ok(()),
    }
}

/// From this commit on it has the plan: what it may use is the plan's, and its pooler is told by the trigger of
/// `tenant_database`. The note inside is written again.
pub async fn set(tx: &mut PgConnection, tenant: &str, database: Uuid, plan: &str) -> sqlx::Result<()> {
    // What SaaSOdoo's edge calls the plan, as long as nobody calls it something else.
    let sql = "UPDATE tenant_label l SET value = $2 FROM tenant t
        WHERE t.id = $1 AND l.tenant_id = t.id AND l.key = 'plan_tier' AND l.value = t.plan";
    sqlx::query(sql).bind(tenant).bind(plan).execute(&mut *tx).await?;
    let sql = "UPDATE tenant SET plan = $2, revision = revision + 1, updated_at = now() WHERE id = $1 AND plan <> $2";
    if sqlx::query(sql).bind(tenant).bind(plan).execute(&mut *tx).await?.rows_affected() == 1 {
        // It is measured against the quotas of this one: what it had reached, and was to be suspended for, was another's.
        sqlx::query("DELETE FROM quota_level WHERE tenant_id = $1").bind(tenant).execute(&mut *tx).await?;
    }
    let sql = "UPDATE tenant_database SET plan = $2, noted_at = NULL WHERE id = $1 AND plan <> $2";
    sqlx::query(sql).bind(database).bind(plan).execute(tx).await.map(drop)
}

/// Whether this operation gives the tenant this plan, where it is or by a move.
pub async fn is_under_way(store: &PgPool, operation: Uuid, tenant: &str, plan: &str) -> sqlx::Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM operation o WHERE o.id = $1 AND o.subject = 'tenant:' || $2
        AND (o.kind = 'tenant.plan' AND o.step->>'to' = $3 AND o.state <> 'undoing'
            OR o.kind = 'tenant.move' AND (o.step #>> '{goal,plan}' = $3
                OR EXISTS (SELECT FROM tenant_move m WHERE m.tenant_id = $2 AND m.plan_after = $3))))";
    sqlx::query_scalar(sql).bind(operation).bind(tenant).bind(plan).fetch_one(store).await
}

/// Whether this operation moves the tenant, there or back, for the sake of whichever plan.
pub async fn is_of_plan(store: impl PgExecutor<'_>, operation: Uuid, tenant: &str) -> sqlx::Result<bool> {
    let sql =
        "SELECT EXISTS (SELECT FROM operation o WHERE o.id = $1 AND o.kind IN ('tenant.move', 'tenant.roll_back_move')
        AND (o.step #>> '{goal,plan}' IS NOT NULL
            OR EXISTS (SELECT FROM tenant_move m WHERE m.tenant_id = $2 AND m.plan_after IS NOT NULL)))";
    sqlx::query_scalar(sql).bind(operation).bind(tenant).fetch_one(store).await
}

/// How many are kept, and how many of these are due and wait.
pub async fn counts(store: &PgPool) -> sqlx::Result<(i64, i64)> {
    let sql = "SELECT count(*), count(*) FILTER (WHERE waits_code IS NOT NULL) FROM plan_change";
    sqlx::query_as(sql).fetch_one(store).await
}

/// One of those that have waited for an hour, and how many there are.
pub async fn overdue(store: &PgPool) -> sqlx::Result<Option<(String, String, i64)>> {
    let sql = "SELECT tenant_id, waits_message, count(*) OVER () FROM plan_change
        WHERE waits_code IS NOT NULL AND due_at < now() - interval '1 hour' ORDER BY due_at LIMIT 1";
    sqlx::query_as(sql).fetch_optional(store).await
}

/// As of the store's clock, by which it is decided what is due.
pub async fn now(store: &PgPool) -> sqlx::Result<jiff::Timestamp> {
    let now: Timestamp = sqlx::query_scalar("SELECT now()").fetch_one(store).await?;
    Ok(now.to_jiff())
}
