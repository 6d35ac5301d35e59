//! `environment` and `[compat]`: where this runs, and what is allowed there all the same.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::guard::Rule;

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
    /// Rules of the [production guard](secure.md#the-production-guard) that something else than Freehold sees to, by name. Each
    /// is said at every start.
    pub accept: Vec<Rule>,
    /// Whether [other platforms' names](#names-of-other-platforms) are taken from the environment.
    pub variables: bool,
}

impl Compat {
    pub(super) fn check(&self) -> Result<(), String> {
        match self.accept.iter().find(|rule| !rule.may_be_accepted()) {
            Some(rule) => Err(format!("accept: {:?} is accepted by nobody; mend it", rule.as_str())),
            None => Ok(()),
        }
    }
}

pub const PGCAT_REFUSED: &str = "PgCat keeps tenants' passwords in plain text, and takes MD5 from clients, so it is refused in \
    production; use pgbouncer, or say `[compat] pgcat = true` in the settings";
