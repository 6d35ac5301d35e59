//! Poolers that somebody else runs, with files that are his: the real plane, a real PgBouncer, and no agent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use freehold_testkit::{Pgbouncer, PgcatConsole, Plane, as_tenant};
use serde_json::{Value as Json, json};

use crate::bench::BINARY;
use crate::small_disk::SmallDisk;
use crate::story::{ask, connection, create, until};

/// Of his console.
const BOSS: &str = "secret-of-the-boss";

pub struct His {
    pub plane: Plane,
    pooler: Pgbouncer,
    ini: String,
    users: String,
}

impl His {
    pub async fn start(version: &str) -> Self {
        let mut his = Self::stopped(version).await;
        his.write();
        his.pooler.start();
        his
    }

    /// A plane without a pooler, and a PgBouncer with what he wrote by hand: not there yet.
    async fn stopped(version: &str) -> Self {
        let plane = Plane::dev(BINARY).stock(2).start().await;
        let pooler = Pgbouncer::new(version);
        let (home, port) = (pooler.directory().display().to_string(), pooler.port());
        let ini = format!(
            "; by hand\n[databases]\nlegacy = host=127.0.0.1 port=1\n\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir = {home}\nauth_type = md5\nauth_file = {home}/userlist.txt\nadmin_users = boss\n"
        );
        let users = format!("\"boss\" \"{BOSS}\"\n\"legacy\" \"x\"\n");
        Self { plane, pooler, ini, users }
    }

    fn write(&self) {
        for (path, text) in [(self.pooler.ini(), &self.ini), (self.users_file(), &self.users)] {
            std::fs::write(&path, text).unwrap();
            self.pooler.give_away(&path);
        }
    }

    fn users_file(&self) -> PathBuf {
        self.pooler.directory().join("userlist.txt")
    }

    fn admin(&self, password: &str) -> String {
        format!("postgres://boss:{password}@127.0.0.1:{}/pgbouncer?sslmode=disable", self.pooler.port())
    }

    fn body(&self, password: &str) -> Json {
        json!({"id": "edge", "address": format!("127.0.0.1:{}", self.pooler.port()), "sslmode": "disable",
            "external": {"file": self.pooler.ini(), "admin": self.admin(password)}})
    }

    pub async fn register(&self) {
        let (status, _, made) = self.plane.post("/v1/poolers", self.body(BOSS)).await;
        assert_eq!((status, &made["management"]), (201, &json!("external")), "{made}");
        self.until_health("healthy").await;
    }

    async fn edge(&self) -> Json {
        self.plane.get("/v1/poolers/edge").await.2
    }

    pub async fn until_health(&self, health: &str) -> Json {
        until(&format!("the pooler is {health}"), async || match self.edge().await {
            edge if edge["health"] == health => Ok(()),
            other => Err(format!("{other}\n{}", self.pooler.log())),
        })
        .await;
        self.edge().await
    }

    /// It says so, and nothing of it is a secret.
    async fn until_message(&self, part: &str) {
        until(part, async || match self.edge().await {
            edge if edge["message"].as_str().is_some_and(|message| message.contains(part)) => Ok(()),
            other => Err(other.to_string()),
        })
        .await;
    }

    pub async fn until_ready(&self, tenant: &str, ready: bool) -> Json {
        until(&format!("pooled.ready of {tenant} is {ready}"), async || {
            let pooled = connection(&self.plane, tenant).await["pooled"]["ready"].clone();
            if pooled == ready { Ok(()) } else { Err(format!("{pooled} {}", self.edge().await)) }
        })
        .await;
        connection(&self.plane, tenant).await
    }

