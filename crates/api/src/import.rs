//! Bringing in a database from a server that is not Freehold's.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{OperationId, PlanName, ServerId, TemplateName, TenantId};
use crate::server::Finding;
use crate::tenant::Labels;

#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportDatabase {
    /// `postgres://reader:password@host:port/database?sslmode=verify-full`, of PostgreSQL 12 or later. Kept sealed, and only
    /// until the import is over.
    #[schema(format = Password)]
    pub from: String,
    /// PEM of the certificate authority to verify that server with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100_000)]
    pub ca_certificate: Option<String>,
    /// Say what is there and what would be done, and do nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// The tenant's name; its id when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 512)]
    pub name: Option<String>,
    /// The default plan when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanName>,
    /// Only servers of this region may take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 63)]
    pub region: Option<String>,
    /// Names, roles and settings are this template's; what is in the database is the source's. The default one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

impl std::fmt::Debug for ImportDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImportDatabase").field("from", &"•••").field("dry_run", &self.dry_run).finish_non_exhaustive()
    }
}

/// What an import finds, and would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Import {
    pub tenant: TenantId,
    /// Without the password.
    pub from: String,
    /// Of the source; null: it does not say.
    pub postgres: Option<u16>,
    /// Of all of the database, indexes too.
    pub size_bytes: u64,
    pub tables: u64,
    /// `name version` of each extension.
    pub extensions: Vec<String>,
    /// From begin to end, reckoned as a move by dump is.
    pub seconds: f64,
    /// Where it would come to now; null: nowhere, or to a server that has to be started first.
    pub server: Option<ServerId>,
    /// Why it cannot be imported: all of it. Empty: it can.
    pub refusals: Vec<Finding>,
    /// What will be different, and what is left out.
    pub notes: Vec<Finding>,
}

/// What a tenant was imported from, or is being imported from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TenantImport {
    pub tenant: TenantId,
    /// Without the password.
    pub from: String,
    /// Of the source.
    pub postgres: u16,
    /// The tenant has what was committed there until then: **what was written there later is not here**. Null: it is not read yet.
    pub as_of: Option<Timestamp>,
    /// What is different here, and what was left out.
    pub notes: Vec<Finding>,
    /// What is at work on the tenant now.
    pub operation: Option<OperationId>,
}
