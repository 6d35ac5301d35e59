//! A migrated control store, and rows in it that nobody made.

use freehold_control::start;
use freehold_testkit::{ADMIN, Cluster};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

pub struct Store {
    pub pool: PgPool,
    // Last: connections end before it does.
    cluster: Cluster,
}

impl Store {
    pub async fn start() -> Self {
        let cluster = Cluster::start(15);
        let pool = PgPoolOptions::new().max_connections(20).connect(&cluster.dsn(ADMIN)).await;
        let pool = pool.expect("connect to the control store");
        start::migrate(&pool).await.expect("migrate");
        let store = Self { pool, cluster };
        store.run("INSERT INTO template (name, version, manifest, files, current, stocked, shipped) VALUES ('default', 'v', '{}', '{}', true, true, true)").await;
        store
    }

    pub fn dsn(&self) -> String {
        self.cluster.dsn(ADMIN)
    }

    pub async fn run(&self, sql: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&self.pool)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub async fn one<T>(&self, sql: &str) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let row = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&self.pool).await;
        row.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub async fn server(&self, id: &str) {
        let sql = format!(
            "INSERT INTO server (id, kind, state, capacity, dsn, dsn_sealed, dsn_seal_id, tenant_host, tenant_port, tenant_sslmode)
             VALUES ('{id}', 'shared', 'active', 1000, '', '', gen_random_uuid(), '{id}.example', 5432, 'require')"
        );
        self.run(&sql).await;
    }

    pub async fn pooler(&self, id: &str, capacity: u32) {
        let sql = format!(
            "INSERT INTO pooler (id, kind, management, host, port, sslmode, capacity)
             VALUES ('{id}', 'pgbouncer', 'agent', '{id}.example', 6432, 'verify-full', {capacity})"
        );
        self.run(&sql).await;
    }

    /// In stock and ready; called as its owner is.
    pub async fn database(&self, server: &str, owner: &str) -> Uuid {
        let id = Uuid::now_v7();
        let sql = format!(
            "INSERT INTO tenant_database (id, server_id, template, template_version, plan, state, database, owner, ready_at)
                VALUES ('{id}', '{server}', 'default', 'v', 'standard', 'ready', '{owner}', '{owner}', now());
             INSERT INTO login (id, database_id, server_id, purpose, role, password, verifier)
                VALUES (gen_random_uuid(), '{id}', '{server}', 'tenant', '{owner}_l', '', 'SCRAM-SHA-256$4096:{owner}'),
                    (gen_random_uuid(), '{id}', '{server}', 'maintenance', '{owner}_m', '', 'SCRAM-SHA-256$4096:m')"
        );
        self.run(&sql).await;
        id
    }

    pub async fn claim(&self, database: Uuid, tenant: &str) {
        let sql = format!(
            "INSERT INTO tenant (id, name, plan, template, state) VALUES ('{tenant}', '', 'standard', 'default', 'active');
             UPDATE tenant_database SET state = 'claimed', tenant_id = '{tenant}', claimed_at = now() WHERE id = '{database}'"
        );
        self.run(&sql).await;
    }
}
