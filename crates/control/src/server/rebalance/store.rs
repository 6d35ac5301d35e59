//! All SQL about rebalances.

use freehold_api::drain::DrainState;
use freehold_api::id::OperationId;
use freehold_api::rebalance::RebalanceMove;
use freehold_api::tenant::Labels;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use crate::server::drain::store::Row;

/// One that lives on a server that is to be evened out.
#[derive(Debug, sqlx::FromRow)]
pub struct Resident {
    pub server_id: String,
    pub tenant_id: String,
    pub plan: String,
    pub region: Option<String>,
    pub template: String,
    pub labels: Json<Labels>,
    pub bytes: Option<i64>,
    pub transactions_per_second: f64,
    /// Nobody is at work on it, nothing of it is kept elsewhere, and it was not judged to be immovable.
    pub can_go: bool,
}

pub async fn residents(store: &PgPool, servers: &[String]) -> sqlx::Result<Vec<Resident>> {
    let sql = "SELECT d.server_id, t.id AS tenant_id, t.plan, t.region, t.template, s.size_bytes AS bytes,
            coalesce((SELECT jsonb_object_agg(l.key, l.value) FROM tenant_label l WHERE l.tenant_id = t.id), '{}') AS labels,
            coalesce(s.transactions_per_second, 0)::float8 AS transactions_per_second,
            t.state = 'active' AND m.tenant_id IS NULL AND NOT coalesce(v.at IS NOT NULL AND v.method IS DISTINCT FROM 'logical', false)
                AND NOT EXISTS (SELECT FROM operation o WHERE o.subject = 'tenant:' || t.id
                    AND o.state NOT IN ('succeeded', 'failed', 'cancelled')) AS can_go
        FROM tenant_database d JOIN tenant t ON t.id = d.tenant_id
        LEFT JOIN database_stats s ON (s.server_id, s.database) = (d.server_id, d.database)
        LEFT JOIN tenant_move m ON m.tenant_id = t.id LEFT JOIN movability v ON v.tenant_id = t.id
        WHERE d.server_id = ANY($1) ORDER BY t.id";
    sqlx::query_as(sql).bind(servers).fetch_all(store).await
}

/// One of those that are sent elsewhere.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Sent {
    #[sqlx(flatten)]
    pub row: Row,
    pub from_server: String,
    pub planned: String,
}

/// In the place of the one before.
pub async fn begin(tx: &mut PgConnection, operation: Uuid, moves: &[RebalanceMove]) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM rebalance").execute(&mut *tx).await?;
    sqlx::query("DELETE FROM rebalance_tenant").execute(&mut *tx).await?;
    sqlx::query("INSERT INTO rebalance (operation) VALUES ($1)").bind(operation).execute(&mut *tx).await?;
    let sql = "INSERT INTO rebalance_tenant (tenant_id, number, from_server, to_server, bytes)
        SELECT * FROM unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::bigint[])";
    let bytes = |one: &RebalanceMove| one.bytes.and_then(|bytes| i64::try_from(bytes).ok());
    sqlx::query(sql)
        .bind(moves.iter().map(|one| one.tenant.to_string()).collect::<Vec<_>>())
        .bind((0..moves.len()).map(|number| i32::try_from(number).unwrap_or(i32::MAX)).collect::<Vec<_>>())
        .bind(moves.iter().map(|one| one.from.to_string()).collect::<Vec<_>>())
        .bind(moves.iter().map(|one| one.to.to_string()).collect::<Vec<_>>())
        .bind(moves.iter().map(bytes).collect::<Vec<_>>())
        .execute(tx)
        .await
        .map(drop)
}

/// The newest.
pub async fn operation(store: impl PgExecutor<'_>) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar("SELECT operation FROM rebalance").fetch_optional(store).await
}

pub async fn rows(store: impl PgExecutor<'_>) -> sqlx::Result<Vec<Sent>> {
    let sql = "SELECT x.tenant_id, x.bytes, x.moved_by, x.tries, x.code, x.message, t.server_id AS at, m.to_server, o.state AS move_state,
            coalesce(o.failed_error, o.error)->>'code' AS move_code, coalesce(o.failed_error, o.error)->>'message' AS move_message,
            CASE WHEN o.progress->>'unit' = 'bytes' THEN (o.progress->>'done')::bigint END AS move_done,
            extract(epoch FROM now() - o.finished_at)::float8 AS move_ended, x.from_server, x.to_server AS planned
        FROM rebalance_tenant x JOIN tenant t ON t.id = x.tenant_id
        LEFT JOIN operation o ON o.id = x.moved_by LEFT JOIN tenant_move m ON m.tenant_id = x.tenant_id AND o.id IS NOT NULL
        ORDER BY x.number";
    sqlx::query_as(sql).fetch_all(store).await
}

/// With the move itself. False: it has one, which is not begun a second time.
pub async fn moves(tx: &mut PgConnection, tenant: &str, by: Uuid) -> sqlx::Result<bool> {
    let sql = "UPDATE rebalance_tenant SET moved_by = $2, code = NULL, message = NULL WHERE tenant_id = $1 AND moved_by IS NULL";
    Ok(sqlx::query(sql).bind(tenant).bind(by).execute(tx).await?.rows_affected() == 1)
}

pub async fn leave(tx: &mut PgConnection, tenant: &str, code: &str, why: &str) -> sqlx::Result<()> {
    let sql = "UPDATE rebalance_tenant SET code = $2, message = $3 WHERE tenant_id = $1 AND moved_by IS NULL";
    sqlx::query(sql).bind(tenant).bind(code).bind(why).execute(tx).await.map(drop)
}

/// Its move was over before it did anything, for a reason that passes.
pub async fn again(tx: &mut PgConnection, tenant: &str, by: Uuid) -> sqlx::Result<()> {
    let sql = "UPDATE rebalance_tenant SET moved_by = NULL, tries = tries + 1 WHERE tenant_id = $1 AND moved_by = $2";
    sqlx::query(sql).bind(tenant).bind(by).execute(tx).await.map(drop)
}

impl Sent {
    pub fn stands(&self) -> DrainState {
        self.row.stands(&self.from_server)
    }

    pub fn shown(&self) -> Option<RebalanceMove> {
        let told = self.row.shown(&self.from_server.parse().ok()?)?;
        Some(RebalanceMove {
            tenant: told.tenant,
            from: self.from_server.parse().ok()?,
            to: told.to.or_else(|| self.planned.parse().ok())?,
            bytes: told.bytes,
            state: told.state,
            operation: self.row.moved_by.map(OperationId),
            code: told.code,
            message: told.message,
        })
    }
}
