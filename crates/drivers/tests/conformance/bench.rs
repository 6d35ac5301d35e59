//! A throw-away cluster with an admin of the wanted power, and tenants made by the verbs under test.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use freehold_drivers::platform::process::{Binaries, Cluster, ClusterOptions, Durability, find_binaries};
use freehold_drivers::secrets::{Password, scram_verifier};
use freehold_drivers::server::sql::{Admin, CreateDatabase, Dsn, Limits, OwnDatabase, Roles, Session, SqlError};
use tempfile::TempDir;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Engine {
    Pg15,
    Pg18,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Power {
    Superuser,
    Weak,
}

pub struct Bench {
    pub cluster: Cluster,
    pub engine: Engine,
    pub power: Power,
    /// The admin under test.
    pub dsn: Dsn,
    _dir: TempDir,
}

pub struct Tenant {
    pub roles: Roles,
    pub database: String,
    pub password: Password,
    pub verifier: String,
    pub maintenance_password: Password,
    pub maintenance_verifier: String,
    pub limits: Limits,
}

/// Fails, never skips: an engine that is not there must not look like one that passed.
pub fn binaries(engine: Engine) -> Binaries {
    let (variable, default) = match engine {
        Engine::Pg15 => ("FREEHOLD_PG15_BIN", "/usr/lib/postgresql/15/bin"),
        Engine::Pg18 => ("FREEHOLD_PG18_BIN", "/var/cache/freehold-engines/18/bin"),
    };
    let dir = env::var_os(variable).map_or_else(|| PathBuf::from(default), PathBuf::from);
    find_binaries(Some(&dir))
        .unwrap_or_else(|error| panic!("engine of {variable} is missing: {error}; see scripts/engines"))
}

/// Enterable by the user PostgreSQL runs as.
pub fn directory() -> TempDir {
    let dir = tempfile::Builder::new().prefix("fh").tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

pub fn options(engine: Engine, dir: &Path) -> ClusterOptions {
    let mut options = ClusterOptions::new(binaries(engine), dir.join("data"), dir.join("s"), free_port());
    options.durability = Durability::ThrowAway;
    options.max_connections = 40;
    for (name, value) in [
        ("shared_buffers", "32MB"),
        ("min_wal_size", "64MB"),
        ("log_statement", "all"),
        ("log_min_error_statement", "error"),
    ] {
        options.settings.insert(name.into(), value.into());
    }
    options
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Bench {
    pub async fn start(engine: Engine, power: Power) -> Self {
        let dir = directory();
        let cluster = Cluster::new(options(engine, dir.path())).unwrap();
        cluster.start().await.unwrap();
        let superuser = Admin::connect(&cluster.admin_dsn(), None, "bench").await.unwrap();
        // Somebody has to be able to: with a weak admin that is the person who runs the server.
        assert!(superuser.secure_server().await.unwrap().is_empty());
        let mut dsn = cluster.admin_dsn();
        if power == Power::Weak {
            let password = Password::random(20);
            let sql = format!(
                "CREATE ROLE \"weak-admin\" LOGIN CREATEDB CREATEROLE PASSWORD '{}'; GRANT CONNECT ON DATABASE postgres TO \"weak-admin\"",
                scram_verifier(&password)
            );
            superuser.client().batch_execute(&sql).await.unwrap();
            dsn = tcp(&cluster).with_user("weak-admin", password);
        }
        superuser.close().await;
        Self { cluster, engine, power, dsn, _dir: dir }
    }

    pub async fn admin(&self) -> Admin {
        Admin::connect(&self.dsn, Some("postgres"), "fh:test").await.unwrap()
    }

    pub async fn admin_in(&self, database: &str) -> Admin {
        Admin::connect(&self.dsn, Some(database), "fh:test").await.unwrap()
    }

    pub async fn superuser_in(&self, database: &str) -> Session {
        Session::connect(&self.cluster.admin_dsn(), Some(database), "superuser", &[]).await.unwrap()
    }

    /// Role, database, ownership: everything as a stock database has it.
    pub async fn tenant(&self, name: &str) -> Tenant {
        let tenant = Tenant::new(name);
        let admin = self.admin().await;
        tenant.ensure(self, &admin).await;
        tenant
    }

    pub fn dsn_of(&self, tenant: &Tenant) -> Dsn {
        tcp(&self.cluster).with_user(&tenant.roles.login, tenant.password.clone()).with_database(&tenant.database)
    }

    pub async fn login(&self, tenant: &Tenant) -> Result<Session, SqlError> {
        Session::connect(&self.dsn_of(tenant), None, "app", &[]).await
    }

    pub async fn maintenance(&self, tenant: &Tenant) -> Session {
        let dsn = self.dsn_of(tenant).with_user(&tenant.roles.maintenance, tenant.maintenance_password.clone());
        Session::connect(&dsn, None, "fh:test", &[("lock_timeout", "2s")]).await.unwrap()
    }
}

pub fn tcp(cluster: &Cluster) -> Dsn {
    let (host, port) = cluster.address();
    cluster.admin_dsn().with_host(host, port)
}

impl Tenant {
    pub fn new(name: &str) -> Self {
        let (password, maintenance_password) = (Password::random(32), Password::random(32));
        Self {
            roles: Roles {
                owner: format!("{name} owner"),
                login: name.into(),
                maintenance: format!("{name} maint"),
                extra: Vec::new(),
            },
            database: format!("{name} db"),
            verifier: scram_verifier(&password),
            maintenance_verifier: scram_verifier(&maintenance_password),
            password,
            maintenance_password,
            limits: Limits {
                connection_limit: 5,
                statement_timeout_ms: 30_000,
                idle_in_transaction_timeout_ms: 60_000,
                work_mem_kb: Some(2048),
                temp_file_limit_kb: Some(10_240),
            },
        }
    }

    pub async fn ensure(&self, bench: &Bench, admin: &Admin) {
        admin.ensure_roles(&self.roles, &self.verifier, &self.maintenance_verifier, &self.limits).await.unwrap();
        admin.ensure_database(&self.database, &CreateDatabase::default()).await.unwrap();
        let inside = bench.admin_in(&self.database).await;
        let settings = [("app.tenant", "it's"), ("work_mem", "3MB"), ("search_path", "public, pg_catalog")];
        let findings = inside
            .own_database(&self.roles, &OwnDatabase { settings: &settings, ..OwnDatabase::default() })
            .await
            .unwrap();
        let codes: Vec<_> = findings.iter().map(|finding| finding.code).collect();
        match bench.power {
            Power::Superuser => assert!(codes.is_empty()),
            // A made-up name is nobody's to set but a superuser's.
            Power::Weak => assert_eq!(codes, ["setting_not_settable"]),
        }
        inside.close().await;
    }
}

/// The first column of the first row.
pub async fn ask(session: &Session, sql: &str) -> String {
    let rows = session.simple_query(sql).await.unwrap();
    rows[0].get(0).unwrap_or_default().to_owned()
}
