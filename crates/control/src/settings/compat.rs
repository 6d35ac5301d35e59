//! `environment` and `[compat]`: where this runs, and what is allowed there all the same.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    #[default]
    Production,
    Development,
}

impl Environment {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Development => "development",
        }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Compat {
    /// Whether PgCat may be a pooler in production: it keeps tenants' passwords in plain text ([poolers.md](poolers.md#external-poolers)).
    pub pgcat: bool,
    /// Whether [other platforms' names](#names-of-other-platforms) are taken from the environment.
    pub variables: bool,
}

pub const PGCAT_REFUSED: &str = "PgCat keeps tenants' passwords in plain text, and takes MD5 from clients, so it is refused in \
    production; use pgbouncer, or say `[compat] pgcat = true` in the settings";
