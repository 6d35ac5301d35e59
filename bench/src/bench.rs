//! One `freehold dev` with durability as users get it, and hands on its HTTP API and on its cluster.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use freehold_testkit::{
    ADMIN as GIVEN_ADMIN, ADMIN_PASSWORD, Cluster, Directory, Plane, PlaneBuilder, WEAK_ADMIN, WEAK_ADMIN_PASSWORD,
    http_client,
};
use serde_json::{Value, json};
use tokio_postgres::{Client, Config, NoTls};

use crate::{Res, schema};

/// The control store's database, and its admin on the private socket.
const STORE: &str = "freehold_control";
pub const ADMIN: &str = "freehold_admin";
/// That `freehold dev` makes.
const OWN: &str = "local-1";

pub struct Bench {
    plane: Plane,
    http: reqwest::Client,
    directory: Directory,
}

/// A server and its superuser.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// The plane's own, over its private socket.
    Own(&'a Bench),
    /// One that was registered.
    Given(&'a str, &'a Cluster),
}

impl Place<'_> {
    pub fn server(&self) -> &str {
        match self {
            Self::Own(_) => OWN,
            Self::Given(server, _) => server,
        }
    }

    pub fn superuser(&self) -> &'static str {
        match self {
            Self::Own(_) => ADMIN,
            Self::Given(..) => GIVEN_ADMIN,
        }
    }

    pub async fn admin(&self, database: &str) -> Res<Client> {
        match self {
            Self::Own(bench) => bench.admin(database).await,
            Self::Given(_, cluster) => Ok(cluster.connect_as(GIVEN_ADMIN, ADMIN_PASSWORD, database).await?),
        }
    }

    /// Whom Freehold works as there, and whether that is a superuser.
    pub fn maker(&self) -> (&'static str, bool) {
        match self {
            Self::Own(_) => (ADMIN, true),
            Self::Given(..) => (WEAK_ADMIN, false),
        }
    }

    /// A session of the same.
    pub async fn as_maker(&self, database: &str) -> Res<Client> {
        let Self::Given(_, cluster) = self else { return self.admin(database).await };
        let client = cluster.connect_as(WEAK_ADMIN, WEAK_ADMIN_PASSWORD, database).await?;
        if cluster.version() >= 16 {
            client.batch_execute("SET createrole_self_grant = 'set, inherit'").await?;
        }
        Ok(client)
    }

    /// Whether whoever makes a role is a member of it from then on.
    pub fn joins_what_it_makes(&self) -> bool {
        match self {
            Self::Own(_) => true,
            Self::Given(_, cluster) => cluster.version() >= 16,
        }
    }

    /// For programs of PostgreSQL.
    pub fn environment(&self) -> Res<[(&'static str, String); 4]> {
        let (host, port, password) = match self {
            Self::Own(bench) => (bench.socket().display().to_string(), bench.postgres_port()?, ""),
            Self::Given(_, cluster) => ("127.0.0.1".to_owned(), cluster.port(), ADMIN_PASSWORD),
        };
        let user = self.superuser().to_owned();
        Ok([("PGHOST", host), ("PGPORT", port.to_string()), ("PGUSER", user), ("PGPASSWORD", password.to_owned())])
    }
}

impl Bench {
    /// With so many databases kept ready of each template named, and none of the others.
    pub async fn start(binary: &Path, stock: &[(&str, u32)]) -> Res<Self> {
        Self::start_as(Plane::dev(binary), stock).await
    }

    /// The same with a pooler of this version.
    pub async fn start_pooled(binary: &Path, pooler: &str, stock: &[(&str, u32)]) -> Res<Self> {
        Self::start_as(Plane::dev(binary).pooler(pooler), stock).await
    }

    /// Two servers and a pooler of this version.
    pub async fn start_two(binary: &Path, pooler: &str, stock: &[(&str, u32)]) -> Res<Self> {
        Self::start_as(Plane::dev(binary).pooler(pooler).arg("--servers").arg("2"), stock).await
    }

