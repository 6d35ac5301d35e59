//! A control store, a server and the settings of `freehold serve` over them. Processes come and go; this stays.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use freehold_control::stock::declare;
use freehold_drivers::secrets::Sealer;
use freehold_testkit::{ADMIN, ADMIN_PASSWORD, Cluster, Directory, Ports};
use serde_json::{Value as Json, json};
use tokio_postgres::Client;

use crate::serving::{BINARY, Serve, until};

pub const STORE: &str = "freehold_control";
pub const SERVER: &str = "one";

pub struct Rig {
    /// Holds the control store; and the tenants too, unless `apart`.
    pub store: Cluster,
    /// A server of its own.
    pub apart: Option<Cluster>,
    /// Where tenants of the first one move to, where the settings say that there are two.
    pub second: Option<Cluster>,
    /// To the control store.
    pub sql: Client,
    pub key: String,
    pub settings: PathBuf,
    /// For servers of pools.
    _ports: Ports,
    directory: Directory,
}

pub struct Wanted {
    pub apart: Option<Cluster>,
    pub lease: u64,
    pub settings: &'static str,
}

impl Default for Wanted {
    fn default() -> Self {
        // Long: a loaded machine must not lose leases. Tests that kill a process let its leases run out themselves.
        Self { apart: None, lease: 20, settings: "[stock]\nper_template = 0\n" }
    }
}

impl Rig {
    pub async fn new(wanted: Wanted) -> Self {
        let is_two = wanted.settings == crate::moves::TWO;
        let store = if is_two { crate::moves::cluster().start() } else { Cluster::start(15) };
        Self::over(store, wanted).await
    }

    pub async fn over(store: Cluster, wanted: Wanted) -> Self {
        let is_two = wanted.settings == crate::moves::TWO;
        let second = is_two.then(|| crate::moves::cluster().own_identity().start());
        let directory = Directory::new();
        let key_file = directory.path().join("sealing.key");
        Sealer::create_file(&key_file).expect("make a sealing key");
        store
            .connect("postgres")
            .await
            .batch_execute(&format!("CREATE DATABASE {STORE}"))
            .await
            .expect("make the store");
        let settings = directory.path().join("freehold.toml");
        let ports = Ports::reserve();
        let mut text = format!(
            "environment = \"development\"\n[store]\nurl = \"{}\"\n[secrets]\nkey_file = \"{}\"\n[operations]\nlease_seconds = {}\n{}",
            store.dsn_with(ADMIN, ADMIN_PASSWORD, STORE),
            key_file.display(),
            wanted.lease,
            wanted.settings
        );
        if wanted.settings.contains("[[server_pool]]") {
            let dir = directory.path().join("p");
            let (first, last) = (ports.first, ports.last);
            text.push_str(&format!(
                "[platform.process]\ndata_dir = \"{}\"\nports = \"{first}-{last}\"\n",
                dir.display()
            ));
        }
        text.push_str(&crate::poolers::places(wanted.settings, directory.path(), &ports));
        std::fs::write(&settings, text).expect("write the settings");
        for args in [
            &["store", "migrate"][..],
            &["key", "create", "test", "--scope", "admin,operate,provision,read,credentials"],
        ] {
            let output =
                Command::new(BINARY).args(args).arg("--settings").arg(&settings).output().expect("start freehold");
            assert!(output.status.success(), "freehold {args:?}: {}", String::from_utf8_lossy(&output.stderr));
            if args[0] == "key" {
                let key = String::from_utf8(output.stdout).expect("a key is text").trim().to_owned();
                let sql = store.connect(STORE).await;
                return Self { store, apart: wanted.apart, second, sql, key, settings, _ports: ports, directory };
            }
        }
        unreachable!("the last command made the key")
    }

    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Where the `process` platform keeps its services.
    pub fn platform_dir(&self) -> PathBuf {
        self.directory.path().join("p")
    }

