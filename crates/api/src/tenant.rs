//! A tenant: `creating → active | failed`; `failed → creating | purged`; `active ⇄ suspended`;
//! `active | suspended → deleted`; `deleted → its former state | purged` (then the id is free again).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::id::{OperationId, PlanName, ServerId, TemplateName, TenantId};
use crate::movability::{MovableBy, TenantMovability};
use crate::plan_change::PlanChange;
use crate::stats::TenantUsage;

pub type Labels = BTreeMap<String, String>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TenantState {
    Creating,
    Active,
    Failed,
    Suspended,
    Deleted,
}

impl TenantState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Active => "active",
            Self::Failed => "failed",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Tenant {
    pub id: TenantId,
    /// What people call it; any Unicode.
    pub name: String,
    pub plan: PlanName,
    pub region: Option<String>,
    pub template: TemplateName,
    /// The first 12 characters of the template version that its database was made from; null until it is placed.
    pub template_version: Option<String>,
    pub labels: Labels,
    pub state: TenantState,
    pub state_since: Timestamp,
    /// Why it is suspended or failed.
    pub state_reason: Option<String>,
    /// Null until it is placed.
    pub server: Option<ServerId>,
    pub deletion_protection: bool,
    pub deleted_at: Option<Timestamp>,
    /// When a deleted tenant is purged by itself.
    pub purge_at: Option<Timestamp>,
    /// Extensions that its template asks for, does not require, and that its server lacks.
    pub missing_extensions: Vec<String>,
    /// What is going on with it now.
    pub operation: Option<OperationId>,
    /// The login of before, for as long as a rotation leaves both in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retiring: Option<RetiringLogin>,
    /// Another plan that it gets when its time has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_change: Option<PlanChange>,
    /// What it uses of what its plan grants; only where one tenant is shown, and once its database was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<TenantUsage>,
    /// Whether it could be moved, as it was last judged; only where one tenant is shown, and once it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub movability: Option<TenantMovability>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A login that was handed out before the one that is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RetiringLogin {
    pub user: String,
    /// When it is refused, and then removed.
    pub until: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TenantWithConnection {
    #[serde(flatten)]
    pub tenant: Tenant,
    /// Only if the key has the scope `credentials`, or created this very tenant in this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
}

/// How the tenant's application connects. `pooled` is there where a pooler serves it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    pub direct: Endpoint,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooled: Option<Pooled>,
    /// PEM; the certificate authority to verify the server with, when it is not a public one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificate: Option<String>,
}

impl Connection {
    /// Through the pooler when that is ready for it.
    pub fn preferred(&self) -> &Endpoint {
        self.ready().map_or(&self.direct, |pooled| &pooled.endpoint)
    }

    /// Of the authority that vouches for [`Self::preferred`].
    pub fn preferred_ca(&self) -> Option<&str> {
        self.ready().map_or(self.ca_certificate.as_deref(), |pooled| pooled.ca_certificate.as_deref())
    }

    fn ready(&self) -> Option<&Pooled> {
        self.pooled.as_ref().filter(|pooled| pooled.ready)
    }
}

/// Through a pooler, with the same login and password.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pooled {
    #[serde(flatten)]
    pub endpoint: Endpoint,
    /// Whether the pooler was seen to serve it as it is now. False for a moment after a change, and while the pooler is
    /// down; `direct` works all the time.
    pub ready: bool,
    /// PEM; the certificate authority to verify the pooler with, when it is not a public one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificate: Option<String>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Endpoint {
    /// `postgres://user:password@host:port/database?sslmode=…`; with several hosts all of them, and
    /// `target_session_attrs=read-write`.
    pub url: String,
    /// The first, where there are several.
    pub host: String,
    pub port: u16,
    /// Where the server has several hosts: all of them, of which one takes writes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostPort>,
    pub database: String,
    pub user: String,
    pub password: String,
    pub sslmode: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({}@{}:{}/{})", self.user, self.host, self.port, self.database)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTenant {
    pub id: TenantId,
    /// The id when absent. At most 512 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 512)]
    pub name: Option<String>,
    /// The default plan when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 63)]
    pub region: Option<String>,
    /// The default template when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateName>,
    /// At most 32; keys 1 to 63 characters, values at most 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_protection: Option<bool>,
}

impl CreateTenant {
    /// This id, and the defaults for all else.
    pub fn named(id: TenantId) -> Self {
        Self { id, name: None, plan: None, region: None, template: None, labels: None, deletion_protection: None }
    }
}

/// A merge patch (RFC 7396): absent keeps, null clears. A label set to null is removed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchTenant {
    /// Null: the id again.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 512)]
    pub name: Option<Option<String>>,
    /// Null: none at all.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    pub labels: Option<Option<BTreeMap<String, Option<String>>>>,
    /// Null: off.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<bool>)]
    pub deletion_protection: Option<Option<bool>>,
}

/// Tells a null that was given from a field that was not.
fn given<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SuspendTenant {
    /// Shown wherever the tenant is shown. At most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub reason: Option<String>,
}

/// Longer than that is no rotation: 90 days, in seconds.
pub const GRACE_MAX_SECONDS: u64 = 90 * 24 * 3600;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateCredentials {
    /// After a leak: what was handed out before is refused at once, and its sessions are ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immediate: Option<bool>,
    /// How long both logins are in force; the setting `tenants.rotation_grace_seconds` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 7_776_000)]
    pub grace_seconds: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteTenant {
    /// The tenant's id again: what is deleted is named twice.
    pub confirm: Option<String>,
    /// Destroy its database, roles and secrets now, with no way back.
    #[serde(default)]
    pub purge: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListTenants {
    pub plan: Option<String>,
    pub state: Option<TenantState>,
    pub server: Option<String>,
    pub template: Option<String>,
    /// The best method that a move of it has left, as it was last judged.
    #[param(inline)]
    pub movable: Option<MovableBy>,
    /// `key=value`; repeated means and.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[param(example = "tier=gold")]
    pub label: Vec<String>,
    /// The beginning of an id or, whatever the case, of a name.
    #[param(max_length = 200)]
    pub q: Option<String>,
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
    pub cursor: Option<String>,
}
