//! All SQL about budgets and grants.

use std::collections::BTreeMap;

use freehold_api::server::Finding;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::pooler::pause::store::open_pause;
use crate::pooler::store::fresh;

/// Databases of one plan that one pooler serves on one server.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Group {
    pub server_id: String,
    pub pooler_id: String,
    pub plan: String,
    pub databases: i64,
    /// Some of them have less than their plan says.
    pub limited: bool,
    /// What the server admits, where that is known.
    pub admits: Option<i32>,
}

/// Of everything that is in a generation, by server.
pub async fn groups(store: &PgPool) -> sqlx::Result<Vec<Group>> {
    let sql = "SELECT g.*, s.connections_max AS admits FROM (
            SELECT server_id, pooler_id, plan, count(*) AS databases, bool_or(pooler_grant IS NOT NULL) AS limited
            FROM tenant_database WHERE pooler_entry IS NOT NULL GROUP BY server_id, pooler_id, plan) g
        JOIN server s ON s.id = g.server_id ORDER BY g.server_id, g.plan, g.pooler_id";
    sqlx::query_as(sql).fetch_all(store).await
}

/// One database that is served, with what was seen of it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Row {
    pub id: Uuid,
    pub pooler_id: String,
    pub plan: String,
    pub pooler_grant: Option<i32>,
    /// What its pooler was not seen to have given up.
    pub held: Option<i32>,
    pub open: i32,
    /// Somebody waits for long, or a queue as long as the pool does: it may move fast, and is there all the time.
    pub waits: bool,
    pub works: bool,
    /// A moment ago.
    pub worked: bool,
    /// Its clients wait for that, and it is left as it is: an entry that changes ends no pause.
    pub paused: bool,
}

pub async fn rows(store: &PgPool, server: &str) -> sqlx::Result<Vec<Row>> {
    let sql = concat!(
        "SELECT d.id, d.pooler_id, d.plan, d.pooler_grant,
            CASE WHEN p.observed_generation >= d.pooler_held_until THEN NULL ELSE d.pooler_held END AS held,
            coalesce(k.servers_active + k.servers_idle, 0) AS open,
            coalesce(",
        fresh!(),
        " AND k.clients_waiting > 0 AND (k.longest_wait_ms >= 100
                OR k.servers_active > 0 AND k.clients_waiting >= k.servers_active + k.servers_idle), false) AS waits,
            coalesce(",
        fresh!(),
        " AND (k.servers_active > 0 OR k.clients_waiting > 0), false) AS works,
            coalesce(k.active_at > now() - interval '60 seconds', false) AS worked,
            EXISTS (SELECT FROM pooler_pause WHERE pooler_id = d.pooler_id AND entry = d.pooler_entry AND ",
        open_pause!(),
        ") AS paused
        FROM tenant_database d JOIN pooler p ON p.id = d.pooler_id LEFT JOIN pooler_stats k ON k.database_id = d.id
        WHERE d.server_id = $1 AND d.pooler_entry IS NOT NULL ORDER BY d.id"
    );
    sqlx::query_as(sql).bind(server).fetch_all(store).await
}

/// Servers of which this pooler serves databases.
pub async fn served_by(store: &PgPool, pooler: &str) -> sqlx::Result<Vec<String>> {
    let sql = "SELECT DISTINCT server_id FROM tenant_database WHERE pooler_id = $1 AND pooler_entry IS NOT NULL";
    sqlx::query_scalar(sql).bind(pooler).fetch_all(store).await
}

/// Another grant; None: all that the plan says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub id: Uuid,
    pub pooler_grant: Option<i32>,
    /// What it may have open until the pooler has taken this over. None: no more than this.
    pub held: Option<i32>,
}

