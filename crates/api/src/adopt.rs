//! Taking over a database that is there already, in place.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{PlanName, ServerId, TemplateName, TenantId};
use crate::server::Finding;
use crate::tenant::{Labels, TenantWithConnection};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdoptDatabase {
    /// Where it is: a registered server.
    pub server: ServerId,
    #[schema(min_length = 1, max_length = 63)]
    pub database: String,
    /// Only what this role owns becomes the tenant's; what anybody owns when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 63)]
    pub owner: Option<String>,
    /// Roles that may go on logging in as they do now. They become the tenant's owner role in this database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep_logins: Vec<String>,
    /// End the sessions of all others. Without it, sessions of roles that are not kept are a reason to refuse.
    #[serde(default)]
    pub end_sessions: bool,
    /// Event triggers would run as Freehold's admin: disable them for good. Without it they are a reason to refuse.
    #[serde(default)]
    pub disable_event_triggers: bool,
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
    /// Which template's database it is; `default`, which is empty, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

/// What an adoption finds, and would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Adoption {
    pub tenant: TenantId,
    pub server: ServerId,
    pub database: String,
    /// Who owns the database now.
    pub owner: String,
    pub size_bytes: u64,
    /// How many objects would change hands, by their owners of now.
    pub objects: BTreeMap<String, u64>,
    /// `name version` of each extension.
    pub extensions: Vec<String>,
    /// Sessions in it now, by role.
    pub sessions: BTreeMap<String, u64>,
    /// Why it cannot be adopted: all of it. Empty: it can.
    pub refusals: Vec<Finding>,
    /// What will be different, and what stays as it is.
    pub notes: Vec<Finding>,
}

/// A look, where `dry_run` asked for one; else the tenant that it was adopted as before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Adopted {
    Look(Box<Adoption>),
    Tenant(Box<TenantWithConnection>),
}
