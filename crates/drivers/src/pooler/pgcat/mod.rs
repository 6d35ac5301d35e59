//! PgCat, for those who run one: one TOML file and its console, which is SQL by simple queries.
//!
//! PgCat authenticates clients by MD5 and servers by whatever they ask for, so it needs **plain passwords**, in its file
//! (mode 0600). They are no part of a [`Configuration`]; whoever wants this driver hands them over as [`PlainPasswords`].
//! It cannot be given an authority for its servers, nor made to insist on TLS from clients: such configurations are refused.
//!
//! PgCat cannot be installed where this is built. The driver is written from its published sources (1.2), and tested against
//! a console of our own that answers as those do; what this cannot show is how a real one behaves.

mod render;
mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::RwLock;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::pgbouncer::{Console, pool_of, totals_of};
use super::seal::{failed, read_back, replace, sealed};
use super::{
    Applied, Configuration, DatabaseStats, Holder, Observed, Pace, Pause, Pooler, PoolerError, PoolerErrorKind,
};
use crate::server::sql::Dsn;

pub use render::{PlainPasswords, render};
use render::{Wanted, wanted_pools};
pub use shared::{SharedPgCat, SharedPgCatOptions};

#[derive(Debug, Clone)]
pub struct PgCatOptions {
    /// `pgcat.toml`; its directory is there.
    pub file: PathBuf,
    /// The console: the administrator of the configuration.
    pub console: Dsn,
    pub command_limit: Duration,
    pub pace: Duration,
}

pub struct PgCat {
    options: PgCatOptions,
    passwords: RwLock<PlainPasswords>,
    pace: Pace,
}

/// Between two looks at what is still busy.
const LOOK: Duration = Duration::from_millis(25);

impl PgCatOptions {
    pub fn new(file: impl Into<PathBuf>, console: Dsn) -> Self {
        Self { file: file.into(), console, command_limit: Duration::from_secs(10), pace: Duration::from_secs(1) }
    }
}

impl PgCat {
    pub fn new(options: PgCatOptions, passwords: PlainPasswords) -> Self {
        let pace = Pace::new(options.pace);
        Self { options, passwords: RwLock::new(passwords), pace }
    }

    /// Those of the next configuration.
    pub fn set_passwords(&self, passwords: PlainPasswords) {
        *self.passwords.write().unwrap_or_else(std::sync::PoisonError::into_inner) = passwords;
    }

    async fn open(&self) -> Result<Console, PoolerError> {
        Console::connect_to(&self.options.console, "pgcat", self.options.command_limit).await
    }

    /// For people.
    fn file_name(&self) -> String {
        self.options.file.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// None: not there.
    fn read(&self) -> Result<Option<String>, PoolerError> {
        match std::fs::read_to_string(&self.options.file) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &self.options.file, error)),
        }
    }

    /// The previous file is in force again, as far as that is possible.
    async fn take_back(&self, before: Option<&str>, error: PoolerError) -> PoolerError {
        let Some(before) = before.filter(|text| read_back(text).is_some()) else { return error };
        // A configuration that PgCat cannot read ends the connection that asked for it.
        let back = async {
            replace(&self.options.file, before.as_bytes())?;
            self.open().await?.command("RELOAD").await.map(drop)
        };
        let told = match back.await {
            Ok(()) => "the file of before is back".to_owned(),
            Err(back) => format!("and the file of before could not be put back: {back}"),
        };
        PoolerError { message: format!("{}; {told}", error.message), ..error }
    }
}