    /// Where tenants live.
    pub fn server(&self) -> &Cluster {
        self.apart.as_ref().unwrap_or(&self.store)
    }

    pub async fn serve(&self, faults: &str) -> Serve {
        Serve::start(&self.settings, &self.key, &[("FREEHOLD_FAULTS", faults)]).await
    }

    /// Registers the server, by the superuser unless told otherwise.
    pub async fn add_server(&self, serve: &Serve, capacity: u32, dsn: Option<String>) {
        let dsn = dsn.unwrap_or_else(|| self.server().dsn(ADMIN));
        let (status, body) = serve.post("/v1/servers", json!({"id": SERVER, "dsn": dsn, "capacity": capacity})).await;
        assert_eq!(status, 201, "{body}\n{}", serve.output());
    }

    /// As if the time had passed that dead processes' leases had left.
    pub async fn let_leases_run_out(&self) {
        let sql = "UPDATE operation SET lease_until = now() WHERE lease_until IS NOT NULL;
            UPDATE operation SET next_run_at = now() WHERE state IN ('waiting', 'undoing', 'queued');
            UPDATE loop_lease SET lease_until = now(), next_run_at = now();";
        self.sql.batch_execute(sql).await.expect("end leases");
    }

    pub async fn count(&self, sql: &str) -> i64 {
        let rows = self.sql.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        rows[0].get(0)
    }

