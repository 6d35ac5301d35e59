//! A server: one PostgreSQL cluster that tenants' databases live on.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::id::{OperationId, PoolName, ServerId};
use crate::tenant::Labels;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerKind {
    /// Many tenants.
    Shared,
    /// One tenant.
    Dedicated,
    /// System databases, never tenants.
    System,
}

impl ServerKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Dedicated => "dedicated",
            Self::System => "system",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    Provisioning,
    Active,
    Cordoned,
    Draining,
    Maintenance,
    Failed,
    Removed,
}

impl ServerState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Active => "active",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
            Self::Maintenance => "maintenance",
            Self::Failed => "failed",
            Self::Removed => "removed",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerHealth {
    Healthy,
    Degraded,
    Unhealthy,
    Unknown,
}

impl ServerHealth {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Server {
    pub id: ServerId,
    pub kind: ServerKind,
    pub state: ServerState,
    pub health: ServerHealth,
    /// What the last check found wrong; null when it found nothing.
    pub health_message: Option<String>,
    /// The same for programs: `server_unreachable`, `standby`, `cluster_swapped`, `tenants_shut_out`, `admin_denied`, …
    #[serde(default)]
    pub health_code: Option<String>,
    pub checked_at: Option<Timestamp>,
    /// Tenants and stock that fit.
    pub capacity: u32,
    pub tenants: u32,
    pub stock: u32,
    pub has_room: bool,
    /// The admin's connection string without its password.
    pub dsn: String,
    /// Where tenants connect; several hosts as `one:5432,two:5432`.
    pub host: String,
    pub port: u16,
    pub sslmode: String,
    pub region: Option<String>,
    /// What placement matches tenants' labels with.
    #[serde(default)]
    pub labels: Labels,
    /// Lower ones are filled first.
    #[serde(default = "hundred")]
    pub priority: i32,
    /// The server pool it was made for; null for a server that was registered.
    #[serde(default)]
    pub pool: Option<PoolName>,
    /// Where Freehold runs it: `process`, `docker` or `nomad`; null for a server that was registered.
    #[serde(default)]
    pub platform: Option<String>,
    /// What its container is made from.
    #[serde(default)]
    pub image: Option<String>,
    #[serde(default)]
    pub limits: Option<ServerLimits>,
    /// `15.18`; null until it was reached.
    pub postgres_version: Option<String>,
    /// What the admin role may not do here, and other things a person should know.
    pub findings: Vec<Finding>,
    /// What was last seen of it; null until it was looked at.
    #[serde(default)]
    pub observed: Option<Observed>,
    /// What its pools may open; null where nothing of it is pooled.
    #[serde(default)]
    pub pooling: Option<ServerPooling>,
    pub operation: Option<OperationId>,
    pub created_at: Timestamp,
}

/// What the last look that got in saw. Null is not known, which is another thing than zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Observed {
    pub at: Timestamp,
    /// Client sessions.
    pub connections: Option<u32>,
    /// How many the server admits, besides those it reserves for superusers.
    pub connections_max: Option<u32>,
    /// Tenants', stock, templates and the server's own.
    pub databases: Option<u32>,
    /// All databases together, in bytes, each as of when it was last measured.
    pub size_bytes: Option<u64>,
    /// Since the oldest open transaction began; null where there is none, or where the admin may not see it.
    pub oldest_transaction_seconds: Option<f64>,
    /// Transactions since the oldest row that is not frozen; near 2,147 million the server takes no writes.
    pub xid_age: Option<u64>,
    /// Of the standby, subscriber or slot that is furthest behind; null where there is none.
    pub replication_lag_bytes: Option<u64>,
    /// Where the data is; null where only the server's own machine could tell.
    pub data_free_bytes: Option<u64>,
    pub data_total_bytes: Option<u64>,
}

/// Connections that all pools on a server may open, over all poolers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerPooling {
    /// What is there for pools: all that it admits, less the setting `pooler.server_reserve`.
    pub budget: u32,
    /// Tenants and stock.
    pub databases: u32,
    /// What their plans say.
    pub wanted: u32,
    /// What they may open. Those at rest oversubscribe the budget, those that somebody uses never do.
    pub granted: u32,
    /// What they have open.
    pub open: u32,
    /// What one at rest may open at once; null: all that its plan says.
    pub resting: Option<u32>,
}

/// What a managed server may use. Null: whatever its machine has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerLimits {
    /// Cores; 0.5 is half of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.05, maximum = 1024.0)]
    pub cpus: Option<f64>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 268_435_456)]
    pub memory_bytes: Option<u64>,
    /// What the scheduler sets aside, in cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved_cpus: Option<f64>,
    /// What the scheduler sets aside, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved_memory_bytes: Option<u64>,
}

/// A merge patch (RFC 7396): absent keeps. Nothing of it restarts the server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchServer {
    /// A label set to null is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, Option<String>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -1000, maximum = 1000)]
    pub priority: Option<i32>,
    /// Of a managed server at most what it was last tuned for; an update tunes it for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100_000)]
    pub capacity: Option<u32>,
}

/// What a managed server shall be from now on. It is stopped and started again on its data; absent keeps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateServer {
    /// Of the same major version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 500)]
    pub image: Option<String>,
    /// Those that are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ServerLimits>,
    /// Tenants and stock that fit; PostgreSQL is tuned for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100_000)]
    pub capacity: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetMaintenance {
    /// While it is on, no tenant and no stock is put on the server; those that are there notice nothing.
    pub on: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListServers {
    /// Of this state; all but `removed` when absent.
    pub state: Option<ServerState>,
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
    pub cursor: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RemoveServer {
    /// The server's name again: what is removed is named twice.
    pub confirm: Option<String>,
    /// Destroy its data too, with no way back. Of managed servers only.
    #[serde(default)]
    pub purge: Option<bool>,
}

/// Something that does not stop the work but that a person should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// Stable: `database_open_to_public`, `temp_file_limit_not_settable`, …
    pub code: String,
    pub severity: Severity,
    /// What was found, why it matters, and what to do.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Low,
    Medium,
    High,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddServer {
    pub id: ServerId,
    /// `postgres://admin:password@host:port/postgres?sslmode=verify-full`. Stored sealed.
    #[schema(format = Password)]
    pub dsn: String,
    /// `shared` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ServerKind>,
    /// Tenants and stock that fit; 500 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100_000)]
    pub capacity: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 63)]
    pub region: Option<String>,
    /// `host:port` where tenants reach it, when not where the admin does; several as `one:5432,two:5432`, of which they
    /// look for the one that takes writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 255)]
    pub tenant_address: Option<String>,
    /// PEM of the certificate authority to verify it with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100_000)]
    pub ca_certificate: Option<String>,
}

impl std::fmt::Debug for AddServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddServer").field("id", &self.id).field("dsn", &"•••").finish_non_exhaustive()
    }
}

fn hundred() -> i32 {
    100
}
