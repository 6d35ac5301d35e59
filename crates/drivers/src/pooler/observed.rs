//! What was seen of a pooler. Durations and bytes are what it counts; nothing is dated by this machine's clock.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// What [`super::Pooler::apply`] did. The configuration is in force, but for what is named here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub generation: u64,
    /// 0: nothing differed.
    pub reloads: u32,
    /// Files that were not what Freehold wrote last: somebody edited them, or one was gone.
    pub repaired: BTreeSet<String>,
    /// Settings that only count from the pooler's next start.
    pub needs_restart: BTreeSet<String>,
    /// Settings that this version does not have.
    pub left_out: BTreeSet<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    pub version: String,
    /// Of the configuration that it runs with; none: not one of Freehold's.
    pub loaded: Option<u64>,
    /// Of the files; none: they are not there, or do not belong together.
    pub written: Option<u64>,
    /// Files that are not as Freehold wrote them.
    pub edited: BTreeSet<String>,
    pub databases: usize,
    pub paused: BTreeSet<String>,
}

/// How a pause went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pause {
    /// Nothing is open; clients wait until it is resumed, or the pooler is restarted, which forgets it.
    Drained,
    /// Somebody held it until the time was over. It is resumed.
    Held(Vec<Holder>),
}

/// Who keeps a server connection busy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub user: String,
    /// Of the client; empty where it has gone and its server connection is being cleaned.
    pub address: String,
    pub application: String,
    /// The pooler's word: `active`, `tested`.
    pub state: String,
    /// Since its last request, in whole seconds.
    pub silent_for: Option<Duration>,
    /// The server's process.
    pub server_pid: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DatabaseStats {
    pub name: String,
    pub host: String,
    pub port: u16,
    pub database: String,
    pub paused: bool,
    pub disabled: bool,
    /// To the server.
    pub connections: u32,
    /// From clients, where the version counts them.
    pub client_connections: Option<u32>,
    /// One for each login that was here.
    pub pools: Vec<PoolStats>,
    pub totals: Totals,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolStats {
    pub user: String,
    pub mode: String,
    pub cl_active: u32,
    pub cl_waiting: u32,
    pub sv_active: u32,
    pub sv_idle: u32,
    pub sv_used: u32,
    pub sv_tested: u32,
    pub sv_login: u32,
    /// Of whom has waited longest, right now.
    pub maxwait: Duration,
}

/// Since the pooler started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub transactions: u64,
    pub queries: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub transaction_time: Duration,
    pub query_time: Duration,
    /// That clients spent waiting for a server connection.
    pub wait_time: Duration,
}

/// For people.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}, {}", self.user, self.address, self.state)?;
        match self.silent_for {
            Some(silent) => write!(f, ", silent for {} s", silent.as_secs()),
            None => Ok(()),
        }
    }
}

impl std::ops::Add for Totals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            transactions: self.transactions + other.transactions,
            queries: self.queries + other.queries,
            received_bytes: self.received_bytes + other.received_bytes,
            sent_bytes: self.sent_bytes + other.sent_bytes,
            transaction_time: self.transaction_time + other.transaction_time,
            query_time: self.query_time + other.query_time,
            wait_time: self.wait_time + other.wait_time,
        }
    }
}

impl DatabaseStats {
    /// Clients without a server connection, over all logins.
    pub fn waiting(&self) -> u32 {
        self.pools.iter().map(|pool| pool.cl_waiting).sum()
    }
}
