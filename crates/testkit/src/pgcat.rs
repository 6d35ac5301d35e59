//! In place of PgCat, which cannot be installed everywhere: its console as its sources (1.2) publish it: MD5, simple queries, the columns of its `SHOW`s, its names for settings.
//! It reads the real file, and refuses what PgCat would not know.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use postgres_protocol::authentication::md5_hash;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const GENERAL: [&str; 12] = [
    "host",
    "port",
    "connect_timeout",
    "idle_timeout",
    "server_lifetime",
    "ban_time",
    "autoreload",
    "worker_threads",
    "admin_username",
    "admin_password",
    "tls_certificate",
    "tls_private_key",
];
const POOL: [&str; 7] = [
    "pool_mode",
    "load_balancing_mode",
    "query_parser_enabled",
    "primary_reads_enabled",
    "prepared_statements_cache_size",
    "users",
    "shards",
];
const USER: [&str; 3] = ["username", "password", "pool_size"];
const SHARD: [&str; 2] = ["servers", "database"];

/// What it does, and is to do.
#[derive(Debug, Default)]
pub struct World {
    /// What it runs with: by pool, the rest of the file.
    pools: BTreeMap<String, toml::Table>,
    pub paused: BTreeSet<(String, String)>,
    /// Busy servers, by pool and user.
    pub busy: BTreeMap<(String, String), u32>,
    /// It answers RELOAD with success and reads nothing.
    pub is_deaf: bool,
    pub commands: Vec<String>,
}

/// Ends when it is dropped.
pub struct PgcatConsole {
    pub port: u16,
    world: Arc<Mutex<World>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for PgcatConsole {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl PgcatConsole {
    /// At `port`, or at one that is free. Its administrator is this user.
    pub async fn start(file: PathBuf, port: Option<u16>, user: &str, password: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port.unwrap_or(0))).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let world = Arc::new(Mutex::new(World::default()));
        let (user, password) = (user.to_owned(), password.to_owned());
        let shared = world.clone();
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let console = Console {
                    stream,
                    world: shared.clone(),
                    file: file.clone(),
                    user: user.clone(),
                    password: password.clone(),
                };
                tokio::spawn(console.serve());
            }
        });
        Self { port, world, server }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }
}

struct Console {
    stream: TcpStream,
    world: Arc<Mutex<World>>,
    file: PathBuf,
    user: String,
    password: String,
}