    async fn start_as(plane: PlaneBuilder, stock: &[(&str, u32)]) -> Res<Self> {
        let directory = Directory::new();
        let settings = directory.path().join("settings.toml");
        write_settings(&settings, stock)?;
        let plane = plane
            .env("FREEHOLD_SETTINGS", &settings.display().to_string())
            .env("FREEHOLD_LOG", "warn")
            .arg("--capacity")
            .arg("20000")
            .start()
            .await;
        Ok(Self { plane, http: http_client(), directory })
    }

    /// A restart: settings are read once.
    pub async fn set_stock(&mut self, stock: &[(&str, u32)]) -> Res<()> {
        write_settings(&self.settings(), stock)?;
        // Hundreds of fresh databases are dirty: written now, the stop finds little to write and is short.
        self.admin("postgres").await?.batch_execute("CHECKPOINT").await?;
        self.plane.restart(&[]).await;
        // Connections kept alive went with the process.
        self.http = http_client();
        Ok(())
    }

    fn settings(&self) -> PathBuf {
        self.directory.path().join("settings.toml")
    }

    /// For files that programs started here need.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn pid(&self) -> u32 {
        self.plane.pid()
    }

    pub fn socket(&self) -> PathBuf {
        self.plane.data_dir().join("run")
    }

    pub fn postgres_port(&self) -> Res<u16> {
        let port = self.remembered()?.get("postgres_port").and_then(toml::Value::as_integer);
        Ok(u16::try_from(port.ok_or("dev.toml has no postgres_port")?)?)
    }

    /// Of `local-1` and `local-2`.
    pub fn ports(&self) -> Res<[u16; 2]> {
        let remembered = self.remembered()?;
        let second = remembered.get("server").and_then(|others| others.get(0)?.get("port")?.as_integer());
        Ok([self.postgres_port()?, u16::try_from(second.ok_or("dev.toml has no second server")?)?])
    }

    fn remembered(&self) -> Res<toml::Table> {
        Ok(std::fs::read_to_string(self.plane.data_dir().join("dev.toml"))?.parse()?)
    }

    /// The superuser, over the private socket, as Freehold's own sessions are.
    pub async fn admin(&self, database: &str) -> Res<Client> {
        self.admin_at(self.postgres_port()?, database).await
    }

    pub async fn admin_at(&self, port: u16, database: &str) -> Res<Client> {
        let mut config = Config::new();
        config.host_path(self.socket()).port(port).user(ADMIN).dbname(database);
        connect(&config).await
    }

    pub async fn store(&self) -> Res<Client> {
        self.admin(STORE).await
    }

    pub async fn get(&self, path: &str) -> Res<Value> {
        let url = format!("{}{path}", self.plane.url());
        let response = self.http.get(url).bearer_auth(self.plane.api_key()).send().await?;
        let (status, text) = (response.status(), response.text().await?);
        if !status.is_success() {
            return Err(format!("GET {path}: {status}: {text}").into());
        }
        Ok(serde_json::from_str(&text)?)
    }

    pub async fn post(&self, path: &str, body: &Value) -> Res<(u16, Value)> {
        let url = format!("{}{path}", self.plane.url());
        let request = self.http.post(url).bearer_auth(self.plane.api_key()).header("prefer", "wait=60").json(body);
        let response = request.send().await?;
        let (status, text) = (response.status().as_u16(), response.text().await?);
        if status >= 400 {
            return Err(format!("POST {path}: {status}: {text}").into());
        }
        Ok((status, serde_json::from_str(&text)?))
    }

    pub async fn delete(&self, path: &str) -> Res<()> {
        let url = format!("{}{path}", self.plane.url());
        let request = self.http.delete(url).bearer_auth(self.plane.api_key()).header("prefer", "wait=60");
        Ok(request.send().await?.error_for_status().map(drop)?)
    }

    /// Answers the connection's direct endpoint.
    pub async fn create(&self, id: &str, template: &str) -> Res<Value> {
        let (status, mut body) = self.post("/v1/tenants", &json!({"id": id, "template": template})).await?;
        match status {
            201 => Ok(body["connection"]["direct"].take()),
            _ => Err(format!("create {id}: {status}: {body}").into()),
        }
    }

    /// The thirty tables as a template.
    pub async fn add_template(&self, name: &str, kind: Kind) -> Res<()> {
        let naming = match kind {
            Kind::Named => "[naming]\nkind = \"pattern\"\ndatabase = \"bench_{tenant}\"\nlogin = \"bench_{tenant}\"\n",
            Kind::Plain | Kind::Claim => "[naming]\nkind = \"opaque\"\n",
        };
        let mut sql = schema::sql();
        let mut files = serde_json::Map::new();
        if kind == Kind::Claim {
            sql.push_str("CREATE TABLE tenant_info (tenant_id text PRIMARY KEY, display_name text NOT NULL);\n");
            let claim = "INSERT INTO tenant_info VALUES (current_setting('freehold.tenant_id'), current_setting('freehold.tenant_name'))\n\
                         ON CONFLICT (tenant_id) DO NOTHING;\n";
            files.insert("claim.sql".into(), claim.into());
        }
        files.insert("template.toml".into(), naming.into());
        files.insert("migrations/0001_items.sql".into(), sql.into());
        self.post("/v1/templates", &json!({"name": name, "files": files})).await.map(drop)
    }

    /// No loop refills stock until [`Bench::thaw`]; creates from stock go on.
    pub async fn freeze(&self) -> Res<()> {
        self.post("/v1/freezes", &json!({"target": "stock"})).await.map(drop)
    }

    pub async fn thaw(&self) -> Res<()> {
        self.delete("/v1/freezes/stock").await
    }

    /// Until so many are ready, or the time is up; answers how many are.
    pub async fn wait_for_stock(&self, template: &str, wanted: u32, patience: Duration) -> Res<u32> {
        let deadline = Instant::now() + patience;
        loop {
            let ready = self.ready(template).await?;
            if ready >= wanted || Instant::now() > deadline {
                return Ok(ready);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub async fn ready(&self, template: &str) -> Res<u32> {
        let status = self.get("/v1/status").await?;
        let levels = status["stock"].as_array().map(Vec::as_slice).unwrap_or_default();
        let level = levels.iter().find(|level| level["template"] == template);
        Ok(level.and_then(|level| u32::try_from(level["ready"].as_u64()?).ok()).unwrap_or(0))
    }

    /// Stock is there or the bench cannot go on.
    pub async fn need_stock(&self, template: &str, wanted: u32, patience: Duration) -> Res<()> {
        match self.wait_for_stock(template, wanted, patience).await? {
            ready if ready >= wanted => Ok(()),
            ready => Err(format!("{ready} of {wanted} databases of {template} are ready after {patience:?}").into()),
        }
    }

    /// Databases on the server.
    pub async fn databases(&self) -> Res<i64> {
        Ok(self.store().await?.query_one("select count(*) from pg_database", &[]).await?.get(0))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Claim,
    Named,
}

fn write_settings(path: &Path, stock: &[(&str, u32)]) -> Res<()> {
    let mut text = "[pooler]\ncapacity = 10000\n[stock]\nper_template = 0\n[stock.templates]\n".to_owned();
    for (template, wanted) in stock {
        let _ = writeln!(text, "{template} = {wanted}");
    }
    Ok(std::fs::write(path, text)?)
}

/// The driver that every connection here is made with.
pub async fn connect(config: &Config) -> Res<Client> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        // Its end is the client's error.
        let _ = connection.await;
    });
    Ok(client)
}

/// From an endpoint of an answer.
pub fn config(endpoint: &Value) -> Res<Config> {
    let text = |name: &str| endpoint[name].as_str().ok_or_else(|| format!("the connection has no {name}"));
    let port =
        endpoint["port"].as_u64().and_then(|port| u16::try_from(port).ok()).ok_or("the connection has no port")?;
    let mut config = Config::new();
    config.host(text("host")?).port(port).user(text("user")?).password(text("password")?).dbname(text("database")?);
    Ok(config)
}

/// Logs in and reads one row.
pub async fn first_row(endpoint: &Value) -> Res<Client> {
    let client = connect(&config(endpoint)?).await?;
    let rows = client.simple_query("select 1").await?;
    if rows.is_empty() { Err("no row came back".into()) } else { Ok(client) }
}
