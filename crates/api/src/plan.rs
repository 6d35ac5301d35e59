//! A plan: what a tenant may use. Plans are declared in the settings (`[[plan]]`) and read-only here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::PlanName;
use crate::server::ServerKind;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What it is called.
    pub name: PlanName,
    /// Orders upgrades: a higher rank is an upgrade.
    #[serde(default)]
    pub rank: u32,
    /// `shared` or `dedicated`: what kind of server its tenants live on.
    #[serde(default = "shared")]
    pub server: ServerKind,
    /// Sessions that the tenant's login may have open at once, directly.
    #[serde(default = "twenty")]
    #[schema(minimum = 1, maximum = 10_000)]
    pub connection_limit: u32,
    /// Server connections that a pooler may open for it.
    #[serde(default = "five")]
    #[schema(minimum = 1, maximum = 10_000)]
    pub pool_size: u32,
    /// What a pooler lends a server connection for. Null: a transaction; a session where its PgBouncer is older than 1.21,
    /// which knows nothing of prepared statements.
    #[serde(default)]
    pub pool_mode: Option<PoolMode>,
    /// Server connections on top of `pool_size`, for clients that waited.
    #[serde(default)]
    #[schema(maximum = 10_000)]
    pub pool_reserve: u32,
    /// Clients that a pooler lets in for it at once; null is no limit but the pooler's own.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub client_limit: Option<u32>,
    /// Bytes that its database may take; null is unlimited. Watched, not enforced by PostgreSQL.
    #[serde(default)]
    pub storage_quota: Option<u64>,
    /// What happens to a tenant that reaches its storage quota.
    #[serde(default)]
    pub on_storage_quota: OnStorageQuota,
    /// PostgreSQL's statement_timeout in milliseconds; 0 is none. A default, which the tenant may raise.
    #[serde(default)]
    pub statement_timeout_ms: u32,
    /// PostgreSQL's idle_in_transaction_session_timeout in milliseconds; 0 is none. A default.
    #[serde(default = "a_minute")]
    pub idle_in_transaction_timeout_ms: u32,
    /// PostgreSQL's work_mem in kilobytes; null is the server's. A default.
    #[serde(default)]
    pub work_mem_kb: Option<u32>,
    /// PostgreSQL's temp_file_limit in kilobytes; null is the server's. A limit, where the admin may set it.
    #[serde(default)]
    pub temp_file_limit_kb: Option<u32>,
    /// Extensions made for its tenants besides the template's.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// Databases to keep ready for this plan on each server, besides the stock of the default plan.
    #[serde(default)]
    pub stock: u32,
    /// The one a tenant gets when it names none. Exactly one plan has it.
    #[serde(default)]
    pub default: bool,
    /// Anything else that the SaaS wants to keep with it (prices, CPU, memory of a workload).
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolMode {
    /// One transaction.
    Transaction,
    /// As long as the client stays: for what keeps state in its session (LISTEN, session advisory locks, SET).
    Session,
}

/// Of a storage quota that is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnStorageQuota {
    /// It is told, and the tenant goes on.
    #[default]
    Notify,
    /// The tenant is suspended as well, until a person resumes it.
    Suspend,
}

impl OnStorageQuota {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Suspend => "suspend",
        }
    }
}

fn shared() -> ServerKind {
    ServerKind::Shared
}
fn twenty() -> u32 {
    20
}
fn five() -> u32 {
    5
}
fn a_minute() -> u32 {
    60_000
}

impl Plan {
    /// What a tenant gets where the settings declare no plan.
    pub fn standard() -> Self {
        toml::from_str("name = \"standard\"\ndefault = true").expect("the built-in plan is valid")
    }
}