type Table = (Vec<&'static str>, Vec<Vec<String>>);

impl Console {
    /// Ends with the connection.
    async fn serve(mut self) -> Option<()> {
        let startup = loop {
            let length = self.stream.read_i32().await.ok()?;
            let mut body = vec![0; usize::try_from(length).ok()? - 4];
            self.stream.read_exact(&mut body).await.ok()?;
            if body[..4] == 80_877_103_i32.to_be_bytes() {
                self.stream.write_all(b"N").await.ok()?;
                continue;
            }
            break body;
        };
        let words: Vec<&str> = std::str::from_utf8(&startup[4..]).ok()?.split('\0').collect();
        let said = |key| words.chunks(2).find(|pair| pair[0] == key).map_or("", |pair| pair[1]);
        let (user, database) = (said("user").to_owned(), said("database").to_owned());
        if !["pgcat", "pgbouncer"].contains(&database.as_str()) {
            let text = format!("No pool configured for database: {database}, user: {user}");
            return self.fail("58000", &text).await;
        }
        let salt = [1, 2, 3, 4];
        let mut ask = 5_i32.to_be_bytes().to_vec();
        ask.extend(salt);
        self.send(b'R', &ask).await?;
        let (_, answer) = self.receive().await?;
        let expected = md5_hash(self.user.as_bytes(), self.password.as_bytes(), salt);
        if user != self.user || answer != format!("{expected}\0").as_bytes() {
            return self.fail("28P01", &format!("password authentication failed for user \"{user}\"")).await;
        }
        self.send(b'R', &0_i32.to_be_bytes()).await?;
        for (name, value) in [("server_version", "1.2.0"), ("client_encoding", "UTF8")] {
            self.send(b'S', format!("{name}\0{value}\0").as_bytes()).await?;
        }
        self.send(b'K', &[0; 8]).await?;
        self.send(b'Z', b"I").await?;
        loop {
            let (kind, body) = self.receive().await?;
            // Anything but a simple query is an error that ends the connection.
            if kind != b'Q' {
                return None;
            }
            let text = String::from_utf8(body).ok()?.trim_end_matches('\0').to_owned();
            self.answer(&text).await?;
            self.send(b'Z', b"I").await?;
        }
    }

    async fn answer(&mut self, text: &str) -> Option<()> {
        self.world.lock().unwrap().commands.push(text.to_owned());
        let words: Vec<String> = text.trim_end_matches(';').split_whitespace().map(str::to_owned).collect();
        let word = |at: usize| words.get(at).map_or("", String::as_str);
        match (word(0), word(1)) {
            ("RELOAD", _) => {
                if !self.world.lock().unwrap().is_deaf {
                    // What it cannot read ends the connection, without a word.
                    let pools = read(&std::fs::read_to_string(&self.file).ok()?)?;
                    self.world.lock().unwrap().pools = pools;
                }
                self.send(b'C', b"RELOAD\0").await
            }
            (verb @ ("PAUSE" | "RESUME"), _) => {
                let pool = word(1).split_once(',').map(|(one, other)| (one.to_owned(), other.to_owned()))?;
                if !self.world.lock().unwrap().is_pool(&pool) {
                    return self.fail("58000", "No pool configured").await;
                }
                {
                    let mut world = self.world.lock().unwrap();
                    match verb {
                        "PAUSE" => world.paused.insert(pool),
                        _ => world.paused.remove(&pool),
                    };
                }
                self.send(b'C', format!("{verb} {}\0", word(1)).as_bytes()).await
            }
            ("SHOW", what) => {
                let shown = self.world.lock().unwrap().show(what);
                match shown {
                    Some((columns, rows)) => self.rows(&columns, &rows).await,
                    None => self.fail("58000", "Unsupported SHOW query against the admin database").await,
                }
            }
            _ => self.fail("58000", "Unsupported query against the admin database").await,
        }
    }

    async fn rows(&mut self, columns: &[&str], rows: &[Vec<String>]) -> Option<()> {
        let mut description = i16::try_from(columns.len()).ok()?.to_be_bytes().to_vec();
        for column in columns {
            description.extend(column.as_bytes());
            description.extend([0, 0, 0, 0, 0, 0, 0]);
            description.extend(25_i32.to_be_bytes());
            description.extend([255, 255, 255, 255, 255, 255, 0, 0]);
        }
        self.send(b'T', &description).await?;
        for row in rows {
            let mut body = i16::try_from(row.len()).ok()?.to_be_bytes().to_vec();
            for value in row {
                body.extend(i32::try_from(value.len()).ok()?.to_be_bytes());
                body.extend(value.as_bytes());
            }
            self.send(b'D', &body).await?;
        }
        self.send(b'C', b"SHOW\0").await
    }

    /// PgCat calls every error fatal, and goes on.
    async fn fail(&mut self, code: &str, text: &str) -> Option<()> {
        self.send(b'E', format!("SFATAL\0VFATAL\0C{code}\0M{text}\0\0").as_bytes()).await
    }

    async fn send(&mut self, kind: u8, body: &[u8]) -> Option<()> {
        let mut message = vec![kind];
        message.extend(i32::try_from(body.len() + 4).ok()?.to_be_bytes());
        message.extend(body);
        self.stream.write_all(&message).await.ok()
    }

    async fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let kind = self.stream.read_u8().await.ok()?;
        let length = self.stream.read_i32().await.ok()?;
        let mut body = vec![0; usize::try_from(length).ok()? - 4];
        self.stream.read_exact(&mut body).await.ok()?;
        Some((kind, body))
    }
}

impl World {
    /// Pool, user, and what it is.
    fn all(&self) -> Vec<(String, String, u64, &toml::Table)> {
        let mut all = Vec::new();
        for (name, pool) in &self.pools {
            for user in pool["users"].as_table().unwrap().values() {
                let size = user["pool_size"].as_integer().unwrap();
                all.push((name.clone(), user["username"].as_str().unwrap().into(), u64::try_from(size).unwrap(), pool));
            }
        }
        all
    }

    fn is_pool(&self, pool: &(String, String)) -> bool {
        self.all().iter().any(|(name, user, ..)| (name, user) == (&pool.0, &pool.1))
    }