/// Which generation has them is known because the poolers' rows are locked first. Never waits for a database's row: whoever
/// holds one may be waiting for its pooler's. What is left out is given at the next turn.
pub async fn give(tx: &mut PgConnection, poolers: &[String], changes: &[Change]) -> sqlx::Result<u64> {
    let sql = "SELECT id FROM pooler WHERE id = ANY($1) ORDER BY id FOR UPDATE";
    sqlx::query(sql).bind(poolers).execute(&mut *tx).await?;
    let sql = "WITH free AS (
            SELECT d.id, p.generation FROM tenant_database d JOIN pooler p ON p.id = d.pooler_id
            WHERE d.id = ANY($1) AND d.pooler_id = ANY($4) FOR UPDATE OF d SKIP LOCKED)
        UPDATE tenant_database d SET pooler_grant = n.given, pooler_held = n.held, pooler_held_until = f.generation + 1
        FROM unnest($1::uuid[], $2::int[], $3::int[]) AS n (id, given, held) JOIN free f ON f.id = n.id
        WHERE d.id = n.id";
    let done = sqlx::query(sql)
        .bind(changes.iter().map(|change| change.id).collect::<Vec<_>>())
        .bind(changes.iter().map(|change| change.pooler_grant).collect::<Vec<_>>())
        .bind(changes.iter().map(|change| change.held).collect::<Vec<_>>())
        .bind(poolers)
        .execute(tx)
        .await?;
    Ok(done.rows_affected())
}

#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct BudgetRow {
    pub server_id: String,
    pub budget: i32,
    pub resting: Option<i32>,
    pub crowded: bool,
    pub databases: i32,
    pub wanted: i32,
    pub granted: i32,
    pub findings: Json<Vec<Finding>>,
}

pub async fn all(store: &PgPool) -> sqlx::Result<BTreeMap<String, BudgetRow>> {
    let rows: Vec<BudgetRow> =
        sqlx::query_as("SELECT * FROM server_budget ORDER BY server_id").fetch_all(store).await?;
    Ok(rows.into_iter().map(|row| (row.server_id.clone(), row)).collect())
}

/// Poolers that serve a server which became crowded, or is so no more, close idle connections sooner or later than before.
pub async fn record(tx: &mut PgConnection, row: &BudgetRow, was: Option<&BudgetRow>) -> sqlx::Result<()> {
    let sql = "INSERT INTO server_budget (server_id, budget, resting, crowded, databases, wanted, granted, findings)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (server_id) DO UPDATE SET budget = excluded.budget, resting = excluded.resting, crowded = excluded.crowded,
            databases = excluded.databases, wanted = excluded.wanted, granted = excluded.granted, findings = excluded.findings";
    sqlx::query(sql)
        .bind(&row.server_id)
        .bind(row.budget)
        .bind(row.resting)
        .bind(row.crowded)
        .bind(row.databases)
        .bind(row.wanted)
        .bind(row.granted)
        .bind(&row.findings)
        .execute(&mut *tx)
        .await?;
    if was.is_some_and(|was| was.crowded) != row.crowded {
        let sql = "UPDATE pooler SET changed = true
            WHERE id IN (SELECT pooler_id FROM tenant_database WHERE server_id = $1 AND pooler_entry IS NOT NULL)";
        sqlx::query(sql).bind(&row.server_id).execute(tx).await?;
    }
    Ok(())
}

/// Servers of which nothing is pooled any more.
pub async fn forget(store: &PgPool, pooled: &[&str]) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM server_budget WHERE server_id <> ALL($1)").bind(pooled).execute(store).await.map(drop)
}

pub async fn set_granted(store: &PgPool, granted: &BTreeMap<String, i32>) -> sqlx::Result<()> {
    let sql = "UPDATE pooler p SET granted = coalesce(n.granted, 0)
        FROM pooler o LEFT JOIN unnest($1::text[], $2::int[]) AS n (id, granted) ON n.id = o.id
        WHERE o.id = p.id AND p.granted <> coalesce(n.granted, 0)";
    sqlx::query(sql)
        .bind(granted.keys().collect::<Vec<_>>())
        .bind(granted.values().copied().collect::<Vec<_>>())
        .execute(store)
        .await
        .map(drop)
}

/// Connections that the pools of these servers have open, as their agents said last.
pub async fn open(store: &PgPool, servers: &[&str]) -> sqlx::Result<Vec<(String, i64)>> {
    let sql = "SELECT d.server_id, coalesce(sum(k.servers_active + k.servers_idle), 0)
        FROM pooler_stats k JOIN tenant_database d ON d.id = k.database_id
        WHERE d.server_id = ANY($1) GROUP BY d.server_id";
    sqlx::query_as(sql).bind(servers).fetch_all(store).await
}