    /// Nothing is in flight (but what is stuck), and stock and builds are as they should be.
    pub async fn settled(&self, serve: &mut Serve, stock: &[(&str, i64)]) {
        let mut last = String::new();
        let deadline = std::time::Instant::now() + crate::serving::PATIENCE;
        loop {
            // As if the minutes had passed after which a removal that failed is begun again.
            let sql = "UPDATE operation SET finished_at = finished_at - interval '1 hour'
                WHERE kind IN ('template.retire', 'stock.drop') AND state = 'failed' AND finished_at > now() - interval '1 hour'";
            self.sql.batch_execute(sql).await.expect("let minutes pass");
            let busy = self
                .count(
                    "SELECT count(*) FROM operation WHERE state NOT IN ('succeeded', 'failed', 'cancelled', 'stuck')",
                )
                .await;
            let going = self.count("SELECT count(*) FROM tenant_database WHERE tenant_id IS NULL AND state IN ('building', 'dropping')").await
                + self.count("SELECT count(*) FROM template_build WHERE state IN ('building', 'dropping')").await
                + self.count("SELECT count(*) FROM template_build b JOIN template t USING (name, version) WHERE NOT t.current").await
                + self.count("SELECT count(*) FROM tenant_database d JOIN server s ON s.id = d.server_id JOIN template t ON (t.name, t.version) = (d.template, d.template_version)
                    WHERE d.tenant_id IS NULL AND d.state = 'ready' AND s.state IN ('active', 'cordoned') AND NOT t.current").await;
            let mut wanting = Vec::new();
            if !stock.is_empty() {
                let sql = "SELECT count(*) FROM template t, server s WHERE t.current AND t.stocked AND s.state = 'active'
                    AND NOT EXISTS (SELECT FROM template_build b WHERE (b.server_id, b.name, b.version) = (s.id, t.name, t.version) AND b.state IN ('ready', 'failed'))";
                if self.count(sql).await > 0 {
                    wanting.push("templates to be built".to_owned());
                }
            }
            for (template, wanted) in stock {
                // Of a template that could not be built, none.
                let sql = format!("SELECT count(*) FILTER (WHERE d.state = 'ready') - coalesce((SELECT {wanted} FROM template_build b
                        WHERE (b.name, b.version) = (t.name, t.version) AND b.state = 'ready'), 0)
                    FROM template t LEFT JOIN tenant_database d ON t.name = d.template AND t.version = d.template_version
                    WHERE t.current AND t.name = '{template}' GROUP BY t.name, t.version");
                let over = self.count(&sql).await;
                if over != 0 {
                    wanting.push(format!("{template}: {over:+}"));
                }
            }
            if busy == 0 && going == 0 && wanting.is_empty() {
                return;
            }
            let now = format!("{busy} operations in flight, {going} databases or builds in between, stock {wanting:?}");
            assert!(!serve.ended(), "freehold died while {now}:\n{}", serve.output());
            if std::time::Instant::now() > deadline {
                let rows = self.sql.query("SELECT kind || ' ' || state || ' ' || step_name || ' ' || coalesce(error::text, '') FROM operation ORDER BY id DESC LIMIT 10", &[]).await.expect("read operations");
                let rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
                panic!("never settled: {now} ({last})\n{}\n{}", rows.join("\n"), serve.output());
            }
            last = now;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The newest operation of a kind: state, step, attempt, code of its error.
    pub async fn newest(&self, kind: &str) -> Option<(String, String, i32, String)> {
        let sql = "SELECT state, step_name, attempt, coalesce(error->>'code', '') FROM operation WHERE kind = $1 ORDER BY id DESC LIMIT 1";
        let row = self.sql.query_opt(sql, &[&kind]).await.expect("read an operation")?;
        Some((row.get(0), row.get(1), row.get(2), row.get(3)))
    }

    pub async fn newest_id(&self, kind: &str) -> String {
        let sql = "SELECT id::text FROM operation WHERE kind = $1 ORDER BY id DESC LIMIT 1";
        self.sql.query_one(sql, &[&kind]).await.expect("read an operation").get(0)
    }

    pub async fn until_operation(&self, kind: &str, state: &str) {
        until(&format!("{kind} is {state}"), async || self.newest(kind).await.is_some_and(|newest| newest.0 == state))
            .await;
    }

    /// Whether the sealed password of its maintenance login opens, lets in, and makes the owner of whoever comes.
    pub async fn is_maintained(&self, serve: &Serve, tenant: &str) -> Result<(), String> {
        let sql = "SELECT l.id, l.version, l.role, l.password, d.owner FROM login l JOIN tenant_database d ON d.id = l.database_id
            WHERE d.tenant_id = $1 AND l.purpose = 'maintenance'";
        let found = self.sql.query_opt(sql, &[&tenant]).await.expect("read the maintenance login");
        let Some(row) = found else { return Err("there is no maintenance login".into()) };
        let sealer = Sealer::from_file(&self.directory().join("sealing.key")).expect("read the sealing key");
        let password = sealer
            .open_password(&declare::context(row.get(0), row.get(1)), &row.get::<_, Vec<u8>>(3))
            .unwrap_or_else(|error| panic!("the password of {tenant}'s maintenance login: {error}"));
        let (_, mut body) = serve.get(&format!("/v1/tenants/{tenant}/connection")).await;
        if !body["direct"].is_object() {
            return Err(format!("no connection: {body}"));
        }
        body["pooled"] = Json::Null;
        body["direct"]["user"] = json!(row.get::<_, String>(2));
        body["direct"]["password"] = json!(password.expose());
        let client = freehold_testkit::as_tenant(&body).await.map_err(|error| format!("{error:?}"))?;
        let is: String = client.query_one("SELECT current_user::text", &[]).await.expect("ask who it is").get(0);
        let owner: String = row.get(4);
        if is == owner { Ok(()) } else { Err(format!("it is {is}, not {owner}")) }
    }

    /// Whether the tenant's application gets in, and is who it should be.
    pub async fn logs_in(&self, serve: &Serve, tenant: &str) -> Result<(), String> {
        let (status, body) = serve.get(&format!("/v1/tenants/{tenant}/connection")).await;
        if status != 200 {
            return Err(format!("no connection: {status} {body}"));
        }
        let client = freehold_testkit::as_tenant(&body).await.map_err(|error| format!("{error:?}"))?;
        client.batch_execute("CREATE TABLE probe (a int); DROP TABLE probe").await.map_err(|error| format!("{error:?}"))
    }
}
