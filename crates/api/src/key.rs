//! API keys: `fh_…`, stored hashed, shown once.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{KeyId, TenantId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everything.
    Admin,
    /// Servers, templates, operations, freeze.
    Operate,
    /// Create, change and delete tenants.
    Provision,
    /// See everything but credentials.
    Read,
    /// Read tenants' connections.
    Credentials,
    /// Be a pooler's agent: fetch what it serves, SCRAM verifiers included, and report.
    Pooler,
}

impl Scope {
    pub const ALL: [Scope; 6] =
        [Scope::Admin, Scope::Operate, Scope::Provision, Scope::Read, Scope::Credentials, Scope::Pooler];
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operate => "operate",
            Self::Provision => "provision",
            Self::Read => "read",
            Self::Credentials => "credentials",
            Self::Pooler => "pooler",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApiKey {
    pub id: KeyId,
    pub name: String,
    /// The first characters of the key, to recognise it by.
    pub prefix: String,
    pub scopes: Vec<Scope>,
    /// The only tenants it may touch; null is all.
    pub tenants: Option<Vec<TenantId>>,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    #[schema(min_items = 1)]
    pub scopes: Vec<Scope>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<Vec<TenantId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CreatedKey {
    #[serde(flatten)]
    pub info: ApiKey,
    /// The key itself. Shown in this answer only; null when the request is replayed.
    pub key: Option<String>,
}

impl std::fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedKey").field("info", &self.info).field("key", &"•••").finish()
    }
}
