//! The budget of a server, with a real one that admits few, and more tenants than it has connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use freehold_testkit::{ADMIN, Cluster, Directory, Plane, as_tenant};
use futures::future::join_all;
use serde_json::{Value as Json, json};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::bench::{BINARY, PATIENCE};

/// Of PostgreSQL. 10 of them are for superusers, as on servers that Freehold runs; of the 30 that are left, 10 are kept back.
const SETTINGS: [(&str, &str); 2] = [("max_connections", "40"), ("superuser_reserved_connections", "10")];
const ADMITS: i64 = 30;
const BUDGET: i64 = 20;

struct Small {
    plane: Plane,
    cluster: Cluster,
    connections: Vec<Json>,
    // Last: the plane reads it at each start.
    _settings: Directory,
}

impl Small {
    /// A pooler, and a server for all tenants.
    async fn with_tenants(version: &str, count: usize, oversubscription: u32) -> Self {
        let directory = Directory::new();
        let file = directory.path().join("freehold.toml");
        let settings = format!(
            "[pooler]\noversubscription = {oversubscription}\n[health]\nperiod_seconds = 1\n\
             [[plan]]\nname = \"small\"\ndefault = true\npool_size = 5\npool_mode = \"transaction\"\n\
             [[plan]]\nname = \"big\"\nconnection_limit = 60\npool_size = 40\npool_reserve = 10\npool_mode = \"transaction\"\n"
        );
        std::fs::write(&file, settings).unwrap();
        let settings = file.display().to_string();
        let plane = Plane::dev(BINARY).pooler(version).stock(0).arg("--settings").arg(settings).start().await;
        let cluster = SETTINGS.iter().fold(Cluster::builder(15), |cluster, (name, value)| cluster.setting(name, value));
        let cluster = cluster.start();
        let body = json!({"id": "small", "dsn": cluster.dsn(ADMIN), "capacity": 100});
        let (status, _, answer) = plane.post("/v1/servers", body).await;
        assert!(status < 300, "{answer}");
        let local = plane.get("/v1/servers").await.2;
        for server in local["items"].as_array().unwrap().iter().filter(|server| server["id"] != "small") {
            let cordon = format!("/v1/servers/{}/cordon", server["id"].as_str().unwrap());
            assert_eq!(plane.post(&cordon, json!({})).await.0, 200);
        }
        let mut small = Self { plane, cluster, connections: Vec::new(), _settings: directory };
        small.until("the server is active", |server| server["state"] == "active").await;
        for chunk in (0..count).collect::<Vec<_>>().chunks(4) {
            let made = chunk.iter().map(|number| small.plane.post("/v1/tenants", json!({"id": format!("t{number}")})));
            for (status, _, made) in join_all(made).await {
                assert_eq!(status, 201, "{made}");
                small.connections.push(made["connection"]["pooled"].clone());
            }
        }
        small.until_settled(|pooling| pooling["databases"] == count).await;
        small
    }

