//! What tells the rows of a table without a key apart: set before the table is published, or its tenant's UPDATE and
//! DELETE would fail from then on. The plan is recorded before it is acted on, for it is also the way back.
//!
//! A unique index over columns that are NOT NULL will do; else all columns together.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::side::Side;
use crate::server::sql::error::{SqlError, SqlErrorKind};
use crate::server::sql::quote::ident;

/// One table, as it was and as it has to be while it is replicated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub schema: String,
    pub table: String,
    pub was: Was,
    /// None: all columns.
    pub index: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Was {
    Default,
    Nothing,
}

/// Short: whoever queues behind this lock is the tenant.
const LOCK: &str = "SET lock_timeout = '200ms'";
const UNLOCK: &str = "SET lock_timeout = '10s'";

/// Tables that replication would refuse. An index that is a replica identity goes with its table's identity, so `i` without
/// one is as good as nothing.
const LACKING: &str = "select n.nspname::text, c.relname::text, c.relreplident = 'd', \
    (select x.relname::text from pg_index i join pg_class x on x.oid = i.indexrelid where i.indrelid = c.oid \
        and i.indisunique and i.indimmediate and i.indisvalid and i.indpred is null and i.indexprs is null \
        and not exists (select from pg_attribute a where a.attrelid = c.oid and a.attnum = any(i.indkey::int2[]) and not a.attnotnull) \
        order by i.indnkeyatts, x.relname limit 1), \
    (select a.attname || ' (' || format_type(a.atttypid, null) || ')' from pg_attribute a join pg_type t on t.oid = a.atttypid \
        left join pg_type b on b.oid = nullif(t.typbasetype, 0) where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
        and (coalesce(b.oid, t.oid) in (114, 142) or coalesce(b.typcategory, t.typcategory) = 'G') order by a.attnum limit 1) \
    from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    where c.relkind = 'r' and c.relpersistence = 'p' and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'freehold') \
    and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e') \
    and (c.relreplident = 'n' or c.relreplident = 'd' and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary and i.indimmediate and i.indisvalid) \
        or c.relreplident = 'i' and not exists (select from pg_index i where i.indrelid = c.oid and i.indisreplident)) \
    order by 1, 2";

impl Side {
    /// Reads catalogs alone. A table whose rows cannot be told apart even by all columns is refused by name.
    pub async fn plan_identities(&self) -> Result<Vec<Identity>, SqlError> {
        let doing = format!("look for tables without a key in {}", self.database());
        let mut plan = Vec::new();
        for row in self.admin.rows(&doing, LACKING, &[]).await? {
            let (schema, table, index): (String, String, Option<String>) = (row.get(0), row.get(1), row.get(3));
            if let (None, Some(column)) = (&index, row.get::<_, Option<String>>(4)) {
                let message = format!(
                    "{schema}.{table} has no key, and its column {column} cannot be compared: give it a primary key, or move by dump"
                );
                return Err(SqlError::new(doing, SqlErrorKind::NotSupported, message));
            }
            let was = if row.get(2) { Was::Default } else { Was::Nothing };
            plan.push(Identity { schema, table, was, index });
        }
        Ok(plan)
    }

    pub async fn set_identities(&self, plan: &[Identity], within: Duration) -> Result<(), SqlError> {
        let becomes = |identity: &Identity| match &identity.index {
            Some(index) => format!("USING INDEX {}", ident(index)),
            None => "FULL".to_owned(),
        };
        self.alter_identities(plan, within, becomes).await
    }

    /// As it was; tables that are gone meanwhile are left out.
    pub async fn restore_identities(&self, plan: &[Identity], within: Duration) -> Result<(), SqlError> {
        let was = |identity: &Identity| match identity.was {
            Was::Default => "DEFAULT".to_owned(),
            Was::Nothing => "NOTHING".to_owned(),
        };
        self.alter_identities(plan, within, was).await
    }

    async fn alter_identities(
        &self,
        plan: &[Identity],
        within: Duration,
        identity: impl Fn(&Identity) -> String,
    ) -> Result<(), SqlError> {
        let deadline = Instant::now() + within;
        self.run("wait for locks only shortly", LOCK).await?;
        let mut outcome = Ok(());
        for table in plan {
            let name = format!("{}.{}", ident(&table.schema), ident(&table.table));
            let sql = format!("ALTER TABLE IF EXISTS ONLY {name} REPLICA IDENTITY {}", identity(table));
            outcome = loop {
                match self.run(format!("set the replica identity of {name}"), &sql).await {
                    Err(error) if error.kind == SqlErrorKind::Contention && Instant::now() < deadline => {
                        sleep(Duration::from_millis(100)).await;
                    }
                    other => break other,
                }
            };
            if outcome.is_err() {
                break;
            }
        }
        self.run("wait for locks as before", UNLOCK).await?;
        outcome
    }
}
