//! The same by hand: a PgBouncer, its console, `pg_dump | psql`.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use freehold_testkit::{Pgbouncer, engine};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio_postgres::{Client, Config};

use crate::Res;
use crate::bench::{ADMIN, Bench, connect};

/// Of Freehold's own pooler too.
pub const POOLER: &str = "1.24";
const LOGIN: &str = "hand";
const PASSWORD: &str = "handsOwnPassword1";
/// The one name that clients know.
const NAME: &str = "work";
const SETTINGS: &str = "auth_type = scram-sha-256\nadmin_users = hand\npool_mode = transaction\ndefault_pool_size = 5\n\
    query_wait_timeout = 0\nignore_startup_parameters = extra_float_digits\n";

pub struct Hand {
    pooler: Pgbouncer,
    console: Client,
    socket: PathBuf,
    /// Of both servers.
    ports: [u16; 2],
    /// `pg_dump` and `psql` of the servers' version: a newer one's dump has what they do not know.
    bin: PathBuf,
}

/// What the pooler's name stands for.
pub struct Place {
    port: u16,
    database: String,
    user: String,
    password: String,
}

impl Place {
    fn line(&self) -> String {
        let Self { port, database, user, password } = self;
        format!("{NAME} = host=127.0.0.1 port={port} dbname={database} user={user} password={password}")
    }
}

impl Hand {
    pub async fn start(bench: &Bench) -> Res<Self> {
        let ports = bench.ports()?;
        let mut version: i32 = 0;
        for port in ports {
            let admin = bench.admin_at(port, "postgres").await?;
            admin.batch_execute(&format!("CREATE ROLE {LOGIN} LOGIN PASSWORD '{PASSWORD}'")).await?;
            version = admin.query_one("SELECT current_setting('server_version_num')::int", &[]).await?.get(0);
        }
        let users = format!("\"{LOGIN}\" \"{PASSWORD}\"\n");
        let pooler = Pgbouncer::with_files(POOLER, &format!("{NAME} = host=127.0.0.1"), SETTINGS, &users);
        let mut config = Config::new();
        config.host("127.0.0.1").port(pooler.port()).user(LOGIN).password(PASSWORD).dbname("pgbouncer");
        let console = connect(&config).await?;
        let bin = engine(u32::try_from(version / 10_000)?);
        Ok(Self { pooler, console, socket: bench.socket(), ports, bin })
    }

    /// Where clients go.
    pub fn endpoint(&self) -> Value {
        json!({"host": "127.0.0.1", "port": self.pooler.port(), "user": LOGIN, "password": PASSWORD, "database": NAME})
    }

    /// A database of that name, made at one of the servers.
    pub async fn place(&self, bench: &Bench, server: usize, database: &str) -> Res<Place> {
        let port = self.ports[server];
        let sql = format!("CREATE DATABASE {database} OWNER {LOGIN}");
        bench.admin_at(port, "postgres").await?.batch_execute(&sql).await?;
        Ok(Place { port, database: database.into(), user: LOGIN.into(), password: PASSWORD.into() })
    }

    /// The pooler's name stands for this from now on, and was nobody's before.
    pub async fn begin_at(&self, place: &Place) -> Res<()> {
        self.write(place)?;
        self.tell("RELOAD").await
    }

    /// PAUSE, RELOAD, RESUME. Answers when it began and when it was over.
    pub async fn turn(&self, to: &Place) -> Res<(Instant, Instant)> {
        let began = Instant::now();
        self.tell(&format!("PAUSE {NAME}")).await?;
        self.write(to)?;
        self.tell("RELOAD").await?;
        self.tell(&format!("RESUME {NAME}")).await?;
        Ok((began, Instant::now()))
    }

    /// The same with a dump and restore in the middle: everybody waits.
    pub async fn carry(&self, from: &Place, to: &Place) -> Res<(Instant, Instant)> {
        let began = Instant::now();
        self.tell(&format!("PAUSE {NAME}")).await?;
        self.pipe(from, to).await?;
        self.write(to)?;
        self.tell("RELOAD").await?;
        self.tell(&format!("RESUME {NAME}")).await?;
        Ok((began, Instant::now()))
    }

    async fn pipe(&self, from: &Place, to: &Place) -> Res<()> {
        let script = "set -o pipefail; \"$6/pg_dump\" -p \"$1\" --no-owner --no-privileges --exclude-schema=freehold \"$2\" | \
                      PGOPTIONS=\"-c role=$5\" \"$6/psql\" -X -q -v ON_ERROR_STOP=1 -o /dev/null -p \"$3\" -d \"$4\"";
        let mut command = Command::new("/bin/bash");
        command.args(["-c", script, "pipe", &from.port.to_string(), &from.database]);
        command.args([&to.port.to_string(), &to.database, LOGIN]).arg(&self.bin);
        command.env("PGHOST", &self.socket).env("PGUSER", ADMIN).stdin(Stdio::null());
        let output = command.output().await?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("pg_dump | psql: {}", String::from_utf8_lossy(&output.stderr).trim()).into()),
        }
    }

    pub async fn drop(&self, bench: &Bench, place: Place) -> Res<()> {
        // Its pool lets go of what it has there.
        self.tell(&format!("KILL {NAME}")).await?;
        self.tell(&format!("RESUME {NAME}")).await?;
        let sql = format!("DROP DATABASE {} WITH (FORCE)", place.database);
        Ok(bench.admin_at(place.port, "postgres").await?.batch_execute(&sql).await?)
    }

    async fn tell(&self, command: &str) -> Res<()> {
        Ok(self.console.simple_query(command).await.map(drop).map_err(|error| format!("{command}: {error:?}"))?)
    }

    fn write(&self, place: &Place) -> Res<()> {
        let ini = self.pooler.ini();
        let text = std::fs::read_to_string(&ini)?;
        let mine = format!("{NAME} = ");
        let line = |line: &str| if line.starts_with(&mine) { place.line() } else { line.to_owned() };
        Ok(std::fs::write(&ini, text.lines().map(line).collect::<Vec<_>>().join("\n") + "\n")?)
    }
}

/// A tenant's own, as it reaches it without a pooler.
pub fn place_of(direct: &Value) -> Res<Place> {
    let text = |name: &str| Ok::<_, String>(direct[name].as_str().ok_or(format!("no {name}"))?.to_owned());
    let port = direct["port"].as_u64().and_then(|port| u16::try_from(port).ok()).ok_or("no port")?;
    Ok(Place { port, database: text("database")?, user: text("user")?, password: text("password")? })
}
