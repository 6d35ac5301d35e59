//! A PostgreSQL with tenants in it, a plane that the test plays, and the real agent with its real PgBouncer.

use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use freehold_drivers::secrets::{Password, scram_verifier};
use freehold_drivers::server::sql::{Dsn, Session, SqlError};
use freehold_testkit::{Cluster, Directory, Port, Running, pooler_engine, processes_under};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::fake::{Fake, KEY, POOLER};

pub const BINARY: &str = env!("CARGO_BIN_EXE_freehold");
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Bench {
    pub cluster: Cluster,
    pub plane: Fake,
    pub agent: Option<Running>,
    pub port: Port,
    version: &'static str,
    // Last: what runs ends before its directory goes.
    directory: Directory,
}

#[derive(Clone)]
pub struct Tenant {
    pub name: String,
    pub role: String,
    pub password: Password,
    verifier: String,
}

impl Bench {
    /// No agent yet.
    pub async fn new(version: &'static str) -> Self {
        let (cluster, plane) = (Cluster::start(15), Fake::start().await);
        let bench = Self { cluster, plane, agent: None, port: Port::reserve(), version, directory: Directory::new() };
        std::fs::write(bench.key_file(), format!("{KEY}\n")).unwrap();
        bench
    }

    /// With this many tenants, served.
    pub async fn with_tenants(version: &'static str, count: usize) -> (Self, Vec<Tenant>) {
        let mut bench = Self::new(version).await;
        let mut tenants = Vec::new();
        for number in 0..count {
            tenants.push(bench.tenant(&format!("tenant{number}")).await);
        }
        bench.say(1, &tenants, &[]);
        bench.start(&[]);
        bench.plane.until_in_force(1).await;
        (bench, tenants)
    }

    pub fn key_file(&self) -> PathBuf {
        self.directory.path().join("key")
    }

    /// The agent's.
    pub fn home(&self) -> PathBuf {
        self.directory.path().join("pooler")
    }

    pub fn run(&self) -> PathBuf {
        self.home().join("run")
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(["pooler", "agent", "--plane", &self.plane.url(), "--pooler", POOLER]);
        command.arg("--key-file").arg(self.key_file()).arg("--directory").arg(self.home());
        command.arg("--pgbouncer").arg(pooler_engine(self.version));
        if !args.contains(&"--listen") {
            command.args(["--listen", &format!("127.0.0.1:{}", self.port.number)]);
        }
        command.args(args).current_dir(self.directory.path());
        command
    }

    pub fn start(&mut self, args: &[&str]) {
        assert!(self.agent.is_none(), "an agent runs already");
        self.agent = Some(Running::spawn(&mut self.command(args), &self.directory.path().join("log")));
    }

    pub fn end(&mut self, signal: Signal) -> ExitStatus {
        let mut agent = self.agent.take().expect("an agent runs");
        agent.signal(signal);
        agent.wait(PATIENCE)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// PgBouncer's.
    pub fn pooler(&self) -> Option<Pid> {
        processes_under(&self.run()).first().copied()
    }

    pub fn kill_pooler(&self) {
        kill(self.pooler().expect("PgBouncer runs"), Signal::SIGKILL).unwrap();
    }

    /// Role and database, open to nobody else.
    pub async fn tenant(&self, name: &str) -> Tenant {
        let password = Password::random(32);
        let verifier = scram_verifier(&password);
        let role = format!("{name}_login");
        let admin = self.cluster.connect("postgres").await;
        for sql in [
            format!("CREATE ROLE {role} LOGIN PASSWORD '{verifier}'"),
            format!("CREATE DATABASE {name}"),
            format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"),
            format!("GRANT CONNECT, TEMPORARY ON DATABASE {name} TO {role}"),
        ] {
            admin.batch_execute(&sql).await.unwrap();
        }
        Tenant { name: name.into(), role, password, verifier }
    }

    pub fn entry(&self, tenant: &Tenant) -> Value {
        json!({
            "name": tenant.name,
            "server": {"host": "127.0.0.1", "port": self.cluster.port()},
            "database": tenant.name,
            "mode": "transaction",
            "pool_size": 2,
            "reserve": 0,
            "database_connections": 4,
            "client_connections": null,
            "logins": [{"role": tenant.role, "verifier": tenant.verifier, "standing": "usable"}],
        })
    }

    pub fn assignment(&self, generation: u64, tenants: &[Tenant], pauses: &[Value]) -> Value {
        let entries: Vec<Value> = tenants.iter().map(|tenant| self.entry(tenant)).collect();
        let limits = serde_json::to_value(freehold_drivers::pooler::Limits::default()).unwrap();
        json!({"generation": generation, "served": {"limits": limits, "entries": entries}, "pauses": pauses})
    }

    pub fn say(&mut self, generation: u64, tenants: &[Tenant], pauses: &[Value]) {
        let assignment = self.assignment(generation, tenants, pauses);
        self.plane.say(assignment);
    }

    pub async fn login(&self, tenant: &Tenant) -> Result<Session, SqlError> {
        Session::connect(&self.dsn(tenant), Some(&tenant.name), "app", &[]).await
    }

    pub fn dsn(&self, tenant: &Tenant) -> Dsn {
        let text = format!("postgres://x@127.0.0.1:{}/x?sslmode=disable", self.port.number);
        Dsn::parse(&text).unwrap().with_user(&tenant.role, tenant.password.clone())
    }

    /// As soon as that is possible.
    pub async fn until_login(&self, tenant: &Tenant) -> Session {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.login(tenant).await {
                Ok(session) => return session,
                Err(error) => assert!(Instant::now() < deadline, "{error}\n{}", self.log()),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let pooler = std::fs::read_to_string(self.run().join("pgbouncer.log")).unwrap_or_default();
            eprintln_log(&format!("agent:\n{}\nPgBouncer:\n{pooler}", self.log()));
        }
    }
}

#[allow(clippy::print_stderr)]
fn eprintln_log(text: &str) {
    eprintln!("{text}");
}

/// The first column of the first row.
pub async fn ask(session: &Session, sql: &str) -> String {
    let rows = session.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    rows[0].get(0).unwrap_or_default().to_owned()
}

pub fn pause(database: &Tenant, drain_ms: u64, hold_ms: u64) -> (String, Value) {
    let id = uuid::Uuid::now_v7().to_string();
    (id.clone(), json!({"id": id, "database": database.name, "drain_ms": drain_ms, "hold_ms": hold_ms}))
}