    fn show(&self, what: &str) -> Option<Table> {
        let strings = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        match what {
            "VERSION" => Some((vec!["version"], vec![strings(&["PgCat 1.2.0"])])),
            "DATABASES" => {
                let columns = vec![
                    "name",
                    "host",
                    "port",
                    "database",
                    "force_user",
                    "pool_size",
                    "min_pool_size",
                    "reserve_pool",
                    "pool_mode",
                    "max_connections",
                    "current_connections",
                    "paused",
                    "disabled",
                ];
                let row = |(name, user, size, pool): (String, String, u64, &toml::Table)| {
                    let shard = &pool["shards"]["0"];
                    let server = shard["servers"][0].as_array().unwrap();
                    let is_paused = self.paused.contains(&(name.clone(), user.clone()));
                    strings(&[
                        &format!("{name}_shard_0_{}", server[2].as_str().unwrap()),
                        server[0].as_str().unwrap(),
                        &server[1].as_integer().unwrap().to_string(),
                        shard["database"].as_str().unwrap(),
                        &user,
                        &size.to_string(),
                        "0",
                        "0",
                        pool["pool_mode"].as_str().unwrap(),
                        &size.to_string(),
                        "1",
                        if is_paused { "1" } else { "0" },
                        "0",
                    ])
                };
                Some((columns, self.all().into_iter().map(row).collect()))
            }
            "POOLS" => {
                let columns = vec![
                    "database",
                    "user",
                    "pool_mode",
                    "cl_idle",
                    "cl_active",
                    "cl_waiting",
                    "cl_cancel_req",
                    "sv_active",
                    "sv_idle",
                    "sv_used",
                    "sv_tested",
                    "sv_login",
                    "maxwait",
                    "maxwait_us",
                ];
                let row = |(name, user, _, pool): (String, String, u64, &toml::Table)| {
                    let busy = self.busy.get(&(name.clone(), user.clone())).copied().unwrap_or(0).to_string();
                    let mode = pool["pool_mode"].as_str().unwrap();
                    strings(&[&name, &user, mode, "0", &busy, "0", "0", &busy, "1", "0", "0", "0", "1", "500000"])
                };
                Some((columns, self.all().into_iter().map(row).collect()))
            }
            "STATS" => {
                let columns = vec![
                    "instance",
                    "database",
                    "user",
                    "total_xact_count",
                    "total_query_count",
                    "total_received",
                    "total_sent",
                    "total_xact_time",
                    "total_query_time",
                    "total_wait_time",
                    "total_errors",
                ];
                let row = |(name, user, ..): (String, String, u64, &toml::Table)| {
                    strings(&[&format!("{name}_shard_0_primary"), &name, &user, "3", "4", "5", "6", "7", "8", "9", "0"])
                };
                Some((columns, self.all().into_iter().map(row).collect()))
            }
            _ => None,
        }
    }
}

/// None: PgCat would not read it.
fn read(text: &str) -> Option<BTreeMap<String, toml::Table>> {
    let file: toml::Table = text.parse().ok()?;
    let known = |table: &toml::Table, names: &[&str]| {
        for name in table.keys() {
            assert!(names.contains(&name.as_str()), "PgCat has no setting {name}");
        }
    };
    let general = file.get("general")?.as_table()?;
    known(general, &GENERAL);
    for name in ["admin_username", "admin_password"] {
        general.get(name)?.as_str()?;
    }
    let mut pools = BTreeMap::new();
    for (name, pool) in file.get("pools")?.as_table()? {
        let pool = pool.as_table()?;
        known(pool, &POOL);
        for user in pool.get("users")?.as_table()?.values() {
            let user = user.as_table()?;
            known(user, &USER);
            user.get("username")?.as_str()?;
            user.get("password")?.as_str()?;
            user.get("pool_size")?.as_integer()?;
        }
        for shard in pool.get("shards")?.as_table()?.values() {
            let shard = shard.as_table()?;
            known(shard, &SHARD);
            shard.get("database")?.as_str()?;
            let server = shard.get("servers")?.as_array()?.first()?.as_array()?;
            assert!(server.len() == 3 && server[1].is_integer() && server[2].as_str() == Some("primary"), "{server:?}");
        }
        pools.insert(name.clone(), pool.clone());
    }
    Some(pools)
}
