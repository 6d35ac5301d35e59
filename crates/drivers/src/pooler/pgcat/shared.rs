//! A PgCat that somebody else runs: Freehold's pools are in a block at the end of their `pgcat.toml`, whose `[general]` and
//! whose own pools stay as they are. The file is made readable by its owner alone, because of the passwords.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::super::block::{Place, unite};
use super::super::pgbouncer::Console;
use super::super::shared::{Given, Passwords, SharedPooler, divided, may_replace, sort, took_back};
use super::super::theirs::{Readers, TheirFile};
use super::super::{Applied, Entry, Pooler, PoolerError, PoolerErrorKind, Served, Standing};
use super::render::{PlainPasswords, check, left_out_of, render_pools, wanted_pools};
use super::{PgCat, PgCatOptions, Wanted, in_force_but};
use crate::secrets::Password;
use crate::server::sql::Dsn;

#[derive(Debug, Clone)]
pub struct SharedPgCatOptions {
    /// What Freehold calls it: the mark of its block.
    pub pooler: String,
    /// `pgcat.toml`.
    pub file: PathBuf,
    /// The console: `admin_username` and `admin_password` of its `[general]`.
    pub console: Dsn,
    pub command_limit: Duration,
    pub pace: Duration,
}

pub struct SharedPgCat {
    pooler: String,
    file: TheirFile,
    /// For what it does alike.
    plain: PgCat,
    /// It has pools by this value.
    has_pools: AtomicBool,
    newest: AtomicU64,
}

impl SharedPgCat {
    pub fn new(options: SharedPgCatOptions) -> Self {
        let SharedPgCatOptions { pooler, file, console, command_limit, pace } = options;
        let admin = console.password().cloned().unwrap_or_else(|| Password::new(""));
        let nobodys = PlainPasswords { admin, logins: Passwords::new() };
        let plain = PgCatOptions { file: file.clone(), console, command_limit, pace };
        Self {
            pooler,
            file: TheirFile::new(file),
            plain: PgCat::new(plain, nobodys),
            has_pools: AtomicBool::new(false),
            newest: AtomicU64::new(0),
        }
    }

    /// None: it does not run.
    async fn open(&self) -> Result<Result<Console, PoolerError>, PoolerError> {
        match self.plain.open().await {
            Err(error) if error.kind == PoolerErrorKind::Unreachable => Ok(Err(error)),
            Err(error) => Err(error),
            Ok(console) => Ok(Ok(console)),
        }
    }

    async fn take_back(&self, before: &str, after: &str, error: PoolerError) -> PoolerError {
        // A file that PgCat cannot read ends the connection that asked for it.
        let back = async {
            self.file.replace(after, before, Readers::Owner)?;
            self.plain.open().await?.command("RELOAD").await.map(drop)
        };
        took_back(error, back.await)
    }
}

#[async_trait]
impl SharedPooler for SharedPgCat {
    fn running(&self) -> &dyn Pooler {
        &self.plain
    }

    async fn give(&self, generation: u64, served: &Served, passwords: &Passwords) -> Result<Given, PoolerError> {
        let opened = self.open().await?;
        let mut turn = self.plain.pace.turn().await;
        let _lock = self.file.lock().await?;
        let before = self.file.read()?;
        let found = divided(&self.file, &before, '#')?;
        may_replace(&self.file, &found, &self.pooler, generation)?;
        let newest = self.newest.load(Ordering::Relaxed);
        if newest > generation {
            return Err(super::super::error::outdated(newest, generation));
        }
        let theirs = their_pools(&self.file, &found.theirs)?;
        let (entries, withheld) = sort(&served.entries, |entry| why_not(entry, &theirs, passwords));
        let body = render_pools(&entries, &served.limits, passwords)?;
        let after = match body.is_empty() {
            true => found.theirs.clone(),
            false => unite(&found.theirs, Place(found.theirs.len()), '#', (&self.pooler, generation), &body),
        };
        // `pools = {}` is a table that nothing can be added to below.
        if after.parse::<toml::Table>().is_err() {
            return Err(refused(&self.file, "its pools are written as one value; write them as [pools.name] tables"));
        }
        let was_given = self.has_pools.load(Ordering::Relaxed) && !body.is_empty();
        let is_edited = found.is_edited() || was_given && found.block.is_none();
        let is_written = before != after;
        if is_written {
            self.file.replace(&before, &after, Readers::Owner)?;
        }

        let console = opened.map_err(|error| {
            let message = format!("{}; the file is written, and counts from its start", error.message);
            PoolerError { message, ..error }
        })?;
        let pools: BTreeSet<Wanted> = wanted_pools(entries.iter().copied(), &served.limits);
        let mut reloads = 0;
        if is_written || in_force_but(&console, &pools, &theirs).await.is_err() {
            turn.taken();
            reloads = 1;
            let reloaded = async {
                console.command("RELOAD").await?;
                in_force_but(&console, &pools, &theirs).await
            };
            if let Err(error) = reloaded.await {
                return Err(match is_written && !found.is_edited() {
                    true => self.take_back(&before, &after, error).await,
                    false => error,
                });
            }
        }
        console.close().await;
        self.newest.fetch_max(generation, Ordering::Relaxed);
        self.has_pools.store(!body.is_empty(), Ordering::Relaxed);
        let applied = Applied {
            generation,
            reloads,
            repaired: is_edited.then(|| self.file.name()).into_iter().collect(),
            needs_restart: BTreeSet::new(),
            left_out: left_out_of(&entries),
        };
        Ok(Given { applied, withheld })
    }

    fn written(&self) -> Result<Option<u64>, PoolerError> {
        Ok(divided(&self.file, &self.file.read()?, '#')?.generation())
    }
}

/// What PgCat would not read is not added to.
fn their_pools(file: &TheirFile, theirs: &str) -> Result<BTreeSet<String>, PoolerError> {
    let table: toml::Table = match theirs.parse() {
        Ok(table) => table,
        // Not as it shows it: the line may hold a password.
        Err(error) => {
            let error: toml::de::Error = error;
            let line = error.span().map_or(1, |span| theirs[..span.start].matches('\n').count() + 1);
            return Err(refused(file, &format!("it is no TOML from line {line} on")));
        }
    };
    if !table.get("general").is_some_and(toml::Value::is_table) {
        return Err(refused(file, "it has no [general], which PgCat does not start without"));
    }
    match table.get("pools") {
        None => Ok(BTreeSet::new()),
        Some(toml::Value::Table(pools)) => Ok(pools.keys().cloned().collect()),
        Some(_) => Err(refused(file, "its pools are no table")),
    }
}

fn refused(file: &TheirFile, why: &str) -> PoolerError {
    let message = format!("{}: {why}; it is left as it is", file.path().display());
    PoolerError::new(PoolerErrorKind::Refused, message)
}

fn why_not(entry: &Entry, theirs: &BTreeSet<String>, passwords: &Passwords) -> Option<String> {
    if theirs.contains(&entry.name) {
        return Some("its file has a pool of this name that Freehold did not write".into());
    }
    let usable = entry.logins.iter().filter(|login| login.standing == Standing::Usable);
    let unknown = usable.map(|login| login.role.as_str()).find(|role| !passwords.contains_key(*role));
    match (check(entry), unknown) {
        (Err(error), _) => Some(error.message),
        (Ok(()), Some(role)) => Some(format!("the password of its login {role} could not be opened")),
        (Ok(()), None) => None,
    }
}
