//! `freehold status`: what a person on call needs in the worst hour, worst first.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{ServerId, TemplateName};
use crate::server::{Observed, ServerHealth, ServerState, Severity};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Worst first.
    pub concerns: Vec<Concern>,
    /// Worst first.
    #[serde(default)]
    pub servers: Vec<ServerStatus>,
    pub tenants: TenantCounts,
    pub stock: Vec<StockLevel>,
    pub operations: OperationCounts,
    pub frozen: Vec<Freeze>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Concern {
    pub severity: Severity,
    /// `operation_stuck`, `server_unhealthy`, `stock_empty`, `loop_frozen`, …
    pub code: String,
    pub message: String,
    /// The next command to type.
    pub next: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerStatus {
    pub server: ServerId,
    pub state: ServerState,
    pub health: ServerHealth,
    /// Of what health found; null where it found nothing.
    pub worst_finding: Option<Severity>,
    pub tenants: u32,
    pub capacity: u32,
    pub observed: Option<Observed>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TenantCounts {
    pub creating: u64,
    pub active: u64,
    pub failed: u64,
    pub suspended: u64,
    pub deleted: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StockLevel {
    pub server: ServerId,
    pub template: TemplateName,
    pub ready: u32,
    pub building: u32,
    pub wanted: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OperationCounts {
    pub queued: u64,
    pub running: u64,
    pub waiting: u64,
    pub undoing: u64,
    pub stuck: u64,
}

/// Loops and operations that do not run now. Logins and creates from stock always work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Freeze {
    /// A loop's name, or `all`.
    pub target: String,
    /// Null: until thawed.
    pub until: Option<Timestamp>,
    pub by: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetFreeze {
    /// A loop's name (`stock`, `truth`, `health`, `stats`, `quota`, `purge`, `note`), `operations`, or `all`.
    pub target: String,
    /// How long, in seconds; null: until thawed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 31_536_000)]
    pub for_seconds: Option<u64>,
}

/// `/health`, `/health/live` and `/health/ready`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `healthy`, or `unhealthy` with 503.
    pub status: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<HealthCheck>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HealthCheck {
    pub name: String,
    pub healthy: bool,
    /// A critical one that fails makes the whole unready.
    pub critical: bool,
    pub message: Option<String>,
}
