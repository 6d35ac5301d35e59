//! All SQL about rebalances.

use std::time::Duration;

use freehold_api::drain::DrainState;
use freehold_api::id::OperationId;
use freehold_api::rebalance::RebalanceMove;
use freehold_api::tenant::Labels;
use jiff_sqlx::Timestamp;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use crate::server::drain::store::Row;
use crate::tenant::moving::{self, finish, rollback};

/// Whose move came to nothing is not sent again for so long, unless somebody else moved it.
pub const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);
/// What works in the databases of a tenant that moved.
const MOVES: [&str; 3] = [moving::KIND, finish::KIND, rollback::KIND];
/// What the next suggestion sees by itself.
const PASSING: [&str; 3] = ["no_room", "busy", "wrong_state"];

/// One that lives on a server that is to be evened out, or is on its way there.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Resident {
    pub server_id: String,
    pub tenant_id: String,
    pub state: String,
    pub plan: String,
    pub region: Option<String>,
    pub template: String,
    pub labels: Json<Labels>,
    pub protected: bool,
    /// None: it was not measured yet.
    pub bytes: Option<i64>,
    pub transactions_per_second: f64,
    /// A move brought it, and what is known of it there is of the copy, or of nothing at all.
    pub is_unmeasured: bool,
    /// Where a move brings it that has not turned yet.
    pub goes_to: Option<String>,
    /// Where its other side is, of a move that is under way or that left one.
    pub kept_on: Option<String>,
    /// What is at work on it.
    pub operation: Option<Uuid>,
    pub operation_kind: Option<String>,
    /// That it gets at a time that was named.
    pub next_plan: Option<String>,
    /// Logins that were there before it was adopted.
    pub keeps_logins: bool,
    /// It was judged, and cannot go by replication: why.
    pub immovable: Option<Vec<String>>,
    pub failed_at: Option<Timestamp>,
    pub failed_code: Option<String>,
    pub failed_message: Option<String>,
}

/// Of these servers. `period`: seconds between two looks at what they do; two of them are waited for, since a look may come late.
/// What a move does in the tenant's database counts there too: while it is at work, and just after it was, nobody knows what the
/// tenant does.
pub async fn residents(store: &PgPool, servers: &[String], period: f64) -> sqlx::Result<Vec<Resident>> {
    let sql = "SELECT d.server_id, t.id AS tenant_id, t.state, t.plan, t.region, t.template, t.deletion_protection AS protected,
            coalesce((SELECT jsonb_object_agg(l.key, l.value) FROM tenant_label l WHERE l.tenant_id = t.id), '{}') AS labels,
            s.size_bytes AS bytes, coalesce(s.transactions_per_second, 0)::float8 AS transactions_per_second,
            d.arrived_at IS NOT NULL AND (s.size_at IS NULL OR s.size_at < d.arrived_at
                OR w.at IS NULL OR w.at < d.arrived_at + make_interval(secs => $2)
                OR EXISTS (SELECT FROM operation e WHERE e.subject = 'tenant:' || t.id AND e.kind = ANY($4)
                    AND (e.finished_at > w.at - make_interval(secs => $2) OR e.finished_at IS NULL AND e.state <> 'stuck'
                        AND m.flipped_at IS NOT NULL))) AS is_unmeasured,
            CASE WHEN m.flipped_at IS NULL AND o.kind = 'tenant.move' THEN m.to_server END AS goes_to,
            CASE WHEN m.flipped_at IS NOT NULL THEN m.from_server ELSE m.to_server END AS kept_on,
            o.id AS operation, o.kind AS operation_kind, p.plan AS next_plan,
            EXISTS (SELECT FROM kept_login k WHERE k.database_id = d.id) AS keeps_logins,
            CASE WHEN v.at IS NOT NULL AND v.method IS DISTINCT FROM 'logical' THEN v.codes END AS immovable,
            f.at AS failed_at, f.code AS failed_code, f.message AS failed_message
        FROM tenant_database d JOIN tenant t ON t.id = d.tenant_id
        LEFT JOIN database_stats s ON (s.server_id, s.database) = (d.server_id, d.database)
        LEFT JOIN server_stats w ON w.server_id = d.server_id
        LEFT JOIN tenant_move m ON m.tenant_id = t.id
        LEFT JOIN movability v ON v.tenant_id = t.id
        LEFT JOIN plan_change p ON p.tenant_id = t.id
        LEFT JOIN rebalance_failure f ON f.tenant_id = t.id AND f.at > now() - make_interval(secs => $3)
            AND (d.arrived_at IS NULL OR d.arrived_at < f.at)
        LEFT JOIN operation o ON o.subject = 'tenant:' || t.id AND o.state NOT IN ('succeeded', 'failed', 'cancelled')
        WHERE d.server_id = ANY($1) OR m.flipped_at IS NULL AND o.kind = 'tenant.move' AND m.to_server = ANY($1) ORDER BY t.id";
    let query = sqlx::query_as(sql).bind(servers).bind(2.0 * period).bind(REMEMBERED.as_secs_f64());
    query.bind(MOVES.as_slice()).fetch_all(store).await
}

