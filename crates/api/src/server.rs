//! A server: one PostgreSQL cluster that tenants' databases live on.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{OperationId, ServerId};

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
    pub checked_at: Option<Timestamp>,
    /// Tenants and stock that fit.
    pub capacity: u32,
    pub tenants: u32,
    pub stock: u32,
    pub has_room: bool,
    /// The admin's connection string without its password.
    pub dsn: String,
    /// Where tenants connect.
    pub host: String,
    pub port: u16,
    pub sslmode: String,
    pub region: Option<String>,
    /// `15.18`; null until it was reached.
    pub postgres_version: Option<String>,
    /// What the admin role may not do here, and other things a person should know.
    pub findings: Vec<Finding>,
    pub operation: Option<OperationId>,
    pub created_at: Timestamp,
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
    /// `host:port` where tenants reach it, when not where the admin does.
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
