//! All SQL about stats.

use std::collections::{BTreeMap, HashMap};

use freehold_drivers::server::sql::Counters;
use jiff_sqlx::Timestamp;
use sqlx::PgPool;

/// A database as of its last look. Equal rows need not be written again.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct DatabaseStats {
    pub database: String,
    pub transactions: i64,
    pub blocks_hit: i64,
    pub blocks_read: i64,
    pub deadlocks: i64,
    pub temp_bytes: i64,
    pub connections: i32,
    pub transactions_per_second: Option<f64>,
    pub cache_hit_ratio: Option<f64>,
    pub size_bytes: Option<i64>,
    pub size_transactions: Option<i64>,
    /// It was measured in this round.
    #[sqlx(skip)]
    pub size_is_new: bool,
}

impl DatabaseStats {
    pub fn counters(&self) -> Counters {
        Counters {
            database: self.database.clone(),
            transactions: self.transactions,
            blocks_hit: self.blocks_hit,
            blocks_read: self.blocks_read,
            deadlocks: self.deadlocks,
            temp_bytes: self.temp_bytes,
        }
    }
}

#[derive(Debug, sqlx::FromRow)]
pub struct Known {
    #[sqlx(flatten)]
    pub stats: DatabaseStats,
    /// Seconds since it was measured.
    pub size_age: Option<f64>,
}

/// What a round makes of a server.
#[derive(Debug, Default)]
pub struct ServerTotals {
    pub delta: Counters,
    pub size_bytes: i64,
    pub transactions_per_second: Option<f64>,
}

impl ServerTotals {
    pub fn add(&mut self, more: &Counters) {
        let sum = &mut self.delta;
        sum.transactions = sum.transactions.saturating_add(more.transactions);
        sum.blocks_hit = sum.blocks_hit.saturating_add(more.blocks_hit);
        sum.blocks_read = sum.blocks_read.saturating_add(more.blocks_read);
        sum.deadlocks = sum.deadlocks.saturating_add(more.deadlocks);
        sum.temp_bytes = sum.temp_bytes.saturating_add(more.temp_bytes);
    }
}

pub async fn of_server(store: &PgPool, server: &str, at: Timestamp) -> sqlx::Result<HashMap<String, Known>> {
    // What was measured before a move was done is of a copy that was under way.
    let sql = "SELECT s.*, CASE WHEN d.arrived_at IS NULL OR s.size_at >= d.arrived_at
                THEN extract(epoch FROM $2 - s.size_at)::float8 END AS size_age
        FROM database_stats s LEFT JOIN tenant_database d ON (d.server_id, d.database) = (s.server_id, s.database)
        WHERE s.server_id = $1";
    let rows: Vec<Known> = sqlx::query_as(sql).bind(server).bind(at).fetch_all(store).await?;
    Ok(rows.into_iter().map(|known| (known.stats.database.clone(), known)).collect())
}

/// Tenants' databases of a server, with the name of the login.
pub async fn logins(store: &PgPool, server: &str) -> sqlx::Result<BTreeMap<String, String>> {
    let sql =
        "SELECT d.database, l.role FROM tenant_database d JOIN login l ON l.database_id = d.id AND l.purpose = 'tenant'
        WHERE d.server_id = $1 AND d.state = 'claimed'";
    let rows: Vec<(String, String)> = sqlx::query_as(sql).bind(server).fetch_all(store).await?;
    Ok(rows.into_iter().collect())
}

/// Seconds since the round before; None where this is the first.
pub async fn elapsed(store: &PgPool, server: &str, at: Timestamp) -> sqlx::Result<Option<f64>> {
    let sql = "SELECT extract(epoch FROM $2 - at)::float8 FROM server_stats WHERE server_id = $1";
    sqlx::query_scalar(sql).bind(server).bind(at).fetch_optional(store).await
}

