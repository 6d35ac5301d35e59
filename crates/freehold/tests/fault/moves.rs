//! Moves between two servers, for scenarios: what they begin with, and how a run is cleaned up after.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use freehold_testkit::{ADMIN, Cluster, ClusterBuilder, as_tenant};
use reqwest::Method;
use serde_json::{Value as Json, json};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::rig::{Rig, SERVER};
use crate::scenario::Scenario;
use crate::serving::{Serve, until};

/// A rig whose settings say so has two servers.
pub const TWO: &str = r#"# two servers
[stock]
per_template = 0
[[plan]]
name = "standard"
default = true
[[plan]]
name = "own"
rank = 1
server = "dedicated"
connection_limit = 50
extensions = ["citext"]
"#;
pub const OTHER: &str = "two";

/// Each row takes its time when it is copied: there is time for a change of the schema.
pub const SLOW: &str = "CREATE FUNCTION slow(int) RETURNS bool LANGUAGE sql AS 'SELECT true'; \
    CREATE TABLE slow (id int PRIMARY KEY CHECK (slow(id))); INSERT INTO slow SELECT generate_series(1, 40); \
    CREATE OR REPLACE FUNCTION slow(int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_catalog.pg_sleep(0.05); RETURN true; END $$";
const LATE: &str = "CREATE TABLE late (id int PRIMARY KEY); INSERT INTO late VALUES (1)";
const USUAL: &str = "CREATE TABLE keyless (n int); INSERT INTO keyless SELECT generate_series(1, 100); \
    CREATE UNLOGGED TABLE scratch (n int); INSERT INTO scratch VALUES (7); CREATE SEQUENCE tickets; SELECT nextval('tickets')";
/// What no log carries, and what hides rows from whoever reads them.
pub const UNCARRIED: &str = "CREATE TABLE keyless (j json); INSERT INTO keyless SELECT '{}' FROM generate_series(1, 100); \
    CREATE UNLOGGED TABLE scratch (n int); INSERT INTO scratch VALUES (7); CREATE SEQUENCE tickets; SELECT nextval('tickets'); \
    SELECT lo_from_bytea(0, 'large'); CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM keyless; \
    CREATE TABLE secret (who text PRIMARY KEY); INSERT INTO secret VALUES ('a'), ('b'); CREATE POLICY none ON secret USING (who = 'a'); \
    ALTER TABLE secret ENABLE ROW LEVEL SECURITY; ALTER TABLE secret FORCE ROW LEVEL SECURITY";

/// Of two that are as large as each other the first by name goes.
const MEASURED: &str =
    "INSERT INTO database_stats (server_id, database, transactions, blocks_hit, blocks_read, deadlocks, temp_bytes,
        connections, transactions_per_second, size_bytes, size_at)
    SELECT server_id, database, 0, 0, 0, 0, 0, 0, 0, 100 << 20, now() FROM tenant_database WHERE tenant_id IS NOT NULL
    ON CONFLICT (server_id, database) DO UPDATE SET size_bytes = excluded.size_bytes, transactions_per_second = 0";

/// They are in a catalog of the whole server.
const SUBSCRIPTIONS: &str = "SELECT subname::text FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database()";

pub fn cluster() -> ClusterBuilder {
    Cluster::builder(15)
        .setting("wal_level", "logical")
        .setting("max_logical_replication_workers", "8")
        .setting("max_sync_workers_per_subscription", "4")
        .setting("max_worker_processes", "16")
        .setting("wal_retrieve_retry_interval", "100ms")
}

impl Scenario {
    pub fn is_move(self) -> bool {
        matches!(
            self,
            Self::Move
                | Self::MoveUnfollowed
                | Self::MoveByDump
                | Self::MoveRedone
                | Self::MoveBack
                | Self::MoveFinished
                | Self::MoveAbandoned
                | Self::Drain
                | Self::DrainCheck
                | Self::Rebalance
                | Self::PlanMoved
                | Self::PlanMovedBack
        ) || self.is_suspended()
    }

    /// Whether nobody is to come in, on whichever side, at any moment of it.
    pub fn is_suspended(self) -> bool {
        matches!(
            self,
            Self::MoveSuspended | Self::MoveSuspendedByDump | Self::MoveSuspendedBack | Self::MoveSuspendedFinished
        )
    }

    /// Whether another plan, of another kind of server, is what it moves for.
    fn is_about_plan(self) -> bool {
        matches!(self, Self::PlanMoved | Self::PlanMovedBack)
    }