/// One of those that are sent elsewhere.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Sent {
    #[sqlx(flatten)]
    pub row: Row,
    pub from_server: String,
    pub planned: String,
}

/// In the place of the one before, whose moves that are under way are this one's.
pub async fn begin(tx: &mut PgConnection, operation: Uuid, moves: &[RebalanceMove]) -> sqlx::Result<()> {
    if let Some(before) = self::operation(&mut *tx).await? {
        remember(tx, before).await?;
    }
    sqlx::query("DELETE FROM rebalance").execute(&mut *tx).await?;
    let sql = "DELETE FROM rebalance_tenant x WHERE NOT EXISTS (SELECT FROM operation o WHERE o.id = x.moved_by
            AND o.state IN ('queued', 'running', 'waiting', 'undoing'))";
    sqlx::query(sql).execute(&mut *tx).await?;
    sqlx::query("INSERT INTO rebalance (operation) VALUES ($1)").bind(operation).execute(&mut *tx).await?;
    // Whoever is under way was begun since the suggestion was made.
    let sql = "INSERT INTO rebalance_tenant (tenant_id, number, from_server, to_server, bytes)
        SELECT * FROM unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::bigint[]) ON CONFLICT (tenant_id) DO NOTHING";
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
        ORDER BY x.number, x.tenant_id";
    sqlx::query_as(sql).fetch_all(store).await
}

/// Those whose pause is over come again, those who were moved by somebody else are not this one's, and why others are left is
/// remembered.
pub async fn look(tx: &mut PgConnection, operation: Uuid) -> sqlx::Result<()> {
    for sent in rows(&mut *tx).await? {
        if let Some(by) = sent.row.is_due(&sent.from_server) {
            again(tx, &sent.row.tenant_id, by).await?;
        }
    }
    let sql = "DELETE FROM rebalance_tenant x USING tenant t WHERE x.moved_by IS NULL AND t.id = x.tenant_id
        AND t.server_id IS DISTINCT FROM x.from_server";
    sqlx::query(sql).execute(&mut *tx).await?;
    remember(tx, operation).await
}

/// Whoever is left, for a reason that does not pass by itself.
async fn remember(tx: &mut PgConnection, operation: Uuid) -> sqlx::Result<()> {
    let rows = rows(&mut *tx).await?;
    let left = rows.iter().filter(|sent| sent.stands() == DrainState::Left).map(|sent| (sent, sent.row.why()));
    let left: Vec<(&Sent, (String, String))> =
        left.filter(|(_, (code, _))| !PASSING.contains(&code.as_str())).collect();
    let sql = "INSERT INTO rebalance_failure AS f (tenant_id, operation, code, message)
        SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[])
        ON CONFLICT (tenant_id) DO UPDATE SET operation = excluded.operation, at = excluded.at, code = excluded.code,
            message = excluded.message WHERE f.operation <> excluded.operation";
    sqlx::query(sql)
        .bind(left.iter().map(|(sent, _)| sent.row.tenant_id.clone()).collect::<Vec<_>>())
        .bind(left.iter().map(|(sent, _)| sent.row.moved_by.unwrap_or(operation)).collect::<Vec<_>>())
        .bind(left.iter().map(|(_, (code, _))| code.clone()).collect::<Vec<_>>())
        .bind(left.iter().map(|(_, (_, message))| message.clone()).collect::<Vec<_>>())
        .execute(tx)
        .await
        .map(drop)
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
async fn again(tx: &mut PgConnection, tenant: &str, by: Uuid) -> sqlx::Result<()> {
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
