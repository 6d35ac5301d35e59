//! Issue 5, item 6: the sizes of three servers are evened out while tenants write a little, and nobody notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use freehold_testkit::{Directory, Plane, Told, as_tenant};
use reqwest::Method;
use serde_json::{Value as Json, json};
use tokio::task::JoinHandle;

use crate::bench::BINARY;
use crate::story::{connection, create, pooler, until};

/// Without prepared statements of its own, a PgBouncer is told that it lends connections for a transaction all the same.
const SETTINGS: &str = "[[plan]]\nname = \"standard\"\ndefault = true\npool_mode = \"transaction\"\n\
    [stats]\nperiod_seconds = 2\nsize_period_seconds = 2\n";
const PATH: &str = "/v1/rebalance";
/// MiB, beside what an empty database takes: all of it on the first server is three times too much.
const FILLED: [(&str, u32); 6] = [("acme", 64), ("blue", 48), ("corp", 40), ("delta", 32), ("echo", 24), ("fern", 16)];
/// A little, as it may be at night: less than counts as load.
const PAUSE: Duration = Duration::from_millis(300);
/// A machine that does much else copies slowly.
const PATIENCE: Duration = Duration::from_secs(300);

struct Writer {
    id: &'static str,
    stop: Arc<AtomicBool>,
    task: JoinHandle<Told>,
}

impl Writer {
    fn start(id: &'static str, pooled: Json) -> Self {
        let stop = Arc::<AtomicBool>::default();
        Self { id, task: tokio::spawn(write(pooled, stop.clone())), stop }
    }

    /// What was said to be committed is there, once, and nothing else.
    async fn end(self, plane: &Plane) {
        self.stop.store(true, Ordering::Relaxed);
        let told = self.task.await.unwrap();
        let client = as_tenant(&connection(plane, self.id).await["direct"]).await.unwrap();
        let rows = client.query("select id from ledger", &[]).await.unwrap();
        told.compare("ledger", &rows.iter().map(|row| row.get(0)).collect::<Vec<_>>()).unwrap();
        assert!(told.committed.len() > 10, "{} wrote next to nothing", self.id);
    }
}

/// A table without a key: what came twice would be there twice. An error is nothing that it may see.
async fn write(pooled: Json, stop: Arc<AtomicBool>) -> Told {
    let client = as_tenant(&pooled).await.unwrap();
    let mut told = Told::default();
    while !stop.load(Ordering::Relaxed) {
        let id = told.committed.len() as i64;
        client.batch_execute(&format!("insert into ledger values ({id})")).await.expect("nobody notices");
        told.committed.insert(id);
        tokio::time::sleep(PAUSE).await;
    }
    told
}

async fn suggestion(plane: &Plane) -> Json {
    let (status, _, found) = plane.get(PATH).await;
    assert_eq!(status, 200, "{found}");
    found
}

