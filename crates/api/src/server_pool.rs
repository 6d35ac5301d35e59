//! A server pool: servers of one kind that Freehold makes by itself. Declared in the settings (`[[server_pool]]`) and
//! read-only here.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{OperationId, PoolName, ServerId};
use crate::server::{ServerKind, ServerLimits};
use crate::tenant::Labels;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerPool {
    pub name: PoolName,
    /// `process`, `docker` or `nomad`.
    pub platform: String,
    pub kind: ServerKind,
    /// PostgreSQL's major version.
    pub postgres: u16,
    /// What containers are made from.
    pub image: Option<String>,
    pub limits: ServerLimits,
    /// Tenants and stock that fit on one server.
    pub capacity: u32,
    /// Slots without a tenant that it keeps ready, over all its servers.
    pub minimum_spare: u32,
    pub maximum_servers: u32,
    pub region: Option<String>,
    pub labels: Labels,
    /// Lower ones are filled first.
    pub priority: i32,
    /// Servers that count towards `maximum_servers`.
    pub servers: u32,
    pub tenants: u32,
    /// Slots without a tenant on servers that take tenants now.
    pub spare: u32,
    /// Tenants that wait for its next server.
    pub waiting: u32,
    /// The server that is being made.
    pub growing: Option<ServerId>,
    pub operation: Option<OperationId>,
    /// Why it has fewer servers than it should; null when it has not.
    pub obstacle: Option<String>,
    /// When it tries again after a failure.
    pub retry_at: Option<Timestamp>,
}
