//! All SQL about quotas.

use sqlx::{PgConnection, PgPool};

use super::judge::{Level, Resource};
use crate::plane::Core;

#[derive(Debug, sqlx::FromRow)]
pub struct Usage {
    pub tenant: String,
    pub plan: String,
    pub state: String,
    pub size_bytes: Option<i64>,
    pub connections: i32,
    pub storage_level: Option<i32>,
    pub connections_level: Option<i32>,
}

/// Tenants at 80 percent of something or beyond, and those that were. The judge decides; this only leaves out the many
/// that are far from everything.
pub async fn near(core: &Core) -> sqlx::Result<Vec<Usage>> {
    let sql = "WITH plan AS (SELECT * FROM unnest($1::text[], $2::bigint[], $3::int[]) AS p (name, storage, connections))
        SELECT t.id AS tenant, t.plan, t.state, s.size_bytes, s.connections, st.level AS storage_level, co.level AS connections_level
        FROM tenant t JOIN tenant_database d ON d.tenant_id = t.id AND d.state = 'claimed'
        JOIN database_stats s ON s.server_id = d.server_id AND s.database = d.database
        LEFT JOIN plan p ON p.name = t.plan
        LEFT JOIN quota_level st ON st.tenant_id = t.id AND st.resource = 'storage'
        LEFT JOIN quota_level co ON co.tenant_id = t.id AND co.resource = 'connections'
        WHERE t.state IN ('active', 'suspended') AND (st.level IS NOT NULL OR co.level IS NOT NULL
            OR s.size_bytes >= 0.8 * CASE WHEN p.name IS NULL THEN $4 ELSE p.storage END
            OR s.connections >= 0.8 * CASE WHEN p.name IS NULL THEN $5 ELSE p.connections END)
        ORDER BY t.id";
    let bytes = |quota: Option<u64>| quota.map(|quota| i64::try_from(quota).unwrap_or(i64::MAX));
    let sessions = |limit: u32| i32::try_from(limit).unwrap_or(i32::MAX);
    let (plans, default) = (&core.settings.plans, core.settings.default_plan());
    sqlx::query_as(sql)
        .bind(plans.iter().map(|plan| plan.name.to_string()).collect::<Vec<_>>())
        .bind(plans.iter().map(|plan| bytes(plan.storage_quota)).collect::<Vec<_>>())
        .bind(plans.iter().map(|plan| sessions(plan.connection_limit)).collect::<Vec<_>>())
        .bind(bytes(default.storage_quota))
        .bind(sessions(default.connection_limit))
        .fetch_all(&core.store)
        .await
}

/// False when somebody else has changed it.
pub async fn set_level(
    tx: &mut PgConnection,
    tenant: &str,
    resource: Resource,
    before: Level,
    now: Level,
    suspend: bool,
) -> sqlx::Result<bool> {
    let sql = match (before, now) {
        (_, Level::Below) => {
            "DELETE FROM quota_level WHERE tenant_id = $1 AND resource = $2 AND level = $3 AND $4 = 0 AND NOT $5"
        }
        (Level::Below, _) => {
            "INSERT INTO quota_level (tenant_id, resource, level, suspend_due) SELECT id, $2, $4, $5 FROM tenant
             WHERE id = $1 AND $3 = 0 ON CONFLICT DO NOTHING"
        }
        _ => {
            "UPDATE quota_level SET level = $4, since = now(), suspend_due = $5
             WHERE tenant_id = $1 AND resource = $2 AND level = $3"
        }
    };
    let done = sqlx::query(sql)
        .bind(tenant)
        .bind(resource.as_str())
        .bind(before.percent())
        .bind(now.percent())
        .bind(suspend)
        .execute(tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn to_suspend(store: &PgPool) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar("SELECT tenant_id FROM quota_level WHERE suspend_due ORDER BY since").fetch_all(store).await
}

pub async fn suspend_done(tx: &mut PgConnection, tenant: &str) -> sqlx::Result<()> {
    sqlx::query("UPDATE quota_level SET suspend_due = false WHERE tenant_id = $1").bind(tenant).execute(tx).await?;
    Ok(())
}
