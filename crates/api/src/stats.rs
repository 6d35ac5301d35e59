//! How much there is and how much is going on: of the fleet, of each server, of each tenant. Latest only: who wants a
//! history has `/metrics`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::id::{PlanName, ServerId, TenantId};
use crate::server::{Observed, ServerHealth, ServerState};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    pub fleet: FleetStats,
    /// By name.
    pub servers: Vec<ServerStats>,
}

/// All servers together, as far as they are known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FleetStats {
    pub servers: u32,
    pub tenants: u64,
    /// Tenants', stock, templates and the servers' own.
    pub databases: u64,
    /// Bytes.
    pub size_bytes: u64,
    /// Client sessions, and how many the servers admit.
    pub connections: u64,
    pub connections_max: u64,
    pub transactions_per_second: f64,
    /// Of the last minute in which anything was read: 1 is all from memory. Null where nothing was.
    pub cache_hit_ratio: Option<f64>,
    /// Tenants at 80 % of their quota and beyond, and at 100 %.
    pub quota: QuotaCounts,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuotaCounts {
    pub storage_80: u64,
    pub storage_100: u64,
    pub connections_80: u64,
    pub connections_100: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerStats {
    pub server: ServerId,
    pub state: ServerState,
    pub health: ServerHealth,
    pub tenants: u32,
    pub capacity: u32,
    /// What health last saw; null until it was looked at.
    pub observed: Option<Observed>,
    /// What its databases counted; null until they were looked at.
    pub activity: Option<Activity>,
}

/// Counters begin when the server was first looked at, and go on where its own begin again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Activity {
    pub at: Timestamp,
    pub transactions: u64,
    /// Null before the second look.
    pub transactions_per_second: Option<f64>,
    /// Of the last round that read anything: 1 is all from memory.
    pub cache_hit_ratio: Option<f64>,
    pub deadlocks: u64,
    /// Written to temporary files, because work_mem did not do.
    pub temp_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TenantStats {
    pub tenant: TenantId,
    /// Null until it is placed.
    pub server: Option<ServerId>,
    pub plan: PlanName,
    pub usage: TenantUsage,
    /// Since its database was made, or since the server's statistics were reset.
    pub transactions: u64,
    pub transactions_per_second: Option<f64>,
    pub cache_hit_ratio: Option<f64>,
    pub deadlocks: u64,
    pub temp_bytes: u64,
}

/// What a tenant uses of what its plan grants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TenantUsage {
    /// Bytes on disk, indexes and all; null until it was measured.
    pub size_bytes: Option<u64>,
    /// When that was.
    pub size_at: Option<Timestamp>,
    /// Null: unlimited.
    pub storage_quota: Option<u64>,
    /// Sessions of its login.
    pub connections: u32,
    pub connection_limit: u32,
    /// 80 or 100 once so many percent were reached; null again below 75 and, from 100 on, 80 below 95.
    pub storage_level: Option<u32>,
    pub connections_level: Option<u32>,
}

/// What the largest is the largest of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TenantOrder {
    #[default]
    Size,
    Connections,
    Transactions,
}

impl TenantOrder {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Connections => "connections",
            Self::Transactions => "transactions",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListTenantStats {
    /// `size` when absent. Largest first.
    #[param(inline)]
    pub order: Option<TenantOrder>,
    /// Of this server only.
    pub server: Option<String>,
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
}