    /// A tenant on the first server; for what comes after a move, moved.
    pub async fn prepare_move(self, rig: &Rig, serve: &Serve, id: &str) {
        rig.is_for_one(self.is_about_plan()).await;
        if self == Self::Rebalance {
            let sql = "INSERT INTO \"freeze\" (target, by) VALUES ('stats', 'test') ON CONFLICT DO NOTHING";
            rig.sql.batch_execute(sql).await.expect("freeze the loop");
        }
        post(serve, &format!("/v1/servers/{OTHER}/cordon"), json!({})).await;
        for id in self.who_moves(id) {
            let (status, body) = serve.post("/v1/tenants", json!({"id": id, "template": "made"})).await;
            assert_eq!(status, 201, "{body}\n{}", serve.output());
        }
        post(serve, &format!("/v1/servers/{OTHER}/uncordon"), json!({})).await;
        if self == Self::Rebalance {
            rig.sql.batch_execute(MEASURED).await.expect("measure the tenants");
        }
        let sql = match self {
            Self::MoveRedone => SLOW,
            Self::MoveByDump | Self::MoveSuspendedByDump => UNCARRIED,
            _ => USUAL,
        };
        session(serve, id).await.batch_execute(sql).await.expect("make what is moved");
        if self.is_suspended() && self != Self::MoveSuspendedFinished {
            suspend(serve, id).await;
        }
        if matches!(self, Self::MoveBack | Self::MoveFinished | Self::MoveAbandoned)
            || matches!(self, Self::MoveSuspendedBack | Self::MoveSuspendedFinished)
        {
            over(serve, &format!("/v1/tenants/{id}/move"), json!({"to": {"server": OTHER}})).await;
        }
        if self == Self::MoveSuspendedFinished {
            suspend(serve, id).await;
        }
        if self == Self::PlanMovedBack {
            over(serve, &format!("/v1/tenants/{id}/plan"), json!({"plan": "own"})).await;
        }
    }

    pub async fn act_on_move(self, rig: &Rig, serve: &Serve, id: &str) {
        if matches!(self, Self::Drain | Self::DrainCheck) {
            let body = json!({"keep_seconds": 600, "dry_run": self == Self::DrainCheck});
            return serve.begin(Method::POST, &format!("/v1/servers/{SERVER}/drain"), Some(body)).await;
        }
        if self == Self::Rebalance {
            let body = json!({"keep_seconds": 600, "confirm": true});
            return serve.begin(Method::POST, "/v1/rebalance", Some(body)).await;
        }
        let (path, body) = match self {
            Self::MoveBack | Self::MoveSuspendedBack | Self::PlanMovedBack => ("move/rollback", json!({})),
            Self::PlanMoved => ("plan", json!({"plan": "own"})),
            Self::MoveFinished | Self::MoveSuspendedFinished => ("move/finish", json!({})),
            Self::MoveAbandoned => ("move/finish", json!({"abandon": true, "confirm": id})),
            Self::MoveByDump | Self::MoveSuspendedByDump => {
                ("move", json!({"to": {"server": OTHER}, "method": "dump"}))
            }
            _ => ("move", json!({"to": {"server": OTHER}, "deadline_seconds": 10})),
        };
        // Read before: the process may be dead by the time that the schema is changed.
        let tenant = match self {
            Self::MoveRedone => Some(session(serve, id).await),
            _ => None,
        };
        serve.begin(Method::POST, &format!("/v1/tenants/{id}/{path}"), Some(body)).await;
        if let Some(tenant) = tenant {
            // Wherever it is by then, or was killed: a change of the schema is never lost.
            let alive = async || serve.try_request(Method::GET, "/health/live", None).await.is_ok();
            let copies = async || {
                let newest = rig.newest("tenant.move").await.expect("it was begun");
                newest.1 == "Copy" || ["succeeded", "failed", "cancelled", "stuck"].contains(&newest.0.as_str())
            };
            while !copies().await && alive().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tenant.batch_execute(LATE).await.expect("the tenant changes its schema");
        }
    }

    /// Nothing is kept of it on either server.
    pub async fn clean_move(self, rig: &Rig, serve: &Serve, id: &str) {
        if self == Self::Drain {
            post(serve, &format!("/v1/servers/{SERVER}/uncordon"), json!({})).await;
        }
        for id in self.who_moves(id) {
            let (status, stands) = serve.get(&format!("/v1/tenants/{id}/move")).await;
            if status == 200 {
                assert!(stands["keep_until"].is_string(), "{stands}\n{}", serve.output());
                over(serve, &format!("/v1/tenants/{id}/move/finish"), json!({})).await;
            }
            if self == Self::MoveAbandoned {
                rig.drop_abandoned(&id, &rig.owner(&id).await).await;
            }
            serve.purge(&id).await;
        }
    }

