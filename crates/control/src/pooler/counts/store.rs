//! What poolers counted, per database, as it was told last.

use freehold_api::pooler::{PooledDatabase, PoolerReport};
use sqlx::PgPool;

use crate::pooler::store::fresh;

/// Counters per database; what did not change is not written again. What is not told of does nothing now.
pub async fn record(store: &PgPool, id: &str, told: &PoolerReport) -> sqlx::Result<()> {
    let of = |count: fn(&PooledDatabase) -> u64| -> Vec<i64> {
        told.databases.iter().flatten().map(|found| i64::try_from(count(found)).unwrap_or(i64::MAX)).collect()
    };
    let names: Vec<&str> = told.databases.iter().flatten().map(|found| found.name.as_str()).collect();
    let sql = "WITH told AS (
            SELECT DISTINCT ON (d.id) d.id, n.*
            FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
                    $10::bigint[], $11::bigint[]) AS n (name, ca, cw, sa, si, lw, tx, q, rb, sb)
                JOIN tenant_database d ON d.pooler_id = $1 AND d.pooler_entry = n.name
            ORDER BY d.id),
        silent AS (
            UPDATE pooler_stats k SET clients_active = 0, clients_waiting = 0, servers_active = 0, servers_idle = 0, longest_wait_ms = 0
            FROM tenant_database d
            WHERE d.id = k.database_id AND d.pooler_id = $1 AND NOT EXISTS (SELECT FROM told WHERE told.id = d.id)
                AND k.clients_active + k.clients_waiting + k.servers_active + k.servers_idle + k.longest_wait_ms > 0)
        INSERT INTO pooler_stats AS known (database_id, clients_active, clients_waiting, servers_active, servers_idle,
            longest_wait_ms, transactions, queries, received_bytes, sent_bytes)
        SELECT id, ca, cw, sa, si, lw, tx, q, rb, sb FROM told
        ON CONFLICT (database_id) DO UPDATE SET clients_active = excluded.clients_active, clients_waiting = excluded.clients_waiting,
            servers_active = excluded.servers_active, servers_idle = excluded.servers_idle, longest_wait_ms = excluded.longest_wait_ms,
            transactions = excluded.transactions, queries = excluded.queries, received_bytes = excluded.received_bytes,
            sent_bytes = excluded.sent_bytes, active_at = CASE
                WHEN excluded.transactions <> known.transactions OR excluded.servers_active + excluded.clients_waiting > 0
                THEN now() ELSE known.active_at END
        WHERE (known.clients_active, known.clients_waiting, known.servers_active, known.servers_idle, known.longest_wait_ms,
                known.transactions, known.queries, known.received_bytes, known.sent_bytes)
            IS DISTINCT FROM (excluded.clients_active, excluded.clients_waiting, excluded.servers_active, excluded.servers_idle,
                excluded.longest_wait_ms, excluded.transactions, excluded.queries, excluded.received_bytes, excluded.sent_bytes)";
    sqlx::query(sql)
        .bind(id)
        .bind(names)
        .bind(of(|found| found.clients_active.into()))
        .bind(of(|found| found.clients_waiting.into()))
        .bind(of(|found| found.servers_active.into()))
        .bind(of(|found| found.servers_idle.into()))
        .bind(of(|found| found.longest_wait_ms))
        .bind(of(|found| found.transactions))
        .bind(of(|found| found.queries))
        .bind(of(|found| found.received_bytes))
        .bind(of(|found| found.sent_bytes))
        .execute(store)
        .await
        .map(drop)
}

#[derive(Debug, sqlx::FromRow)]
pub struct CountsRow {
    pub tenant_id: String,
    pub pooler_id: String,
    pub clients_active: i32,
    pub clients_waiting: i32,
    pub servers_active: i32,
    pub servers_idle: i32,
    pub longest_wait_ms: i64,
    pub transactions: i64,
    pub queries: i64,
    pub received_bytes: i64,
    pub sent_bytes: i64,
}

/// Of the tenants that were at work since their poolers started. Those of which nothing was ever seen are not told.
pub async fn of_tenants(store: &PgPool) -> sqlx::Result<Vec<CountsRow>> {
    let sql = concat!(
        "SELECT d.tenant_id, d.pooler_id, k.clients_active, k.clients_waiting, k.servers_active, k.servers_idle, k.longest_wait_ms,
            k.transactions, k.queries, k.received_bytes, k.sent_bytes
        FROM pooler_stats k JOIN tenant_database d ON d.id = k.database_id JOIN pooler p ON p.id = d.pooler_id
        WHERE d.tenant_id IS NOT NULL AND ",
        fresh!(),
        " AND (k.transactions > 0 OR k.clients_active > 0 OR k.clients_waiting > 0)"
    );
    sqlx::query_as(sql).fetch_all(store).await
}