    /// The stock is full, and everything is in the pooler: nothing changes by itself any more.
    async fn until_settled(&self) {
        let store = store_of(&self.plane).await;
        until("the stock and the pooler are settled", async || {
            let sql =
                "SELECT (count(*) FILTER (WHERE tenant_id IS NULL AND state = 'ready') = 2 AND bool_and(pooled))::text
                || ' ' || coalesce(jsonb_agg(to_jsonb(d)), '[]') FROM tenant_database d WHERE state <> 'dropping'";
            let said = ask(&store, sql).await.unwrap();
            if said.starts_with("true ") { Ok(()) } else { Err(said) }
        })
        .await;
        self.until_health("healthy").await;
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.pooler.ini()).unwrap()
    }

    fn edit(&self, edit: impl Fn(&str) -> String) {
        std::fs::write(self.pooler.ini(), edit(&self.text())).unwrap();
    }

    /// As its console says.
    pub fn is_paused(&self, connection: &Json) -> bool {
        let mut psql = std::process::Command::new("psql");
        let shown = psql.args(["-XAtc", "SHOW DATABASES", &self.admin(BOSS)]).output().unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let line = shown.lines().find(|line| line.starts_with(connection["pooled"]["database"].as_str().unwrap()));
        line.and_then(|line| line.rsplit('|').nth(1)).unwrap_or_else(|| panic!("{shown}")) != "0"
    }

    fn check(&self, exit: i32) -> String {
        let said = self.plane.cli(&["pooler", "check", "edge"]);
        let text = [said.stdout, said.stderr].map(|part| String::from_utf8_lossy(&part).into_owned()).concat();
        assert_eq!(said.status.code(), Some(exit), "{text}");
        text
    }

    async fn purge(&self, tenant: &str) {
        let path = format!("/v1/tenants/{tenant}?confirm={tenant}&purge=true");
        assert_eq!(self.plane.delete(&path).await.0, 200);
    }
}

pub async fn logs_in(connection: &Json) {
    let client = as_tenant(&connection["pooled"]).await.unwrap_or_else(|error| panic!("{error:?}"));
    let found = ask(&client, "SELECT current_database()::text").await.unwrap();
    assert_eq!(found, connection["direct"]["database"].as_str().unwrap());
}

fn entry(connection: &Json) -> String {
    format!("\n{} = ", connection["pooled"]["database"].as_str().unwrap())
}

