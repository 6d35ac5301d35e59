//! Poolers, and what the agent beside a pooler and the plane tell each other.
//!
//! Times that an agent counts down are spans, never clock times: its clock need not agree with anybody's.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::id::PoolerId;
use crate::server::Finding;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolerKind {
    Pgbouncer,
    Pgcat,
}

impl PoolerKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pgbouncer => "pgbouncer",
            Self::Pgcat => "pgcat",
        }
    }
}

/// Who writes its files and reloads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolerManagement {
    /// `freehold pooler agent`, on the pooler's machine: it holds deadlines also while the plane is dead.
    Agent,
    /// The plane, on files that it reaches by a path, and over the admin console.
    External,
}

impl PoolerManagement {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::External => "external",
        }
    }
}

/// Where Freehold runs it itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolerPlatform {
    /// A process of the plane's machine.
    Process,
    /// A container of an Engine.
    Docker,
}

impl PoolerPlatform {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Docker => "docker",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolerState {
    /// Freehold starts it; it takes no databases yet.
    Starting,
    /// Takes databases.
    Active,
    /// Takes no more; serves those it has.
    Cordoned,
    /// Freehold ends it.
    Removing,
    /// It could not be started, and is tried again.
    Failed,
}

impl PoolerState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Active => "active",
            Self::Cordoned => "cordoned",
            Self::Removing => "removing",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolerHealth {
    /// It runs, and what is wanted is in force.
    Healthy,
    /// It runs, and serves what was wanted before.
    Behind,
    /// Nobody has heard of it, or it says that it cannot.
    Unhealthy,
    /// It has never been heard of.
    Unknown,
}

impl PoolerHealth {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Behind => "behind",
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pooler {
    pub id: PoolerId,
    pub kind: PoolerKind,
    pub management: PoolerManagement,
    /// Where Freehold runs it; absent where somebody else does.
    pub platform: Option<PoolerPlatform>,
    pub state: PoolerState,
    pub health: PoolerHealth,
    /// Why it is not healthy.
    pub message: Option<String>,
    /// The address tenants connect to. It never changes.
    pub host: String,
    pub port: u16,
    pub sslmode: String,
    /// Databases that fit, stock included.
    pub capacity: u32,
    pub tenants: u32,
    pub stock: u32,
    /// Connections to servers that its pools may open; those at rest oversubscribe what the servers bear.
    #[serde(default)]
    pub granted: u32,
    /// Connections that they have open.
    #[serde(default)]
    pub open: u32,
    /// What is wanted, counted up with every change.
    pub generation: u64,
    /// What was verified to be in force.
    pub observed_generation: Option<u64>,
    pub observed_at: Option<Timestamp>,
    /// The pooler's own, for example `1.24.1`.
    pub version: Option<String>,
    /// Since its agent began to count.
    pub reloads: u64,
    /// How often it died and was started again.
    pub deaths: u64,
    /// Files that somebody edited, and that were put right.
    pub repaired: u64,
    /// Where somebody else runs it.
    #[serde(default)]
    pub external: Option<ExternalPooler>,
    pub created_at: Timestamp,
}

/// A pooler that somebody else runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExternalPooler {
    /// `pgbouncer.ini` or `pgcat.toml`, as the plane reaches it.
    pub file: String,
    /// PgBouncer's list of users.
    pub users_file: Option<String>,
    /// The administrator of its console, without the password.
    pub admin: String,
    /// Entries that it is not given, and why.
    pub withheld: BTreeMap<String, String>,
}

/// A pooler that an agent is going to run, on whatever machine; one that Freehold starts itself; or, with `external`, one
/// that somebody runs already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddPooler {
    pub id: PoolerId,
    /// PgBouncer when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<PoolerKind>,
    /// `host:port` that tenants connect to. It never changes: use a name that can be pointed elsewhere. Absent: Freehold
    /// starts it, as the settings' `pooler.platform` says, and gives it an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "pooler-1.example.com:6432")]
    pub address: Option<String>,
    /// Freehold starts it there; the settings must declare that platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<PoolerPlatform>,
    /// As libpq spells it; `verify-full` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sslmode: Option<String>,
    /// PEM; the certificate authority to verify the pooler with, when it is not a public one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificate: Option<String>,
    /// Databases that fit, stock included; the setting `pooler.capacity` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_000)]
    pub capacity: Option<u32>,
    /// Without an agent: the plane writes into its files, and speaks to its console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<AddExternal>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddExternal {
    /// `pgbouncer.ini` or `pgcat.toml`, as every host that runs loops reaches it. Freehold has a block in it; the rest stays.
    #[schema(example = "/etc/pgbouncer/pgbouncer.ini")]
    pub file: String,
    /// What PgBouncer has as its `auth_file`; `userlist.txt` beside `file` when absent. PgCat has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users_file: Option<String>,
    /// `postgres://admin:password@host:port/pgbouncer`, of its console. Stored sealed. Said again with another password, that
    /// one counts from then on.
    #[schema(format = Password)]
    pub admin: String,
}

