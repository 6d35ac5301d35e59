//! Connection poolers: what is wanted of one, said once and completely, and what every driver does with it.
//!
//! A [`Configuration`] is pure data with a generation. [`Pooler::apply`] makes a pooler serve exactly that and proves it;
//! nothing here believes an answer to `RELOAD`. Secrets are verifiers: a plain password cannot be put into a
//! `Configuration`. Absent: which tenant is served where, what a plan allows, retries, and the coalescing of changes;
//! callers bring entries and decide when.

pub mod agents;
mod block;
mod configuration;
mod error;
mod lock;
mod observed;
mod pace;
pub mod pgbouncer;
pub mod pgcat;
mod seal;
mod shared;
mod theirs;
mod verifier;

use std::time::Duration;

use async_trait::async_trait;

pub use configuration::{
    ClientTls, Configuration, Console, ConsoleLogin, Entry, Limits, Listen, Login, Mode, Served, Server, ServerTls,
    Standing,
};
pub use error::{PoolerError, PoolerErrorKind};
pub use observed::{Applied, DatabaseStats, Holder, Observed, Pause, PoolStats, Totals};
pub use pace::Pace;
pub use shared::{Given, Passwords, SharedPooler, Withheld};
pub use verifier::{NotAVerifier, Verifier};

#[async_trait]
pub trait Pooler: Send + Sync {
    /// `pgbouncer` or `pgcat`.
    fn kind(&self) -> &'static str;

    /// What the running pooler says it is, for example `1.24.1`.
    async fn version(&self) -> Result<String, PoolerError>;

    /// The pooler serves exactly this afterwards, verified. An older generation than the one that is there is refused
    /// ([`PoolerErrorKind::Outdated`]); the same one again repairs what was edited by hand, and reloads nothing when
    /// nothing differs. Where it cannot be verified, the files of before are put back.
    async fn apply(&self, wanted: &Configuration) -> Result<Applied, PoolerError>;

    async fn observe(&self) -> Result<Observed, PoolerError>;

    /// New transactions on this database wait from now on, and the open ones have ended when this answers. What has not
    /// ended within `drain` is named, and the database is resumed. Dropping the future does not stop that.
    async fn pause(&self, database: &str, drain: Duration) -> Result<Pause, PoolerError>;

    /// No error where it is not paused.
    async fn resume(&self, database: &str) -> Result<(), PoolerError>;

    /// Of every database, by name; the console's own is left out.
    async fn stats(&self) -> Result<Vec<DatabaseStats>, PoolerError>;
}