    /// Two where all of a server go: whoever takes over finds one that is under way, and one that is not.
    fn who_moves(self, id: &str) -> Vec<String> {
        match self {
            Self::Drain | Self::Rebalance => vec![id.to_owned(), format!("{id}-too")],
            _ => vec![id.to_owned()],
        }
    }
}

impl Rig {
    /// The other server, which is registered as one for many, becomes one for a single tenant, or is one for many again.
    async fn is_for_one(&self, one: bool) {
        let kind = if one { "dedicated" } else { "shared" };
        // It would have a database ready there, at its own time.
        let sql = "INSERT INTO \"freeze\" (target, by) VALUES ('stock', 'test') ON CONFLICT DO NOTHING";
        self.sql.batch_execute(sql).await.expect("freeze the loop");
        let sql = "UPDATE server SET kind = $2 WHERE id = $1 AND kind <> $2";
        if self.sql.execute(sql, &[&OTHER, &kind]).await.expect("change the server's kind") > 0 {
            // For longer than a look at the fleet is held to be new.
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
    }

    pub async fn add_other(&self, serve: &Serve) {
        let other = self.second.as_ref().expect("the rig has two servers");
        let (status, body) =
            serve.post("/v1/servers", json!({"id": OTHER, "dsn": other.dsn(ADMIN), "capacity": 50})).await;
        assert_eq!(status, 201, "{body}\n{}", serve.output());
    }

    /// Who of a tenant may log in, Freehold's own login in its database with them, on either server.
    pub async fn admitted(&self, id: &str) -> Vec<String> {
        let sql = "SELECT role FROM login l JOIN tenant_database d ON d.id = l.database_id WHERE d.tenant_id = $1";
        let logins = self.sql.query(sql, &[&id]).await.expect("read its logins");
        let logins: Vec<String> = logins.iter().map(|row| format!("'{}'", row.get::<_, String>(0))).collect();
        assert!(logins.len() >= 2, "of {id} there are {logins:?}");
        let sql =
            format!("SELECT rolname::text FROM pg_roles WHERE rolcanlogin AND rolname IN ({})", logins.join(", "));
        let mut admitted = Vec::new();
        for (name, cluster) in [(SERVER, self.server()), (OTHER, self.second.as_ref().expect("two servers"))] {
            let found = column(&cluster.connect("postgres").await, &sql).await;
            admitted.extend(found.into_iter().map(|role| format!("{role} on {name}")));
        }
        admitted
    }

    pub async fn owner(&self, id: &str) -> String {
        let sql = "SELECT owner FROM tenant_database WHERE tenant_id = $1";
        self.sql.query_one(sql, &[&id]).await.expect("the tenant has a database").get(0)
    }

    /// What a person does on a server that was given up and is back.
    pub async fn drop_abandoned(&self, id: &str, owner: &str) {
        let database = format!("made_{}", id.replace('-', "_"));
        let home = self.server().connect("postgres").await;
        let there = format!("SELECT datname::text FROM pg_database WHERE datname = '{database}'");
        if column(&home, &there).await.is_empty() {
            return;
        }
        let inside = self.server().connect(&database).await;
        for name in column(&inside, SUBSCRIPTIONS).await {
            for verb in ["DISABLE", "SET (slot_name = NONE)"] {
                inside.batch_execute(&format!("ALTER SUBSCRIPTION {name} {verb}")).await.expect("end a subscription");
            }
            inside.batch_execute(&format!("DROP SUBSCRIPTION {name}")).await.expect("drop a subscription");
        }
        drop(inside);
        home.batch_execute(&format!("DROP DATABASE {database} WITH (FORCE)")).await.expect("drop a database");
        // Roles of a direction, where nothing is left that names them; then the tenant's.
        let roles = format!(
            "SELECT rolname::text FROM pg_roles r WHERE rolname LIKE 'fh\\_back\\_%' AND NOT EXISTS (SELECT FROM pg_shdepend d
                WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid)
             OR starts_with(rolname, '{owner}') OR starts_with(rolname, '{database}_')"
        );
        for role in column(&home, &roles).await {
            home.batch_execute(&format!("DROP ROLE {role}")).await.expect("drop a role");
        }
    }

