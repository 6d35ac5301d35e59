//! A PostgreSQL with tenants in it, a PgBouncer in front, and the driver under test.

use std::collections::BTreeMap;
use std::time::Duration;

use freehold_drivers::pooler::pgbouncer::{PgBouncer, PgBouncerOptions};
use freehold_drivers::pooler::{
    Applied, ClientTls, Configuration, Console, ConsoleLogin, Entry, Limits, Listen, Login, Mode, Pooler, Server,
    ServerTls, Standing, Verifier,
};
use freehold_drivers::secrets::{Password, scram_verifier};
use freehold_drivers::server::sql::{Dsn, Session, SqlError};
use freehold_testkit::{Cluster, Pgbouncer};

pub const ADMIN: &str = "freehold_admin";

pub struct Bench {
    pub cluster: Cluster,
    pub pooler: Pgbouncer,
    pub driver: PgBouncer,
    pub keys: Keys,
}

/// Of the console's two logins.
pub struct Keys {
    pub admin: Password,
    pub check: Password,
    console: Console,
}

#[derive(Clone)]
pub struct Tenant {
    pub entry: String,
    pub database: String,
    pub role: String,
    pub password: Password,
    pub verifier: Verifier,
}

pub fn verifier(password: &Password) -> Verifier {
    Verifier::parse(scram_verifier(password)).unwrap()
}

impl Keys {
    pub fn new() -> Self {
        let (admin, check) = (Password::random(20), Password::random(20));
        let login = |name: &str, password| ConsoleLogin { name: name.into(), verifier: verifier(password) };
        let console = Console {
            admin: login(ADMIN, &admin),
            check: login("freehold_check", &check),
            networks: vec!["127.0.0.1/32".into(), "::1/128".into()],
        };
        Self { admin, check, console }
    }

    /// With nobody in it.
    pub fn configuration(&self, generation: u64, port: u16) -> Configuration {
        Configuration {
            generation,
            listen: Listen { addresses: vec!["127.0.0.1".into()], port },
            console: self.console.clone(),
            client_tls: ClientTls::Off,
            server_tls: ServerTls::Off,
            limits: Limits::default(),
            extra: BTreeMap::new(),
            entries: Vec::new(),
        }
    }

    pub fn options(&self, directory: &std::path::Path, port: u16) -> PgBouncerOptions {
        let mut options = PgBouncerOptions::local(directory, port, ADMIN, self.admin.clone());
        options.check_password = Some(self.check.clone());
        options.pace = Duration::from_millis(20);
        options
    }
}

impl Bench {
    /// Running, with nobody in it yet.
    pub async fn start(version: &str) -> Self {
        let bench = Self::stopped(version, Cluster::start(15));
        bench.started().await
    }

    pub fn stopped(version: &str, cluster: Cluster) -> Self {
        let pooler = Pgbouncer::new(version);
        let keys = Keys::new();
        let driver = PgBouncer::new(keys.options(pooler.directory(), pooler.port()));
        Self { cluster, pooler, driver, keys }
    }

    pub async fn started(mut self) -> Self {
        let program = freehold_drivers::pooler::pgbouncer::find_program(Some(self.pooler.program())).unwrap();
        self.driver.write(&self.configuration(1, &[]), program.release).await.unwrap();
        self.pooler.start();
        self
    }

    pub fn configuration(&self, generation: u64, tenants: &[Tenant]) -> Configuration {
        let mut wanted = self.keys.configuration(generation, self.pooler.port());
        wanted.entries = tenants.iter().map(|tenant| self.entry(tenant)).collect();
        wanted
    }

    pub fn entry(&self, tenant: &Tenant) -> Entry {
        tenant.entry_on("127.0.0.1", self.cluster.port())
    }

    pub async fn apply(&self, generation: u64, tenants: &[Tenant]) -> Applied {
        let wanted = self.configuration(generation, tenants);
        self.driver.apply(&wanted).await.unwrap_or_else(|error| panic!("{error}\n{}", self.pooler.log()))
    }

    /// Role and database, open to nobody else.
    pub async fn tenant(&self, name: &str) -> Tenant {
        let tenant = Tenant::new(name);
        self.make(&tenant).await;
        tenant
    }

    pub async fn tenants(&self, count: usize) -> Vec<Tenant> {
        let mut tenants = Vec::new();
        for number in 0..count {
            tenants.push(self.tenant(&format!("tenant{number}")).await);
        }
        tenants
    }

    pub async fn make(&self, tenant: &Tenant) {
        let admin = self.cluster.connect("postgres").await;
        let Tenant { database, role, .. } = tenant;
        let (database, role) = (ident(database), ident(role));
        for sql in [
            format!("CREATE ROLE {role} LOGIN PASSWORD '{}'", tenant.verifier.as_str()),
            format!("CREATE DATABASE {database}"),
            format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"),
            format!("GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role}"),
        ] {
            admin.batch_execute(&sql).await.unwrap();
        }
    }

    pub async fn login(&self, tenant: &Tenant) -> Result<Session, SqlError> {
        self.login_to(tenant, &tenant.entry).await
    }

    pub async fn login_to(&self, tenant: &Tenant, entry: &str) -> Result<Session, SqlError> {
        Session::connect(&self.dsn(tenant), Some(entry), "app", &[]).await
    }

    pub fn dsn(&self, tenant: &Tenant) -> Dsn {
        let text = format!("postgres://x@127.0.0.1:{}/x?sslmode=disable", self.pooler.port());
        Dsn::parse(&text).unwrap().with_user(&tenant.role, tenant.password.clone())
    }

    /// The console's administrator, by hand.
    pub async fn console(&self) -> Session {
        let dsn = Dsn::to_socket(self.pooler.directory(), self.pooler.port(), ADMIN, "pgbouncer");
        Session::connect(&dsn.with_user(ADMIN, self.keys.admin.clone()), None, "by hand", &[]).await.unwrap()
    }
}

impl Tenant {
    pub fn new(name: &str) -> Self {
        let password = Password::random(32);
        Self {
            entry: name.into(),
            database: format!("{name} db"),
            role: format!("{name} login"),
            verifier: verifier(&password),
            password,
        }
    }

    /// Another login of the same database.
    pub fn with_role(&self, role: &str) -> Self {
        Self { role: role.into(), entry: self.entry.clone(), database: self.database.clone(), ..Self::new("x") }
    }

    pub fn entry_on(&self, host: &str, port: u16) -> Entry {
        Entry {
            name: self.entry.clone(),
            server: Server { host: host.into(), port },
            database: self.database.clone(),
            mode: Some(Mode::Transaction),
            pool_size: 3,
            reserve: 1,
            database_connections: Some(6),
            client_connections: None,
            logins: vec![self.as_login(Standing::Usable)],
        }
    }

    pub fn as_login(&self, standing: Standing) -> Login {
        Login { role: self.role.clone(), verifier: self.verifier.clone(), standing }
    }
}

pub fn ident(name: &str) -> String {
    postgres_protocol::escape::escape_identifier(name)
}

/// The first column of the first row.
pub async fn ask(session: &Session, sql: &str) -> String {
    let rows = session.simple_query(sql).await.unwrap_or_else(|error| panic!("{error}"));
    rows[0].get(0).unwrap_or_default().to_owned()
}
