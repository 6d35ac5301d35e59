//! What a server's settings are at the moment.

use tokio_postgres::types::Type;

use super::admin::Admin;
use super::error::SqlError;

/// A row of `pg_settings`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingInForce {
    pub name: String,
    /// In `unit`, where there is one.
    pub setting: String,
    pub unit: Option<String>,
    /// `bool`, `integer`, `real`, `string`, `enum`.
    pub kind: String,
    pub pending_restart: bool,
}

impl Admin {
    /// Those of these names that the server knows. What only this session has is not told.
    pub async fn settings_in_force(&self, names: &[&str]) -> Result<Vec<SettingInForce>, SqlError> {
        let sql = "select name, case when source = 'session' or source = 'client' then reset_val else setting end, \
                   unit, vartype, pending_restart from pg_settings where name = any($1)";
        let rows = self.rows("read the server's settings", sql, &[(&names, Type::TEXT_ARRAY)]).await?;
        Ok(rows
            .iter()
            .map(|row| SettingInForce {
                name: row.get(0),
                setting: row.get::<_, Option<String>>(1).unwrap_or_default(),
                unit: row.get(2),
                kind: row.get(3),
                pending_restart: row.get(4),
            })
            .collect())
    }
}