    /// What the pictures of other scenarios have no eye for: the second server, and what replicates.
    pub async fn of_moves(&self) -> Vec<String> {
        let Some(second) = &self.second else { return Vec::new() };
        let mut lines = Vec::new();
        for (name, cluster) in [(SERVER, self.server()), (OTHER, second)] {
            let home = cluster.connect("postgres").await;
            let mut found = column(&home, "SELECT 'slot ' || slot_name FROM pg_replication_slots").await;
            found.extend(
                column(&home, "SELECT format('subscription %s enabled=%s', subname, subenabled) FROM pg_subscription")
                    .await,
            );
            found.extend(column(&home, "SELECT format('role %s login=%s limit=%s', rolname, rolcanlogin, rolconnlimit) FROM pg_roles WHERE rolname LIKE 'fh\\_%' OR rolname LIKE 'made\\_%'").await);
            let databases =
                column(&home, "SELECT datname::text FROM pg_database WHERE datallowconn AND datname LIKE 'made\\_%'")
                    .await;
            for database in databases {
                let inside = cluster.connect(&database).await;
                found.push(format!("database {database}"));
                found.extend(column(&inside, "SELECT 'extension ' || extname FROM pg_extension").await);
                found.extend(column(&inside, "SELECT 'publication ' || pubname FROM pg_publication").await);
                found.extend(column(&inside, "SELECT format('%s identity=%s', relname, relreplident) FROM pg_class WHERE relkind = 'r' AND relname IN ('keyless', 'info', 'late')").await);
                found.extend(
                    column(&inside, "SELECT 'forced ' || relname FROM pg_class WHERE relforcerowsecurity").await,
                );
                found.extend(
                    column(&inside, "SELECT 'marker ' || relname FROM pg_class WHERE relname = 'move_marker'").await,
                );
            }
            lines.extend(found.into_iter().map(|line| format!("on {name}: {line}")));
        }
        lines
    }
}

async fn suspend(serve: &Serve, id: &str) {
    post(serve, &format!("/v1/tenants/{id}/suspend"), json!({"reason": "unpaid"})).await;
}

/// Looks all the time whether somebody of a tenant's could log in, or is in, on either server.
pub struct Watch {
    looks: JoinHandle<Vec<String>>,
    over: Arc<AtomicBool>,
}

impl Watch {
    pub async fn over(rig: &Rig, id: &str) -> Self {
        let logins = format!("made\\_{}\\_%", id.replace('-', "\\_"));
        let sql = format!(
            "SELECT rolname::text || ' may log in' FROM pg_roles WHERE rolcanlogin AND rolname LIKE '{logins}'
                UNION SELECT usename::text || ' is in' FROM pg_stat_activity WHERE usename LIKE '{logins}'"
        );
        let other = rig.second.as_ref().expect("the rig has two servers");
        let servers = [(SERVER, rig.server().connect("postgres").await), (OTHER, other.connect("postgres").await)];
        let over = Arc::<AtomicBool>::default();
        let ends = over.clone();
        let looks = tokio::spawn(async move {
            let mut seen = Vec::new();
            while !ends.load(Ordering::Relaxed) {
                for (name, server) in &servers {
                    seen.extend(column(server, &sql).await.into_iter().map(|what| format!("on {name}: {what}")));
                }
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            seen.dedup();
            seen
        });
        Self { looks, over }
    }

    /// What it saw.
    pub async fn end(self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        self.looks.await.expect("it looked to the end")
    }
}

async fn column(client: &Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.iter().map(|row| row.get(0)).collect()
}

async fn session(serve: &Serve, id: &str) -> Client {
    let (status, connection) = serve.get(&format!("/v1/tenants/{id}/connection")).await;
    assert_eq!(status, 200, "{connection}");
    as_tenant(&connection).await.expect("the tenant logs in")
}

async fn post(serve: &Serve, path: &str, body: Json) {
    let (status, answer) = serve.post(path, body).await;
    assert_eq!(status, 200, "{path}: {answer}\n{}", serve.output());
}

/// Begun, and done.
pub async fn over(serve: &Serve, path: &str, body: Json) {
    let (status, begun) = serve.post(path, body).await;
    if status == 202 {
        let operation = format!("/v1/operations/{}", begun["id"].as_str().expect("an operation has an id"));
        until(path, async || serve.get(&operation).await.1["state"] == "succeeded").await;
        return;
    }
    assert_eq!(status, 200, "{path}: {begun}\n{}", serve.output());
}
