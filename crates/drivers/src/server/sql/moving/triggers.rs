//! Triggers that fire also when a change is applied (ENABLE ALWAYS, ENABLE REPLICA): what they do has been done at the
//! publisher, and is replicated. So they are ordinary ones at a subscriber, and what they were once it is none any more.

use serde::{Deserialize, Serialize};

use super::side::Side;
use crate::server::sql::error::SqlError;
use crate::server::sql::quote::ident;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    pub schema: String,
    pub table: String,
    pub name: String,
    /// Else ENABLE REPLICA.
    pub always: bool,
}

impl Side {
    /// On record before the fence: where the tenant is served they are as it wants them.
    pub async fn waking_triggers(&self) -> Result<Vec<Trigger>, SqlError> {
        let sql = "select n.nspname::text, c.relname::text, t.tgname::text, t.tgenabled = 'A' from pg_trigger t \
                   join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace \
                   where not t.tgisinternal and t.tgenabled in ('A', 'R') and n.nspname <> 'freehold' order by 1, 2, 3";
        let rows = self.admin.rows(format!("list the triggers of {}", self.database()), sql, &[]).await?;
        Ok(rows
            .iter()
            .map(|row| Trigger { schema: row.get(0), table: row.get(1), name: row.get(2), always: row.get(3) })
            .collect())
    }

    /// Before this side applies what the other one did.
    pub async fn quiet_triggers(&self, triggers: &[Trigger]) -> Result<(), SqlError> {
        self.alter_triggers(triggers, |_| "ENABLE").await
    }

    /// Once it applies nothing more.
    pub async fn wake_triggers(&self, triggers: &[Trigger]) -> Result<(), SqlError> {
        self.alter_triggers(triggers, |trigger| if trigger.always { "ENABLE ALWAYS" } else { "ENABLE REPLICA" }).await
    }

    async fn alter_triggers(&self, triggers: &[Trigger], verb: impl Fn(&Trigger) -> &str) -> Result<(), SqlError> {
        let sql: Vec<String> = triggers
            .iter()
            .map(|trigger| {
                let table = format!("{}.{}", ident(&trigger.schema), ident(&trigger.table));
                format!("ALTER TABLE IF EXISTS ONLY {table} {} TRIGGER {}", verb(trigger), ident(&trigger.name))
            })
            .collect();
        match sql.is_empty() {
            true => Ok(()),
            false => self.run(format!("set the triggers of {}", self.database()), &sql.join(";\n")).await,
        }
    }
}
