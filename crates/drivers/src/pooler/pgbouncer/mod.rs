//! PgBouncer, 1.18 and newer: three files, `RELOAD`, and the proof that it counted.
//!
//! What it answers to `RELOAD` is always success: a line of the list of users that cannot be read locks out everybody after
//! it, an error in the ini file leaves the rest unread, and both are told to the log alone. So [`PgBouncer::apply`] reads
//! everything back over the console and logs in as the *check login*, whose name has the generation in it and whose line is
//! the list's last: it gets in only when this very list was read to its end. Nothing of that needs a server.
//!
//! Absent: the pooler's process ([`Supervised`] keeps one), and whatever says which entries there are.

mod apply;
mod certificate;
mod console;
mod files;
mod observe;
mod pause;
mod process;
mod quote;
mod render;
mod settings;
mod shared;
mod supervise;
mod verify;
mod version;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::{Applied, Configuration, DatabaseStats, Observed, Pace, Pause, Pooler, PoolerError, PoolerErrorKind};
use crate::secrets::Password;
use crate::server::sql::Dsn;

pub use certificate::CertificateFiles;
pub(crate) use console::Console;
pub use files::Files;
use observe::stats;
pub(crate) use observe::{pool_of, totals_of};
pub use process::{Program, Supervised, SupervisedOptions, find_program};
pub use quote::{EntryName, Unwritable};
pub use render::{Rendered, render};
pub use shared::{SharedOptions, SharedPgBouncer};
pub(crate) use supervise::end_in;
pub use version::{Features, Release};

#[derive(Debug, Clone)]
pub struct PgBouncerOptions {
    /// Its files and its private socket are here. It is there, and belongs to the user that PgBouncer runs as.
    pub directory: PathBuf,
    /// The console's administrator, with the password.
    pub console: Dsn,
    /// Of the check login. None: the list of users is not verified, which leaves a broken one unnoticed.
    pub check_password: Option<Password>,
    /// Of the program, where that is known: then files are written even while it does not run.
    pub release: Option<Release>,
    /// For each command on the console, but PAUSE.
    pub command_limit: Duration,
    /// Between two reloads.
    pub pace: Duration,
}

pub struct PgBouncer {
    options: PgBouncerOptions,
    files: Files,
    pace: Pace,
    /// The newest generation that was verified by this value.
    verified: AtomicU64,
}

impl PgBouncerOptions {
    /// One on this machine, whose console is spoken to over its private socket.
    pub fn local(directory: impl Into<PathBuf>, port: u16, admin: &str, password: Password) -> Self {
        let directory = directory.into();
        let console = Dsn::to_socket(&directory, port, admin, "pgbouncer").with_user(admin, password);
        Self::new(directory, console)
    }

    pub fn new(directory: impl Into<PathBuf>, console: Dsn) -> Self {
        Self {
            directory: directory.into(),
            console,
            check_password: None,
            release: None,
            command_limit: Duration::from_secs(10),
            pace: Duration::from_secs(1),
        }
    }
}

impl PgBouncer {
    pub fn new(options: PgBouncerOptions) -> Self {
        let files = Files::new(&options.directory);
        let pace = Pace::new(options.pace);
        Self { options, files, pace, verified: AtomicU64::new(0) }
    }

    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Writes the files and tells nobody: before the first start, or while it does not run. An older generation is
    /// refused.
    pub async fn write(&self, wanted: &Configuration, release: Release) -> Result<(), PoolerError> {
        let _lock = self.files.lock().await?;
        apply::write(self, wanted, release).await.map(drop)
    }

    /// Whether this is in force, as [`Pooler::apply`] looks at it. Changes nothing, reloads nothing.
    pub async fn check(&self, wanted: &Configuration) -> Result<(), PoolerError> {
        let console = self.open().await?;
        let features = console.release().await?.features();
        verify::verify(self, &console, wanted, features).await?;
        console.close().await;
        Ok(())
    }

    async fn open(&self) -> Result<Console, PoolerError> {
        Console::connect(&self.options.console, self.options.command_limit).await
    }

    fn refuse_older_than(&self, there: Option<u64>, asked: u64) -> Result<(), PoolerError> {
        let there = there.unwrap_or(0).max(self.verified.load(Ordering::Relaxed));
        match asked < there {
            true => Err(super::error::outdated(there, asked)),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Pooler for PgBouncer {
    fn kind(&self) -> &'static str {
        "pgbouncer"
    }

    async fn version(&self) -> Result<String, PoolerError> {
        let console = self.open().await?;
        let release = console.release().await?;
        console.close().await;
        Ok(release.to_string())
    }

    async fn apply(&self, wanted: &Configuration) -> Result<Applied, PoolerError> {
        apply::apply(self, wanted).await
    }

    async fn observe(&self) -> Result<Observed, PoolerError> {
        let console = self.open().await?;
        let found = self.files.read()?.examine();
        let databases = stats(&console).await?;
        let observed = Observed {
            version: console.release().await?.to_string(),
            loaded: verify::loaded(&console).await?,
            written: found.generation,
            edited: found.edited.union(&found.absent).cloned().collect(),
            databases: databases.len(),
            paused: databases.into_iter().filter(|one| one.paused).map(|one| one.name).collect(),
        };
        console.close().await;
        Ok(observed)
    }

    async fn pause(&self, database: &str, drain: Duration) -> Result<Pause, PoolerError> {
        let (dsn, limit) = (self.options.console.clone(), self.options.command_limit);
        // A task of its own: a caller that goes away leaves no database paused for ever.
        let pausing = tokio::spawn(pause::pause(dsn, limit, database.to_owned(), drain));
        pausing.await.map_err(|error| PoolerError::because(PoolerErrorKind::Other, "pause", error))?
    }

    async fn resume(&self, database: &str) -> Result<(), PoolerError> {
        let console = self.open().await?;
        pause::resume(&console, database).await?;
        console.close().await;
        Ok(())
    }

    async fn stats(&self) -> Result<Vec<DatabaseStats>, PoolerError> {
        let console = self.open().await?;
        let stats = stats(&console).await?;
        console.close().await;
        Ok(stats)
    }
}