    async fn server(&self) -> Json {
        self.plane.get("/v1/servers/small").await.2
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Json) -> bool) -> Json {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let server = self.server().await;
            if is_so(&server) {
                return server;
            }
            assert!(Instant::now() < deadline, "{what}: {server}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Grants are as they should be, and in force.
    async fn until_settled(&self, is_so: impl Fn(&Json) -> bool) -> Json {
        let deadline = Instant::now() + PATIENCE;
        let mut since = Instant::now();
        let mut last = Json::Null;
        loop {
            let (server, pooler) = (self.server().await, self.plane.get("/v1/poolers/local").await.2);
            let now = json!([server["pooling"]["granted"], pooler["generation"]]);
            if now != last || pooler["health"] != "healthy" || !is_so(&server["pooling"]) {
                (last, since) = (now, Instant::now());
            }
            // The governor looks every 2 s.
            if since.elapsed() > Duration::from_secs(5) {
                return server;
            }
            assert!(Instant::now() < deadline, "{server} {pooler}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn watch(&self) -> Watch {
        let users: Vec<String> =
            self.connections.iter().map(|connection| connection["user"].as_str().unwrap().to_owned()).collect();
        let (stop, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (dsn, stopped, seen) = (self.cluster.dsn(ADMIN), stop.clone(), most.clone());
        let watching = tokio::spawn(async move {
            let mut looks = 0;
            let mut admin = connect(&dsn).await;
            while !stopped.load(Ordering::Relaxed) {
                looks += 1;
                if looks % 20 == 0 {
                    admin = connect(&dsn).await;
                }
                let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = ANY($1)";
                let open: i64 = admin.query_one(sql, &[&users]).await.unwrap().get(0);
                seen.fetch_max(open.unsigned_abs(), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(looks > 40, "it was looked {looks} times");
        });
        Watch { stop, most, watching }
    }

    /// Somebody who asks all the time, until told to stop; connects again when refused. How often that was answered, and why it
    /// was not.
    fn work(&self, tenant: usize, stop: &Arc<AtomicBool>) -> JoinHandle<(u64, Vec<String>)> {
        let (connection, stop) = (self.connections[tenant].clone(), stop.clone());
        tokio::spawn(async move {
            let (mut answered, mut refused) = (0, Vec::new());
            let mut client = None;
            while !stop.load(Ordering::Relaxed) {
                match once(&mut client, &connection).await {
                    Ok(()) => answered += 1,
                    Err(why) => {
                        refused.push(why);
                        client = None;
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                }
            }
            (answered, refused)
        })
    }
}

/// Looks at what tenants have open, while an administrator comes and goes.
struct Watch {
    stop: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    watching: JoinHandle<()>,
}

impl Watch {
    async fn most_open(self) -> i64 {
        self.stop.store(true, Ordering::Relaxed);
        self.watching.await.unwrap();
        self.most.load(Ordering::Relaxed).cast_signed()
    }
}

/// An administrator. PostgreSQL knows who comes when they have logged in: until then each that it is about to refuse holds
/// a connection, also of those that are reserved.
async fn connect(dsn: &str) -> Client {
    let began = Instant::now();
    loop {
        match tokio_postgres::connect(dsn, tokio_postgres::NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return client;
            }
            Err(error) => assert!(began.elapsed() < Duration::from_secs(5), "an administrator gets in: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn once(client: &mut Option<Client>, connection: &Json) -> Result<(), String> {
    let why = |error: tokio_postgres::Error| match error.as_db_error() {
        Some(said) => format!("{}: {}", said.code().code(), said.message()),
        None => format!("{error:?}"),
    };
    if client.is_none() {
        *client = Some(as_tenant(connection).await.map_err(why)?);
    }
    let client = client.as_ref().expect("it is connected");
    client.simple_query("BEGIN; SELECT pg_sleep(0.005); COMMIT").await.map(drop).map_err(why)
}

async fn for_a_while() {
    tokio::time::sleep(Duration::from_secs(6)).await;
}

pub async fn as_many_as_there_are_connections_never_fail(version: &'static str) {
    const TENANTS: usize = 15;
    let small = Small::with_tenants(version, TENANTS, 1).await;
    let server = small.server().await;
    assert_eq!(
        server["pooling"],
        json!({"budget": BUDGET, "databases": TENANTS, "wanted": 75, "granted": 15, "open": server["pooling"]["open"], "resting": 1})
    );
    let watch = small.watch();
    // One alone grows, as far as the others leave it room, and nobody asks for that.
    let stop = Arc::new(AtomicBool::new(false));
    let hot: Vec<_> = (0..20).map(|_| small.work(0, &stop)).collect();
    small.until("it grows", |server| server["pooling"]["granted"] == 14 + 5).await;
    // Everybody at once, each with more clients than connections.
    let all: Vec<_> = (0..TENANTS).flat_map(|tenant| [0; 3].map(|_| small.work(tenant, &stop))).collect();
    for_a_while().await;
    stop.store(true, Ordering::Relaxed);
    for done in hot.into_iter().chain(all) {
        let (answered, refused) = done.await.unwrap();
        assert!(answered > 0 && refused.is_empty(), "{answered} {refused:?}");
    }
    let most = watch.most_open().await;
    assert!((TENANTS as i64..=BUDGET).contains(&most), "{most} open");
}

pub async fn more_tenants_than_connections_take_turns(version: &'static str) {
    const TENANTS: usize = 60;
    let small = Small::with_tenants(version, TENANTS, 10).await;
    let server = small.server().await;
    assert_eq!((&server["pooling"]["resting"], &server["pooling"]["wanted"]), (&json!(1), &json!(300)));
    let said = server["findings"].to_string();
    assert!(said.contains("pooler_budget") && said.contains("say 300 connections"), "{said}");
    let watch = small.watch();
    // Each comes once, and stays.
    let mut clients = Vec::new();
    for connection in &small.connections {
        let mut client = None;
        once(&mut client, connection).await.unwrap();
        clients.push(client);
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    // One of them has much to do.
    let stop = Arc::new(AtomicBool::new(false));
    let hot: Vec<_> = (0..20).map(|_| small.work(0, &stop)).collect();
    small.until("it grows", |server| server["pooling"]["granted"] == 59 + 5).await;
    stop.store(true, Ordering::Relaxed);
    for done in hot {
        let (answered, refused) = done.await.unwrap();
        assert!(answered > 0 && refused.is_empty(), "{refused:?}");
    }
    // Who stayed is served as before.
    for (client, connection) in clients.iter_mut().zip(&small.connections).take(5) {
        once(client, connection).await.unwrap();
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    drop(clients);
    // Everybody at once is more than there is: who is refused is told why, and the rest goes on.
    let stop = Arc::new(AtomicBool::new(false));
    let all: Vec<_> = (0..TENANTS).map(|tenant| small.work(tenant, &stop)).collect();
    let said = |server: &Json| server["findings"].to_string().contains("are at work at once");
    small.until("it is said", said).await;
    let status = small.plane.get("/v1/status").await.2;
    assert!(status["concerns"].to_string().contains("pooler_budget"), "{status}");
    for_a_while().await;
    stop.store(true, Ordering::Relaxed);
    let mut at_work = 0;
    for done in all {
        let (answered, refused) = done.await.unwrap();
        at_work += i64::from(answered > 0);
        let is_known = |why: &String| {
            ["too many clients", "remaining connection slots", "server login has been failing"]
                .iter()
                .any(|part| why.contains(part))
        };
        assert!(refused.iter().all(is_known), "{refused:?}");
    }
    assert!(at_work >= BUDGET, "{at_work} of {TENANTS}");
    let most = watch.most_open().await;
    assert!(most <= ADMITS, "{most} open");
    // It is over: everybody gets in again.
    for connection in &small.connections {
        let deadline = Instant::now() + PATIENCE;
        while let Err(why) = once(&mut None, connection).await {
            assert!(Instant::now() < deadline, "{why}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

pub async fn a_plan_above_the_budget_is_said(version: &'static str) {
    let small = Small::with_tenants(version, 1, 10).await;
    let server = small.server().await;
    assert_eq!((&server["pooling"]["granted"], &server["pooling"]["resting"]), (&json!(5), &json!(null)), "{server}");
    assert!(!server["findings"].to_string().contains("pooler_budget"), "{server}");
    let (status, _, made) = small.plane.post("/v1/tenants", json!({"id": "much", "plan": "big"})).await;
    assert_eq!(status, 201, "{made}");
    let server = small.until("it is said", |server| server["findings"].to_string().contains("plan big says 50")).await;
    assert!(server["findings"].to_string().contains("none gets more than 20"), "{server}");
    let server = small.until_settled(|pooling| pooling["databases"] == 2).await;
    assert_eq!(server["pooling"]["granted"], 5 + BUDGET, "at rest both may: {server}");
    let database = made["connection"]["pooled"]["database"].as_str().unwrap();
    let ini = std::fs::read_to_string(small.plane.data_dir().join("pooler/run/pgbouncer.ini")).unwrap();
    let line = ini.lines().find(|line| line.starts_with(database)).unwrap();
    assert!(line.contains(" pool_size=20 reserve_pool=0 max_db_connections=20"), "{line}");
    let shown = String::from_utf8(small.plane.cli(&["server", "show", "small"]).stdout).unwrap();
    assert!(shown.contains("budget 20") && shown.contains("pooler_budget"), "{shown}");
    let shown = String::from_utf8(small.plane.cli(&["pooler", "show", "local"]).stdout).unwrap();
    assert!(shown.contains("open of 25 granted"), "{shown}");
    let metrics = small.plane.get("/metrics").await.2;
    assert!(metrics.as_str().unwrap().contains("freehold_server_pool_budget{server=\"small\"} 20"), "{metrics}");
}
