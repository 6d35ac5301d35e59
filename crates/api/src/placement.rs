//! Placement: where a tenant would go, and why not elsewhere.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{PlanName, PoolName, ServerId, TemplateName};
use crate::tenant::Labels;

/// What a create would ask for. Defaults are a create's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainPlacement {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 63)]
    pub region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Placement {
    pub choice: Choice,
    /// Those that could take it, best first; then the others, by name.
    pub servers: Vec<ServerVerdict>,
    pub pools: Vec<PoolVerdict>,
}

/// What a create would do now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Choice {
    /// It goes to this server.
    Server { server: ServerId },
    /// It waits for the next server of this pool.
    Pool { pool: PoolName },
    /// It is refused, with this reason.
    None { reason: String },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerVerdict {
    pub server: ServerId,
    /// Everything that speaks against it; empty when it could take the tenant.
    pub obstacles: Vec<String>,
    pub priority: i32,
    pub tenants: u32,
    pub capacity: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolVerdict {
    pub pool: PoolName,
    /// Everything that speaks against another server of it; empty when one would be made.
    pub obstacles: Vec<String>,
    pub servers: u32,
    pub maximum_servers: u32,
    /// The server that is being made now.
    pub growing: Option<ServerId>,
}