pub async fn record(
    store: &PgPool,
    server: &str,
    at: Timestamp,
    changed: &[&DatabaseStats],
    gone: &[String],
    totals: &ServerTotals,
) -> sqlx::Result<()> {
    let mut tx = store.begin().await?;
    write(&mut tx, server, at, changed).await?;
    let sql = "DELETE FROM database_stats WHERE server_id = $1 AND database = ANY($2)";
    sqlx::query(sql).bind(server).bind(gone).execute(&mut *tx).await?;
    let sql =
        "INSERT INTO server_stats AS s (server_id, at, transactions, blocks_hit, blocks_read, deadlocks, temp_bytes,
            transactions_per_second, last_blocks_hit, last_blocks_read) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $4, $5)
        ON CONFLICT (server_id) DO UPDATE SET at = excluded.at, transactions = s.transactions + excluded.transactions,
            blocks_hit = s.blocks_hit + excluded.blocks_hit, blocks_read = s.blocks_read + excluded.blocks_read,
            deadlocks = s.deadlocks + excluded.deadlocks, temp_bytes = s.temp_bytes + excluded.temp_bytes,
            transactions_per_second = excluded.transactions_per_second,
            last_blocks_hit = CASE WHEN excluded.blocks_hit + excluded.blocks_read > 0 THEN excluded.blocks_hit ELSE s.last_blocks_hit END,
            last_blocks_read = CASE WHEN excluded.blocks_hit + excluded.blocks_read > 0 THEN excluded.blocks_read ELSE s.last_blocks_read END";
    let delta = &totals.delta;
    sqlx::query(sql)
        .bind(server)
        .bind(at)
        .bind(delta.transactions)
        .bind(delta.blocks_hit)
        .bind(delta.blocks_read)
        .bind(delta.deadlocks)
        .bind(delta.temp_bytes)
        .bind(totals.transactions_per_second)
        .execute(&mut *tx)
        .await?;
    let sql = "UPDATE server SET size_bytes = $2 WHERE id = $1 AND size_bytes IS DISTINCT FROM $2";
    sqlx::query(sql).bind(server).bind(totals.size_bytes).execute(&mut *tx).await?;
    tx.commit().await
}

/// All of them in one statement: there may be thousands.
async fn write(
    tx: &mut sqlx::PgConnection,
    server: &str,
    at: Timestamp,
    changed: &[&DatabaseStats],
) -> sqlx::Result<()> {
    let sql = "INSERT INTO database_stats AS s (server_id, database, transactions, blocks_hit, blocks_read, deadlocks, temp_bytes,
            connections, transactions_per_second, cache_hit_ratio, size_bytes, size_transactions, size_at)
        SELECT $1, a, b, c, d, e, f, g, h, i, j, k, CASE WHEN l THEN $2 END
        FROM unnest($3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::int[], $10::float8[],
            $11::float8[], $12::bigint[], $13::bigint[], $14::bool[]) AS x (a, b, c, d, e, f, g, h, i, j, k, l)
        ON CONFLICT (server_id, database) DO UPDATE SET transactions = excluded.transactions, blocks_hit = excluded.blocks_hit,
            blocks_read = excluded.blocks_read, deadlocks = excluded.deadlocks, temp_bytes = excluded.temp_bytes,
            connections = excluded.connections, transactions_per_second = excluded.transactions_per_second,
            cache_hit_ratio = excluded.cache_hit_ratio, size_bytes = excluded.size_bytes,
            size_transactions = excluded.size_transactions, size_at = coalesce(excluded.size_at, s.size_at)";
    macro_rules! column {
        ($field:ident) => {
            changed.iter().map(|row| row.$field.clone()).collect::<Vec<_>>()
        };
    }
    sqlx::query(sql)
        .bind(server)
        .bind(at)
        .bind(column!(database))
        .bind(column!(transactions))
        .bind(column!(blocks_hit))
        .bind(column!(blocks_read))
        .bind(column!(deadlocks))
        .bind(column!(temp_bytes))
        .bind(column!(connections))
        .bind(column!(transactions_per_second))
        .bind(column!(cache_hit_ratio))
        .bind(column!(size_bytes))
        .bind(column!(size_transactions))
        .bind(column!(size_is_new))
        .execute(tx)
        .await?;
    Ok(())
}