/// Once it is like this; by the way of `what` it says why it never is.
async fn suggested(plane: &Plane, what: &str, is: impl Fn(&Json) -> bool) -> Json {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = suggestion(plane).await;
        if is(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: {found:#}\n{}", plane.output());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn why(of: &Json) -> &str {
    of["groups"][0]["why"].as_str().unwrap_or_default()
}

fn moves(of: &Json) -> Vec<(String, String)> {
    let text = |one: &Json, name: &str| one[name].as_str().unwrap().to_owned();
    of["moves"].as_array().unwrap().iter().map(|one| (text(one, "tenant"), text(one, "to"))).collect()
}

/// In percent of the mean, by what PostgreSQL itself says.
async fn furthest(plane: &Plane) -> f64 {
    let mut sizes: Vec<f64> = Vec::new();
    for server in ["local-1", "local-2", "local-3"] {
        let mut sum = 0;
        for (id, _) in FILLED {
            if plane.get(&format!("/v1/tenants/{id}")).await.2["server"] == server {
                let client = as_tenant(&connection(plane, id).await["direct"]).await.unwrap();
                let size = client.query_one("select pg_database_size(current_database())", &[]).await.unwrap();
                sum += size.get::<_, i64>(0);
            }
        }
        sizes.push(sum as f64);
    }
    let mean = sizes.iter().sum::<f64>() / 3.0;
    sizes.iter().map(|size| (size - mean).abs() / mean * 100.0).fold(0.0, f64::max)
}

pub async fn sizes_of_three_servers_are_evened_out_while_tenants_write(version: &'static str) {
    let directory = Directory::new();
    let settings = directory.path().join("freehold.toml");
    std::fs::write(&settings, SETTINGS).unwrap();
    let plane = Plane::dev(BINARY).pooler(version).stock(0).arg("--servers").arg("3");
    let plane = plane.arg("--settings").arg(settings.display().to_string()).start().await;
    until("the pooler is healthy", async || match pooler(&plane).await {
        pooler if pooler["health"] == "healthy" => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    for server in ["local-2", "local-3"] {
        assert_eq!(plane.post(&format!("/v1/servers/{server}/cordon"), json!({})).await.0, 200);
    }
    let mut writers = Vec::new();
    for (id, mib) in FILLED {
        create(&plane, id).await;
        until("the pooler has it", async || match connection(&plane, id).await["pooled"]["ready"].clone() {
            Json::Bool(true) => Ok(()),
            other => Err(other.to_string()),
        })
        .await;
        let made = connection(&plane, id).await;
        let fill = format!(
            "create table ledger (id bigint); create table filler (id int primary key, b bytea); \
             alter table filler alter b set storage external; \
             insert into filler select g, convert_to(repeat('x', 1048576), 'UTF8') from generate_series(1, {mib}) g"
        );
        as_tenant(&made["direct"]).await.unwrap().batch_execute(&fill).await.unwrap();
        // One that will stay, perhaps, and some that will not.
        if mib != 32 && mib != 24 {
            writers.push(Writer::start(id, made["pooled"].clone()));
        }
    }
    for server in ["local-2", "local-3"] {
        assert_eq!(plane.post(&format!("/v1/servers/{server}/uncordon"), json!({})).await.0, 200);
    }

    // All of it is on one; once it was measured whole, it is said what would be done.
    let whole = |found: &Json| {
        let servers = found["groups"][0]["servers"].as_array();
        let sizes = servers.into_iter().flatten().map(|server| server["now"]["bytes"].as_u64().unwrap_or_default());
        let mut left_out = found["groups"][0]["left_out"].as_array().into_iter().flatten();
        let is_measured = left_out.all(|left| left["code"] != "not_measured");
        sizes.sum::<u64>() > 224 << 20 && is_measured && !moves(found).is_empty()
    };
    let told = suggested(&plane, "it is said who would move", whole).await;
    let group = &told["groups"][0];
    assert!(
        group["off_percent"].as_f64() > Some(150.0) && group["off_percent_after"].as_f64() <= Some(10.0),
        "{told:#}"
    );
    let would = moves(&told);
    assert!((3..=6).contains(&would.len()), "{told:#}");
    assert!(furthest(&plane).await > 150.0);

    let body = json!({"confirm": true, "keep_seconds": 0, "at_once": 2});
    let (status, _, begun) = plane.request(Method::POST, PATH, &[("prefer", "wait=0")], Some(body)).await;
    assert_eq!(status, 202, "{begun}");
    let over = suggested(&plane, "it is over", |found| {
        ["succeeded", "failed", "stuck"].contains(&found["newest"]["state"].as_str().unwrap_or_default())
    })
    .await;
    assert_eq!((&over["newest"]["state"], &over["newest"]["left"]), (&json!("succeeded"), &json!(0)), "{over:#}");

    // As it was said, and even by what PostgreSQL says; and asked again, at once and when all is measured, nobody moves.
    assert_eq!(over["newest"]["moved"].as_u64(), Some(would.len() as u64), "{over:#}");
    let off = furthest(&plane).await;
    assert!(off <= 10.0, "{off} % off: {over:#}");
    assert!(moves(&over).is_empty(), "{over:#}");
    let after = suggested(&plane, "all is measured", |found| !why(found).contains("not measured")).await;
    assert!(why(&after).contains("within 10 %") && moves(&after).is_empty(), "{after:#}");
    for writer in writers {
        writer.end(&plane).await;
    }
}
