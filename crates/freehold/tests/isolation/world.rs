//! A whole Freehold on a server, and tenants to attack it with.

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use freehold_testkit::{ADMIN, Cluster, ClusterBuilder, Directory, Plane, Port, Running, as_tenant, http_client};
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value as Json, json};
use tokio_postgres::{Client, Config, NoTls};

pub const BINARY: &str = env!("CARGO_BIN_EXE_freehold");
pub const PATIENCE: Duration = Duration::from_secs(60);
const CONTROL: &str = "freehold_control";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    Superuser,
    /// CREATEDB and CREATEROLE alone.
    Weak,
}

/// `freehold dev`, or `freehold serve` over a cluster that it was told about.
pub struct World {
    pub power: Power,
    pub version: u32,
    pub server: &'static str,
    url: String,
    pub key: String,
    http: reqwest::Client,
    // In this order: Freehold ends before its server.
    dev: Option<Plane>,
    pub freehold: Option<Running>,
    pub cluster: Option<Cluster>,
    pub directory: Directory,
    _port: Option<Port>,
}

pub struct Tenant {
    pub id: String,
    /// The body of an answer's `connection.direct`.
    pub direct: Json,
}

impl Tenant {
    pub fn field(&self, name: &str) -> &str {
        self.direct[name].as_str().unwrap()
    }
    pub fn database(&self) -> &str {
        self.field("database")
    }
    pub fn login(&self) -> &str {
        self.field("user")
    }
    pub fn password(&self) -> &str {
        self.field("password")
    }
    /// Opaque names: the login is called after its owner.
    pub fn owner(&self) -> &str {
        self.login().strip_suffix("_l").unwrap()
    }
    pub fn maintenance(&self) -> String {
        format!("{}_m", self.owner())
    }

    pub async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        as_tenant(&self.direct).await
    }

    pub async fn session(&self) -> Client {
        self.connect().await.unwrap_or_else(|error| panic!("tenant {} cannot log in: {error:?}", self.id))
    }

    /// With its own credential, to somebody else's database.
    pub async fn connect_to(&self, database: &str) -> Result<Client, tokio_postgres::Error> {
        let mut direct = self.direct.clone();
        direct["database"] = json!(database);
        as_tenant(&direct).await
    }
}

impl World {
    pub async fn dev(version: u32) -> Self {
        let plane = Plane::dev(BINARY).postgres(version).stock(3).start().await;
        let (url, key) = (plane.url().to_owned(), plane.api_key().to_owned());
        let world = Self {
            power: Power::Superuser,
            version,
            server: "local-1",
            url,
            key,
            http: http_client(),
            dev: Some(plane),
            freehold: None,
            cluster: None,
            directory: Directory::new(),
            _port: None,
        };
        world.until("the server is active", || async { world.server().await["state"] == "active" }).await;
        world
    }

    pub async fn serve(version: u32, power: Power) -> Self {
        // Nobody but Freehold and the tenants ever looks at a table.
        Self::serve_on(Cluster::builder(version).setting("autovacuum", "off"), power, &[], "").await
    }