impl std::fmt::Debug for AddExternal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddExternal").field("file", &self.file).field("admin", &"•••").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListPoolers {
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
    pub cursor: Option<String>,
}

/// What is known of a pooler, judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolerCheck {
    pub pooler: Pooler,
    pub findings: Vec<Finding>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AwaitAssignment {
    /// The `revision` of the last answer; absent for the first.
    pub after: Option<String>,
    /// How long to wait for another one, in seconds.
    #[param(maximum = 30)]
    pub wait: Option<u32>,
}

/// What an agent asks for: `GET /v1/poolers/{id}/assignment?after=REVISION&wait=SECONDS`. Answered at once when it differs
/// from `after`, else when it does, or 204 when the time is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Assignment {
    /// Of this answer: what to say as `after`.
    pub revision: String,
    pub generation: u64,
    /// Databases, logins with their SCRAM verifiers, and limits. Where it listens, its certificates and the logins of its
    /// console are the agent's own.
    #[schema(value_type = Object)]
    pub served: serde_json::Value,
    /// Databases that are to be paused now. One that is not in the list any more is resumed.
    pub pauses: Vec<PauseWanted>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PauseWanted {
    pub id: Uuid,
    /// As the pooler calls it.
    pub database: String,
    /// How long open transactions may take to end, in milliseconds.
    pub drain_ms: u64,
    /// Resumed after this, whatever happens to the plane; in milliseconds from when the agent first hears of it.
    pub hold_ms: u64,
}

/// `POST /v1/poolers/{id}/report`, after every change and every few seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolerReport {
    /// Verified to be in force.
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    pub generation: Option<u64>,
    pub version: Option<String>,
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    pub reloads: u64,
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    pub deaths: u64,
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    pub repaired: u64,
    /// Why what was asked for is not in force.
    pub error: Option<String>,
    /// Settings that count from its next start.
    #[serde(default)]
    pub needs_restart: Vec<String>,
    #[serde(default)]
    pub pauses: Vec<PauseTold>,
    /// Those that somebody used since the pooler's start. Null: they could not be counted.
    #[serde(default)]
    pub databases: Option<Vec<PooledDatabase>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PauseState {
    /// Open transactions are being waited for.
    Draining,
    /// Nothing is open, and clients wait.
    Paused,
    /// Somebody held it until the time for draining was over; it is resumed.
    Held,
    /// Its time was over, or it was taken back.
    Resumed,
    Failed,
}

impl PauseState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Paused => "paused",
            Self::Held => "held",
            Self::Resumed => "resumed",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PauseTold {
    pub id: Uuid,
    pub state: PauseState,
    /// Who held it, or why it failed.
    pub detail: Option<String>,
}

/// One database, as the pooler counts it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PooledDatabase {
    pub name: String,
    #[schema(maximum = 2_147_483_647)]
    pub clients_active: u32,
    #[schema(maximum = 2_147_483_647)]
    pub clients_waiting: u32,
    #[schema(maximum = 2_147_483_647)]
    pub servers_active: u32,
    #[schema(maximum = 2_147_483_647)]
    pub servers_idle: u32,
    /// How long the client that waits longest has waited, in milliseconds.
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    pub longest_wait_ms: u64,
    /// Since the pooler's start.
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    pub transactions: u64,
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    pub queries: u64,
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    pub received_bytes: u64,
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    pub sent_bytes: u64,
}
