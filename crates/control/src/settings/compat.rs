//! `environment` and `[compat]`: where this runs, and what is allowed there all the same.

use serde::Deserialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
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

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Compat {
    /// Whether PgCat, which keeps tenants' passwords in plain text in its file, may be a pooler in production.
    pub pgcat: bool,
}

pub const PGCAT_REFUSED: &str = "PgCat keeps tenants' passwords in plain text, and takes MD5 from clients, so it is refused in \
    production; use pgbouncer, or say `[compat] pgcat = true` in the settings";