    pub async fn serve_on(cluster: ClusterBuilder, power: Power, env: &[(&str, &str)], settings: &str) -> Self {
        let cluster = cluster.start();
        let admin = cluster.connect("postgres").await;
        admin.batch_execute(&format!("create database {CONTROL}")).await.unwrap();
        // Whoever keeps the store beside the tenants of a weak admin has to close it himself.
        admin.batch_execute(&format!("revoke all on database {CONTROL} from public")).await.unwrap();
        let dsn = match power {
            Power::Superuser => cluster.dsn(ADMIN),
            Power::Weak => cluster.weak_admin().await,
        };
        let (directory, port) = (Directory::new(), Port::reserve());
        let key_file = directory.path().join("sealing.key");
        fs::write(&key_file, "Zm9yIGlzb2xhdGlvbiB0ZXN0cyBhbmQgbm90aGluZyE=\n").unwrap();
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
        let settings_file = directory.path().join("settings.toml");
        let store = cluster.dsn(ADMIN).replace("/postgres?", &format!("/{CONTROL}?"));
        let text = format!(
            "environment = \"development\"\nlisten = \"127.0.0.1:{}\"\n[store]\nurl = \"{store}\"\n[secrets]\nkey_file = \"{}\"\n[stock]\nper_template = 3\n{settings}\n",
            port.number,
            key_file.display()
        );
        fs::write(&settings_file, text).unwrap();
        let mut serve = Command::new(BINARY);
        serve.arg("serve").arg("--migrate").arg("--settings").arg(&settings_file).current_dir(directory.path());
        serve.envs(env.iter().copied()).env_remove("FREEHOLD_URL").env_remove("FREEHOLD_API_KEY");
        let mut freehold = Running::spawn(&mut serve, &directory.path().join("output"));
        let url = format!("http://127.0.0.1:{}", port.number);
        let http = http_client();
        let deadline = Instant::now() + PATIENCE;
        while !http.get(format!("{url}/health/ready")).send().await.is_ok_and(|answer| answer.status() == 200) {
            assert!(freehold.ended().is_none() && Instant::now() < deadline, "not ready:\n{}", freehold.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut create = Command::new(BINARY);
        create.args(["key", "create", "first", "--scope", "admin", "--settings"]).arg(&settings_file);
        let made = create.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        let world = Self {
            power,
            version: cluster.version(),
            server: "srv",
            url,
            key,
            http,
            dev: None,
            freehold: Some(freehold),
            cluster: Some(cluster),
            directory,
            _port: Some(port),
        };
        let (status, body) = world.post("/v1/servers", json!({"id": "srv", "dsn": dsn})).await;
        assert_eq!(status, 201, "{body}");
        world
    }

    pub async fn request(&self, method: Method, path: &str, key: &str, body: Option<Json>) -> (u16, Json) {
        self.request_with(method, path, key, &[("prefer", "wait=60")], body).await
    }

    pub async fn request_with(
        &self,
        method: Method,
        path: &str,
        key: &str,
        headers: &[(&str, &str)],
        body: Option<Json>,
    ) -> (u16, Json) {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !key.is_empty() {
            request = request.bearer_auth(key);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap_or_else(|error| panic!("{path}: {error:?}\n{}", self.output()));
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Json::String(text)))
    }

    pub async fn get(&self, path: &str) -> Json {
        let (status, body) = self.request(Method::GET, path, &self.key, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub async fn post(&self, path: &str, body: Json) -> (u16, Json) {
        self.request(Method::POST, path, &self.key, Some(body)).await
    }

    /// A verb of a tenant that must succeed.
    pub async fn tell(&self, tenant: &Tenant, verb: &str) {
        let (status, body) = self.post(&format!("/v1/tenants/{}/{verb}", tenant.id), json!({})).await;
        assert_eq!(status, 200, "{verb} {}: {body}\n{}", tenant.id, self.output());
    }

    pub async fn delete(&self, tenant: &Tenant, purge: bool) {
        let path = format!("/v1/tenants/{0}?confirm={0}&purge={purge}", tenant.id);
        let (status, body) = self.request(Method::DELETE, &path, &self.key, None).await;
        assert_eq!(status, 200, "delete {} (purge: {purge}): {body}\n{}", tenant.id, self.output());
    }

    pub async fn create(&self, body: Json) -> Tenant {
        let id = body["id"].as_str().unwrap().to_owned();
        let (status, body) = self.post("/v1/tenants", body).await;
        assert_eq!(status, 201, "{id}: {body}\n{}", self.output());
        Tenant { id, direct: body["connection"]["direct"].clone() }
    }

    pub async fn tenants(&self, count: usize) -> Vec<Tenant> {
        join_all((0..count).map(|n| self.create(json!({"id": format!("t{n}")})))).await
    }

    pub async fn server(&self) -> Json {
        self.get(&format!("/v1/servers/{}", self.server)).await
    }

    /// Makes Freehold look at its server and at what its tenants bent.
    pub async fn check(&self) {
        let (status, body) = self.post(&format!("/v1/servers/{}/check", self.server), json!({})).await;
        assert!(status == 200 || body["code"] == "busy", "{status} {body}");
    }

    /// Audited repairs of a tenant.
    pub async fn repairs(&self, tenant: &Tenant) -> Vec<Json> {
        let page = self.get("/v1/audit?limit=500").await;
        let subject = format!("tenant:{}", tenant.id);
        let of = |event: &&Json| event["action"] == "truth.repair" && event.to_string().contains(&subject);
        page["items"].as_array().unwrap().iter().filter(of).cloned().collect()
    }

    /// Checks the server until it is so.
    pub async fn until_mended<F: Future<Output = bool>>(&self, what: &str, so: impl Fn() -> F) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if so().await {
                return;
            }
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}\n{}", self.output());
            self.check().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub async fn until<F: Future<Output = bool>>(&self, what: &str, so: impl Fn() -> F) {
        let deadline = Instant::now() + PATIENCE;
        while !so().await {
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}\n{}", self.output());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What Freehold said.
    pub fn output(&self) -> String {
        match (&self.dev, &self.freehold) {
            (Some(dev), _) => dev.output(),
            (None, Some(freehold)) => freehold.output(),
            (None, None) => String::new(),
        }
    }

    pub async fn superuser(&self, database: &str) -> Client {
        if let Some(cluster) = &self.cluster {
            return cluster.connect(database).await;
        }
        let port = u16::try_from(self.server().await["port"].as_u64().unwrap()).unwrap();
        let run = self.dev.as_ref().unwrap().data_dir().join("run");
        let mut config = Config::new();
        config.host_path(&run).port(port).user("freehold_admin").dbname(database);
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Everything about roles and databases that no tenant may change, as text.
    pub async fn shared_catalogs(&self) -> Vec<String> {
        let sql = "select 'role ' || r::text from (select rolname, rolsuper, rolcreatedb, rolcreaterole, rolcanlogin, rolreplication, rolbypassrls, rolconnlimit, rolpassword, rolvaliduntil from pg_authid) r
            union all select 'database ' || d::text from (select datname, datdba, datallowconn, datistemplate, datconnlimit, datacl from pg_database) d
            union all select 'member ' || m::text from (select roleid::regrole, member::regrole from pg_auth_members) m
            union all select 'setting ' || s::text from (select setdatabase, setrole::regrole, setconfig from pg_db_role_setting) s
            order by 1";
        let rows = self.superuser("postgres").await.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

/// The first column of the first row, as text.
pub async fn ask(session: &Client, sql: &str) -> String {
    let rows = session.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let row = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
        _ => None,
    });
    row.unwrap_or_default()
}