/// Of servers that were removed nothing is told any more.
pub async fn forget_removed(store: &PgPool) -> sqlx::Result<()> {
    for sql in [
        "DELETE FROM database_stats WHERE server_id IN (SELECT id FROM server WHERE state = 'removed')",
        "DELETE FROM server_stats WHERE server_id IN (SELECT id FROM server WHERE state = 'removed')",
    ] {
        sqlx::query(sql).execute(store).await?;
    }
    Ok(())
}

/// A tenant's, with what it is granted by its plan left to the caller.
#[derive(Debug, sqlx::FromRow)]
pub struct TenantRow {
    pub tenant: String,
    pub server_id: String,
    pub plan: String,
    #[sqlx(flatten)]
    pub stats: DatabaseStats,
    pub size_at: Option<Timestamp>,
    pub storage_level: Option<i32>,
    pub connections_level: Option<i32>,
}

macro_rules! of_tenants {
    ($tail:literal) => {
        concat!(
            "SELECT t.id AS tenant, d.server_id, t.plan, s.*, st.level AS storage_level, co.level AS connections_level
             FROM tenant t JOIN tenant_database d ON d.tenant_id = t.id AND d.state = 'claimed'
             JOIN database_stats s ON s.server_id = d.server_id AND s.database = d.database
             LEFT JOIN quota_level st ON st.tenant_id = t.id AND st.resource = 'storage'
             LEFT JOIN quota_level co ON co.tenant_id = t.id AND co.resource = 'connections' ",
            $tail
        )
    };
}

/// None while its database was not looked at.
pub async fn of_tenant(store: &PgPool, tenant: &str) -> sqlx::Result<Option<TenantRow>> {
    sqlx::query_as(of_tenants!("WHERE t.id = $1")).bind(tenant).fetch_optional(store).await
}

/// The largest, by what `order` says. `bound`: these tenants only.
pub async fn largest(
    store: &PgPool,
    order: &str,
    server: Option<&str>,
    bound: Option<&[String]>,
    limit: i64,
) -> sqlx::Result<Vec<TenantRow>> {
    let sql = of_tenants!(
        "WHERE ($2::text IS NULL OR d.server_id = $2) AND ($3::text[] IS NULL OR t.id = ANY($3))
         ORDER BY CASE $1 WHEN 'connections' THEN s.connections::float8 WHEN 'transactions' THEN s.transactions_per_second
             ELSE s.size_bytes::float8 END DESC NULLS LAST, t.id LIMIT $4"
    );
    sqlx::query_as(sql).bind(order).bind(server).bind(bound).bind(limit).fetch_all(store).await
}

#[derive(Debug, sqlx::FromRow)]
pub struct ServerRound {
    pub server_id: String,
    pub at: Timestamp,
    pub transactions: i64,
    pub blocks_hit: i64,
    pub blocks_read: i64,
    pub deadlocks: i64,
    pub temp_bytes: i64,
    pub transactions_per_second: Option<f64>,
    pub last_blocks_hit: i64,
    pub last_blocks_read: i64,
}

pub async fn rounds(store: &PgPool) -> sqlx::Result<HashMap<String, ServerRound>> {
    let rows: Vec<ServerRound> =
        sqlx::query_as("SELECT x.* FROM server_stats x JOIN server s ON s.id = x.server_id AND s.state <> 'removed'")
            .fetch_all(store)
            .await?;
    Ok(rows.into_iter().map(|row| (row.server_id.clone(), row)).collect())
}

/// Of every resource, how many tenants are at 80 and how many at 100 percent.
pub async fn quota_counts(store: &PgPool) -> sqlx::Result<Vec<(String, i32, i64)>> {
    sqlx::query_as("SELECT resource, level, count(*) FROM quota_level GROUP BY 1, 2").fetch_all(store).await
}