pub async fn tenants_come_and_go_also_while_it_is_down(version: &'static str) {
    let mut his = His::start(version).await;
    let early = create(&his.plane, "early").await;
    assert_eq!(early["pooled"], Json::Null);

    // Not with this password; tenants are made all the same, and reached directly.
    let (status, _, made) = his.plane.post("/v1/poolers", his.body("wrong")).await;
    assert_eq!(status, 201, "{made}");
    his.until_message("present password").await;
    let meanwhile = create(&his.plane, "meanwhile").await;
    assert_ne!(meanwhile["pooled"]["ready"], true);
    as_tenant(&meanwhile["direct"]).await.unwrap();
    let said = his.check(12);
    assert!(
        said.contains("pooler_unhealthy") && said.contains("pooler_external") && said.contains("no agent"),
        "{said}"
    );
    let status = his.plane.get("/v1/status").await.2;
    assert!(status["concerns"].to_string().contains("present password"), "{status}");
    assert_eq!(his.text(), his.ini);
    // With the right one, by the command line.
    let (file, admin) = (his.pooler.ini().display().to_string(), his.pooler.directory().join("admin"));
    std::fs::write(&admin, his.admin(BOSS)).unwrap();
    let address = format!("127.0.0.1:{}", his.pooler.port());
    let mut add = vec!["pooler", "add", "edge", "--address", &address, "--external", "--file", &file];
    let admin = admin.display().to_string();
    add.extend(["--admin-file", &admin]);
    let said = his.plane.cli(&add);
    assert!(said.status.success(), "{said:?}");
    let edge = his.until_health("healthy").await;
    assert!(edge["version"].as_str().unwrap().starts_with(version), "{edge}");
    assert!(his.check(10).contains("pooler_external"));
    for tenant in ["early", "meanwhile"] {
        logs_in(&his.until_ready(tenant, true).await).await;
    }
    // From stock: its entry is there before it is.
    his.until_settled().await;
    let acme = create(&his.plane, "acme").await;
    assert_eq!(acme["pooled"]["ready"], true, "{}", his.edge().await);
    logs_in(&acme).await;
    // As a neighbour's: his list of users lets it ask, and the server refuses.
    let mut stranger = acme["pooled"].clone();
    stranger["database"] = connection(&his.plane, "early").await["pooled"]["database"].clone();
    assert!(as_tenant(&stranger).await.is_err());

    // Down, and the plane is another one when it is back.
    his.pooler.kill();
    his.until_health("unhealthy").await;
    let late = create(&his.plane, "late").await;
    assert_ne!(late["pooled"]["ready"], true);
    his.purge("acme").await;
    his.plane.restart(&[]).await;
    his.pooler.start();
    his.until_health("healthy").await;
    logs_in(&his.until_ready("late", true).await).await;
    assert!(as_tenant(&acme["pooled"]).await.is_err());
    assert!(!his.text().contains(&entry(&acme)) && his.text().contains(&entry(&his.until_ready("late", true).await)));

    // Edited by hand: what is ours is put right, what is his stays.
    his.until_settled().await;
    let late = connection(&his.plane, "late").await;
    let before = his.text();
    his.edit(|text| text.replace(&entry(&late), "\nnobody = ").replace("; by hand", "; by my hand"));
    until("it is put right", async || match his.text() {
        text if text == before.replace("; by hand", "; by my hand") => Ok(()),
        other => Err(other),
    })
    .await;
    until("it is counted", async || match his.edge().await["repaired"].as_u64() {
        Some(1..) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    his.edit(|text| text.replace("; by my hand", "; by hand"));
    let before = his.edge().await["generation"].as_u64();
    assert!(his.plane.cli(&["pooler", "reconcile", "edge"]).status.success());
    assert!(his.until_health("healthy").await["generation"].as_u64() > before);

    // His pool has a tenant's name: it stays, and he is told.
    let hand = format!("{}host=127.0.0.1 port=2\n", entry(&late).trim_start_matches('\n'));
    his.edit(|text| text.replacen("legacy = ", &format!("{hand}legacy = "), 1));
    his.until_ready("late", false).await;
    let said = his.check(11);
    assert!(said.contains("pooler_withheld") && said.contains("did not write"), "{said}");
    as_tenant(&late["direct"]).await.unwrap();
    his.edit(|text| text.replacen(&hand, "", 1));
    logs_in(&his.until_ready("late", true).await).await;

    // With the last of them, every trace of ours.
    for tenant in ["early", "meanwhile", "late"] {
        his.purge(tenant).await;
    }
    assert_eq!(his.plane.post("/v1/poolers/edge/cordon", json!({})).await.0, 200);
    let shown = his.plane.cli(&["pooler", "show", "edge"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for text in
        [his.plane.output(), shown, his.edge().await.to_string(), his.plane.get("/v1/audit").await.2.to_string()]
    {
        assert!(!text.contains(BOSS), "{text}");
    }
}

pub async fn a_pause_ends_by_its_deadline_while_a_plane_runs(version: &'static str) {
    let mut his = His::start(version).await;
    let made = create(&his.plane, "acme").await;
    his.register().await;
    assert_ne!(made["pooled"]["ready"], true);
    let made = his.until_ready("acme", true).await;
    let store = store_of(&his.plane).await;
    let pause = async |hold_ms: i64| {
        let sql = "INSERT INTO pooler_pause (id, pooler_id, entry, drain_ms, hold_ms)
            SELECT gen_random_uuid(), pooler_id, pooler_entry, 1000, $1 FROM tenant_database WHERE tenant_id = 'acme'";
        assert_eq!(store.execute(sql, &[&hold_ms]).await.unwrap(), 1);
    };
    let told = async |wanted: &str| {
        until(wanted, async || {
            let sql = "SELECT coalesce(told, 'nothing') FROM pooler_pause ORDER BY created_at DESC LIMIT 1";
            let said = ask(&store, sql).await.unwrap();
            if said == wanted { Ok(()) } else { Err(said) }
        })
        .await;
    };
    let waits = async || {
        let client = as_tenant(&made["pooled"]);
        tokio::time::timeout(Duration::from_millis(500), async { ask(&client.await.unwrap(), "SELECT 'in'").await })
            .await
            .is_err()
    };
    pause(3_000).await;
    told("paused").await;
    assert!(waits().await);
    told("resumed").await;
    logs_in(&made).await;

    // The plane dies while it holds: the next one resumes what nobody asked it for.
    pause(3_000).await;
    told("paused").await;
    his.plane.kill_group().await;
    assert!(waits().await, "nobody holds the deadline: `check` says so");
    tokio::time::sleep(Duration::from_secs(4)).await;
    his.plane.start_again().await;
    until("it is resumed", async || if waits().await { Err("it waits".into()) } else { Ok(()) }).await;
    // In order, it resumes before it goes.
    let store = store_of(&his.plane).await;
    let sql = "INSERT INTO pooler_pause (id, pooler_id, entry, drain_ms, hold_ms)
        SELECT gen_random_uuid(), pooler_id, pooler_entry, 1000, 600000 FROM tenant_database WHERE tenant_id = 'acme'";
    store.execute(sql, &[]).await.unwrap();
    until("it waits", async || if waits().await { Ok(()) } else { Err("it does not".into()) }).await;
    drop(store);
    let held = his.plane.sigterm_and_wait().await;
    assert_eq!(held.code(), Some(0), "{}", his.plane.output());
    assert!(!his.is_paused(&made));
}

pub async fn a_full_or_locked_disk_is_named_and_hinders_no_create(version: &'static str) {
    let mut his = His::stopped(version).await;
    let disk = SmallDisk::at(his.pooler.directory());
    his.write();
    his.pooler.start();
    his.register().await;
    let first = create(&his.plane, "first").await;
    let before = his.until_ready("first", true).await;
    drop(first);
    disk.fill();
    let full = create(&his.plane, "full").await;
    his.until_message("the disk is full").await;
    as_tenant(&full["direct"]).await.unwrap();
    logs_in(&before).await;
    assert!(his.check(12).contains("disk is full"));
    disk.empty();
    logs_in(&his.until_ready("full", true).await).await;

    disk.lock();
    let locked = create(&his.plane, "locked").await;
    his.until_message("not possible for this user").await;
    as_tenant(&locked["direct"]).await.unwrap();
    disk.unlock();
    logs_in(&his.until_ready("locked", true).await).await;
    his.pooler.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pgcat_of_tansucloud_gains_and_loses_pools() {
    let directory = freehold_testkit::Directory::new();
    let file = directory.path().join("pgcat.toml");
    let his = "[general]\nport = 6432\nadmin_username = \"boss\"\nadmin_password = \"secret-of-the-boss\"\n\n[pools.tansu_identity]\n\
               pool_mode = \"transaction\"\nusers = { 0 = { username = \"i\", password = \"p\", pool_size = 5 } }\n\
               shards = { 0 = { servers = [[\"pg\", 5432, \"primary\"]], database = \"tansu_identity\" } }\n";
    std::fs::write(&file, his).unwrap();
    let edge = "[[edge]]\nkind = \"tansucloud\"\n";
    let settings = directory.path().join("tansu.toml");
    std::fs::write(&settings, edge).unwrap();
    let plane = Plane::dev(BINARY).stock(0).arg("--settings").arg(settings.display().to_string()).start().await;
    let pgcat = PgcatConsole::start(file.clone(), None, "boss", BOSS).await;
    let admin = format!("postgres://boss:{BOSS}@127.0.0.1:{}/pgcat?sslmode=disable", pgcat.port);
    let body = json!({"id": "tansu", "kind": "pgcat", "address": format!("127.0.0.1:{}", pgcat.port), "sslmode": "disable",
        "external": {"file": file, "admin": admin}});
    // Without files there is nobody who would run it; and not where it is forbidden.
    let alone = json!({"id": "tansu", "kind": "pgcat", "address": "127.0.0.1:1"});
    let (status, _, refused) = plane.post("/v1/poolers", alone).await;
    assert!(status == 422 && refused.to_string().contains("PgCat has no agent"), "{refused}");
    let (status, _, made) = plane.post("/v1/poolers", body.clone()).await;
    assert_eq!(status, 201, "{made}");

    let provision = async |id: &str| {
        let (status, _, made) = plane.post("/db/api/provisioning/tenants", json!({"tenantId": id})).await;
        assert_eq!((status, &made["created"]), (200, &json!(true)), "{made}");
        made["database"].as_str().unwrap().to_owned()
    };
    let pool = |database: &str| format!("[pools.{database}]");
    let text = || std::fs::read_to_string(&file).unwrap();
    let (first, second) = (provision("first").await, provision("second").await);
    assert_eq!(first, "tansu_tenant_first");
    for id in ["first", "second"] {
        until("it is pooled", async || match connection(&plane, id).await["pooled"]["ready"] == true {
            true => Ok(()),
            false => Err(plane.get("/v1/poolers/tansu").await.2.to_string()),
        })
        .await;
    }
    assert!(text().starts_with(his) && text().contains(&pool(&first)) && text().contains(&pool(&second)));
    let pooled = connection(&plane, "first").await["pooled"].clone();
    assert_eq!(pooled["database"], "tansu_tenant_first");
    assert!(text().contains(&format!("password = {}", pooled["password"])), "PgCat needs it");

    // Down: one goes, one comes; back at the same address, it has them both.
    let port = pgcat.port;
    drop(pgcat);
    assert_eq!(plane.delete("/v1/tenants/first?confirm=first&purge=true").await.0, 200);
    let third = provision("third").await;
    let back = PgcatConsole::start(file.clone(), Some(port), "boss", BOSS).await;
    until("it is pooled", async || match connection(&plane, "third").await["pooled"]["ready"] == true {
        true => Ok(()),
        false => Err(plane.get("/v1/poolers/tansu").await.2.to_string()),
    })
    .await;
    assert!(text().starts_with(his) && !text().contains(&pool(&first)) && text().contains(&pool(&third)));
    assert!(!plane.output().contains(pooled["password"].as_str().unwrap()));
    assert!(back.world().commands.iter().any(|command| command == "RELOAD"));

    // Production refuses it, also one that is registered already.
    let mut plane = plane;
    plane.restart(&[("FREEHOLD__ENVIRONMENT", "production")]).await;
    until("it is refused", async || match plane.get("/v1/poolers/tansu").await.2 {
        tansu if tansu["message"].to_string().contains("[compat] pgcat") => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    let mut other = body.clone();
    other["id"] = json!("other");
    let (status, _, refused) = plane.post("/v1/poolers", other).await;
    assert!(status == 422 && refused.to_string().contains("[compat] pgcat"), "{refused}");
    plane.restart(&[("FREEHOLD__COMPAT__PGCAT", "true")]).await;
    until("it is taken", async || match plane.get("/v1/poolers/tansu").await.2 {
        tansu if tansu["health"] == "healthy" => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
}

/// The control store, as its admin, by the private socket.
pub async fn store_of(plane: &Plane) -> tokio_postgres::Client {
    let run = plane.data_dir().join("run");
    let mut config = tokio_postgres::Config::new();
    config.host_path(&run).port(socket_port(&run)).user("freehold_admin").dbname("freehold_control");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn socket_port(run: &Path) -> u16 {
    let names = std::fs::read_dir(run).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut ports = names.filter_map(|name| name.strip_prefix(".s.PGSQL.")?.parse().ok());
    ports.next().expect("a socket of PostgreSQL")
}
