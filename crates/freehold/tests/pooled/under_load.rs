//! pgbench works through the pooler while its tenant moves again and again, and while a move is rolled back: no transaction
//! fails, none is tried again, and every one that was committed is there once.

use std::time::{Duration, Instant};

use freehold_testkit::{Directory, Plane, as_tenant, is_soak};
use serde_json::{Value as Json, json};
use tokio_postgres::{Client, Config, NoTls};

use crate::bench::BINARY;
use crate::moves::post;
use crate::pgbench::Pgbench;
use crate::story::{ask, connection, create, pooler, until};

/// Without prepared statements of its own, a PgBouncer is told that it lends connections for a transaction all the same.
const TRANSACTIONS: &str = "[[plan]]\nname = \"standard\"\ndefault = true\npool_mode = \"transaction\"\n";
const TABLES: [&str; 4] = ["pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"];
const SERVERS: [&str; 2] = ["local-1", "local-2"];

/// What PgBouncer keeps of prepared statements for a client, 1.21 and later.
fn mode(version: &str) -> &'static str {
    if version == "1.18" { "simple" } else { "prepared" }
}

struct World {
    plane: Plane,
    /// Of the tenant, on the first of two servers.
    made: Json,
    // Last: the plane reads it at each start.
    _settings: Directory,
}

impl World {
    async fn start(version: &str) -> Self {
        let directory = Directory::new();
        let settings = directory.path().join("freehold.toml");
        std::fs::write(&settings, TRANSACTIONS).unwrap();
        let plane = Plane::dev(BINARY).pooler(version).stock(0).arg("--servers").arg("2");
        let plane = plane.arg("--settings").arg(settings.display().to_string()).start().await;
        until("the pooler is healthy", async || match pooler(&plane).await {
            pooler if pooler["health"] == "healthy" => Ok(()),
            other => Err(other.to_string()),
        })
        .await;
        assert_eq!(plane.post("/v1/servers/local-2/cordon", json!({})).await.0, 200);
        create(&plane, "acme").await;
        create(&plane, "neighbour").await;
        assert_eq!(plane.post("/v1/servers/local-2/uncordon", json!({})).await.0, 200);
        until("the pooler has it", async || match connection(&plane, "acme").await["pooled"]["ready"].clone() {
            Json::Bool(true) => Ok(()),
            other => Err(other.to_string()),
        })
        .await;
        let made = connection(&plane, "acme").await;
        Pgbench::fill(&made["direct"]).await;
        Self { plane, made, _settings: directory }
    }

    async fn go(&self, server: &str) {
        let moved = post(&self.plane, "move", json!({"to": {"server": server}, "deadline_seconds": 10})).await;
        assert_eq!(moved["server"], server);
        let stands = self.plane.get("/v1/tenants/acme/move").await.2;
        assert_eq!(stands["digests"], "equal", "{stands:#}\n{}", self.plane.output());
    }

    /// In its database on one of the servers.
    async fn inside(&self, server: usize) -> Client {
        self.admin(server, self.made["direct"]["database"].as_str().unwrap()).await
    }

    /// As Freehold's.
    async fn admin(&self, server: usize, database: &str) -> Client {
        let text = std::fs::read_to_string(self.plane.data_dir().join("dev.toml")).unwrap();
        let table: toml::Table = text.parse().unwrap();
        let port = match server {
            0 => &table["postgres_port"],
            _ => &table["server"][server - 1]["port"],
        };
        let mut config = Config::new();
        config.host_path(self.plane.data_dir().join("run")).port(port.as_integer().unwrap().try_into().unwrap());
        config.user("freehold_admin").dbname(database);
        let (client, session) = config.connect(NoTls).await.unwrap();
        tokio::spawn(session);
        client
    }
}

pub async fn pgbench_notices_nothing_of_many_moves(version: &'static str) {
    let world = World::start(version).await;
    let mut pgbench = Pgbench::start(&world.made["pooled"], mode(version));
    let moves = if is_soak() { 20 } else { 3 };
    for number in 1..=moves {
        pgbench.more(Duration::from_secs(1)).await;
        world.go(SERVERS[number % 2]).await;
        pgbench.more(Duration::from_secs(1)).await;
        if number < moves {
            post(&world.plane, "move/finish", json!({})).await;
        }
    }
    let ran = pgbench.end().await;
    assert!(ran.told.committed.len() > moves * 100, "{} transactions: nothing was tried", ran.told.committed.len());
    ran.check(&connection(&world.plane, "acme").await["direct"]).await;
    // The side that was left has followed: row by row it is the same.
    let (one, other) = (world.inside(0).await, world.inside(1).await);
    for table in TABLES {
        let sql = format!("SELECT count(*) || ' ' || md5(string_agg(t::text, ';' ORDER BY t::text)) FROM {table} t");
        until("both sides are the same", async || {
            let (left, right) = (ask(&one, &sql).await.unwrap(), ask(&other, &sql).await.unwrap());
            if left == right { Ok(()) } else { Err(format!("{table}: {left} and {right}")) }
        })
        .await;
    }
}

pub async fn pgbench_notices_nothing_of_a_rollback(version: &'static str) {
    let world = World::start(version).await;
    world.go(SERVERS[1]).await;
    let mut pgbench = Pgbench::start(&world.made["pooled"], mode(version));
    pgbench.more(Duration::from_secs(if is_soak() { 60 } else { 8 })).await;
    // Whoever makes a slot waits for these.
    let neighbour = as_tenant(&connection(&world.plane, "neighbour").await["direct"]).await.unwrap();
    let beside = world.admin(1, "postgres").await;
    for writes in [&neighbour, &beside] {
        writes.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    }
    let began = Instant::now();
    let back = post(&world.plane, "move/rollback", json!({})).await;
    assert_eq!(back["server"], SERVERS[0]);
    let took = began.elapsed();
    assert!(ask(&neighbour, "SELECT 'still open'").await.is_ok());
    neighbour.batch_execute("COMMIT").await.unwrap();
    pgbench.more(Duration::from_secs(2)).await;
    let ran = pgbench.end().await;
    assert!(ran.told.committed.len() > 500, "{} transactions in {took:?}", ran.told.committed.len());
    ran.check(&connection(&world.plane, "acme").await["direct"]).await;
    assert_eq!(world.plane.get("/v1/tenants/acme/move").await.0, 404);
}
