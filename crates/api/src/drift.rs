//! What differs between the control store and a server: what is lost, what is bent and could not be mended, and what is
//! there without being known.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::id::{ServerId, TenantId};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Drift {
    pub kind: DriftKind,
    pub server: ServerId,
    pub object: DriftObject,
    /// As the server calls it, or should.
    pub name: String,
    /// Whose it is, or was.
    pub tenant: Option<TenantId>,
    /// `lost_database`, `lost_role:…`, `verifier_changed`, …; of a stray, what tells where it comes from: `name`, `owner`,
    /// `note`, `another_note`, `unknown`.
    pub codes: Vec<String>,
    /// What it means, and what to do.
    pub message: String,
    pub since: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DriftKind {
    /// In the store, and not on the server.
    Lost,
    /// Not as it should be, and not mended yet.
    Bent,
    /// On the server, made by Freehold, and not in the store.
    Ghost,
    /// On the server, and none of Freehold's.
    Foreign,
}

impl DriftKind {
    pub const ALL: [Self; 4] = [Self::Lost, Self::Bent, Self::Ghost, Self::Foreign];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Bent => "bent",
            Self::Ghost => "ghost",
            Self::Foreign => "foreign",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DriftObject {
    Database,
    Role,
}

impl DriftObject {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Role => "role",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListDrift {
    /// Of this server only.
    pub server: Option<String>,
    pub kind: Option<DriftKind>,
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
    pub cursor: Option<String>,
}