#[async_trait]
impl Pooler for PgCat {
    fn kind(&self) -> &'static str {
        "pgcat"
    }

    async fn version(&self) -> Result<String, PoolerError> {
        let console = self.open().await?;
        let rows = console.command("SHOW VERSION").await?;
        let said = rows.first().map_or("", |row| row.text("version"));
        match said.strip_prefix("PgCat ") {
            Some(version) => Ok(version.to_owned()),
            None => Err(PoolerError::new(PoolerErrorKind::NotAPooler, format!("no PgCat: it says it is {said:?}"))),
        }
    }

    async fn apply(&self, wanted: &Configuration) -> Result<Applied, PoolerError> {
        let text = {
            let passwords = self.passwords.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            sealed('#', wanted.generation, &render(wanted, &passwords)?)
        };
        let console = self.open().await?;
        let mut turn = self.pace.turn().await;
        let before = self.read()?;
        let there = before.as_deref().and_then(read_back);
        if let Some(there) = there.filter(|there| *there > wanted.generation) {
            return Err(super::error::outdated(there, wanted.generation));
        }
        let pools = wanted_pools(&wanted.entries, &wanted.limits);
        let is_written = before.as_deref() == Some(&text);
        let mut reloads = 0;
        if !is_written || in_force(&console, &pools).await.is_err() {
            replace(&self.options.file, text.as_bytes())?;
            turn.taken();
            reloads = 1;
            let reloaded = async {
                console.command("RELOAD").await?;
                in_force(&console, &pools).await
            };
            if let Err(error) = reloaded.await {
                return Err(self.take_back(before.as_deref(), error).await);
            }
        }
        let was_edited = before.is_some() && there.is_none();
        Ok(Applied {
            generation: wanted.generation,
            reloads,
            repaired: was_edited.then(|| self.file_name()).into_iter().collect(),
            needs_restart: BTreeSet::new(),
            left_out: render::left_out(wanted),
        })
    }

    async fn observe(&self) -> Result<Observed, PoolerError> {
        let text = self.read()?;
        let written = text.as_deref().and_then(read_back);
        let stats = self.stats().await?;
        Ok(Observed {
            version: self.version().await?,
            // It has nowhere to say so.
            loaded: None,
            written,
            edited: written.is_none().then(|| self.file_name()).into_iter().collect(),
            databases: stats.len(),
            paused: stats.into_iter().filter(|one| one.paused).map(|one| one.name).collect(),
        })
    }

    /// PgCat answers at once, and does not wait for anybody.
    async fn pause(&self, database: &str, drain: Duration) -> Result<Pause, PoolerError> {
        let console = self.open().await?;
        let database = database.to_owned();
        // A task of its own: a caller that goes away leaves no database paused for ever.
        let pausing = tokio::spawn(async move {
            let deadline = Instant::now() + drain;
            for_each_pool(&console, "PAUSE", &database).await?;
            loop {
                let held = held(&console, &database).await?;
                if held.is_empty() {
                    return Ok(Pause::Drained);
                }
                if Instant::now() >= deadline {
                    for_each_pool(&console, "RESUME", &database).await?;
                    return Ok(Pause::Held(held));
                }
                sleep(LOOK).await;
            }
        });
        pausing.await.map_err(|error| PoolerError::because(PoolerErrorKind::Other, "pause", error))?
    }

    async fn resume(&self, database: &str) -> Result<(), PoolerError> {
        for_each_pool(&self.open().await?, "RESUME", database).await
    }

    async fn stats(&self) -> Result<Vec<DatabaseStats>, PoolerError> {
        let console = self.open().await?;
        let mut databases: BTreeMap<String, DatabaseStats> = BTreeMap::new();
        for row in console.command("SHOW POOLS").await? {
            let name = row.text("database").to_owned();
            let one = databases.entry(name.clone()).or_insert(DatabaseStats { name, ..Default::default() });
            one.pools.push(pool_of(&row));
        }
        for row in console.command("SHOW DATABASES").await? {
            let Some(one) = databases.get_mut(render::entry_of(row.text("name"))) else { continue };
            one.host = row.text("host").to_owned();
            one.port = row.number("port");
            one.database = row.text("database").to_owned();
            one.paused |= row.is_set("paused");
            one.disabled |= row.is_set("disabled");
            one.connections += row.number::<u32>("current_connections");
        }
        for row in console.command("SHOW STATS").await? {
            if let Some(one) = databases.get_mut(row.text("database")) {
                one.totals = one.totals + totals_of(&row);
            }
        }
        let mut all: Vec<DatabaseStats> = databases.into_values().collect();
        for one in &mut all {
            one.pools.sort_by(|one, other| one.user.cmp(&other.user));
        }
        Ok(all)
    }
}

/// Exactly the pools that are wanted, as they are wanted.
async fn in_force(console: &Console, wanted: &BTreeSet<Wanted>) -> Result<(), PoolerError> {
    in_force_but(console, wanted, &BTreeSet::new()).await
}

/// `theirs`: pools that are somebody else's, whatever they are like.
async fn in_force_but(
    console: &Console,
    wanted: &BTreeSet<Wanted>,
    theirs: &BTreeSet<String>,
) -> Result<(), PoolerError> {
    let mut found = BTreeSet::new();
    for row in console.command("SHOW DATABASES").await? {
        if theirs.contains(render::entry_of(row.text("name"))) {
            continue;
        }
        found.insert(Wanted {
            entry: render::entry_of(row.text("name")).to_owned(),
            role: row.text("force_user").to_owned(),
            host: row.text("host").to_owned(),
            port: row.number("port"),
            database: row.text("database").to_owned(),
            pool_size: row.number("pool_size"),
            mode: row.text("pool_mode").to_owned(),
        });
    }
    let pools: BTreeSet<(String, String)> = console
        .command("SHOW POOLS")
        .await?
        .iter()
        .map(|row| (row.text("database").to_owned(), row.text("user").to_owned()))
        .filter(|(database, _)| !theirs.contains(database))
        .collect();
    let named: BTreeSet<(String, String)> = wanted.iter().map(|pool| (pool.entry.clone(), pool.role.clone())).collect();
    // Its own console is in neither; pools without clients may be missing in the second.
    if found == *wanted && pools.is_subset(&named) {
        return Ok(());
    }
    let differs = found.symmetric_difference(wanted).next();
    let reason = differs.map_or_else(|| "SHOW POOLS has others".to_owned(), |pool| format!("{pool:?}"));
    Err(PoolerError::new(
        PoolerErrorKind::NotVerified,
        format!("PgCat answered success, but it serves other pools than it should, for example {reason}"),
    ))
}

/// Its commands are split at white space and commas, without quotes; names with either are refused beforehand.
async fn for_each_pool(console: &Console, verb: &str, database: &str) -> Result<(), PoolerError> {
    let rows = console.command("SHOW DATABASES").await?;
    let users: BTreeSet<&str> = rows
        .iter()
        .filter(|row| render::entry_of(row.text("name")) == database)
        .map(|row| row.text("force_user"))
        .collect();
    if users.is_empty() || !render::is_word(database) {
        return Err(PoolerError::new(PoolerErrorKind::Missing, format!("PgCat has no database {database:?}")));
    }
    for user in users.into_iter().filter(|user| render::is_word(user)) {
        console.command(&format!("{verb} {database},{user}")).await?;
    }
    Ok(())
}

async fn held(console: &Console, database: &str) -> Result<Vec<Holder>, PoolerError> {
    let rows = console.command("SHOW POOLS").await?;
    let busy = rows.iter().filter(|row| row.text("database") == database && row.number::<u32>("sv_active") > 0);
    Ok(busy
        .map(|row| Holder {
            user: row.text("user").to_owned(),
            address: String::new(),
            application: String::new(),
            state: "active".into(),
            silent_for: None,
            server_pid: 0,
        })
        .collect())
}
