//! Row security that is forced on its owner hides rows from whoever reads them as the owner. It is lifted while a side is
//! read whole, when nobody else is let in, and put back before anybody is.

use serde::{Deserialize, Serialize};

use super::side::Side;
use crate::server::sql::error::SqlError;
use crate::server::sql::quote::ident;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forced {
    pub schema: String,
    pub table: String,
}

impl Side {
    /// On record before anything is lifted.
    pub async fn forced_tables(&self) -> Result<Vec<Forced>, SqlError> {
        let sql = "select n.nspname::text, c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                   where c.relkind = 'r' and c.relforcerowsecurity and n.nspname !~ '^pg_' and n.nspname <> 'freehold' order by 1, 2";
        let rows = self.admin.rows(format!("look for forced row security in {}", self.database()), sql, &[]).await?;
        Ok(rows.iter().map(|row| Forced { schema: row.get(0), table: row.get(1) }).collect())
    }

    pub async fn lift_force(&self, tables: &[Forced]) -> Result<(), SqlError> {
        self.alter_force(tables, "NO FORCE").await
    }

    /// Tables that are gone meanwhile are left out.
    pub async fn force_again(&self, tables: &[Forced]) -> Result<(), SqlError> {
        self.alter_force(tables, "FORCE").await
    }

    async fn alter_force(&self, tables: &[Forced], verb: &str) -> Result<(), SqlError> {
        for Forced { schema, table } in tables {
            let name = format!("{}.{}", ident(schema), ident(table));
            let sql = format!("ALTER TABLE IF EXISTS ONLY {name} {verb} ROW LEVEL SECURITY");
            self.run(format!("set row security of {name}"), &sql).await?;
        }
        Ok(())
    }
}
