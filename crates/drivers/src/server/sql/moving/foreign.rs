//! A database of somebody else's, read by a login of his: as of one moment, and changed in nothing.
//!
//! That moment is a snapshot, which a session of its own holds until all is read and compared. A snapshot does not show what
//! was written later, but it shows what TRUNCATE and ALTER TABLE did: so the tables are locked against these, as pg_dump locks
//! them (ACCESS SHARE). Whoever reads or writes there is not disturbed.

use super::side::{Side, Whose, read, rows, run};
use super::stream::unhurry;
use crate::server::sql::admin::Admin;
use crate::server::sql::dsn::Dsn;
use crate::server::sql::error::{SqlError, SqlErrorKind};
use crate::server::sql::quote::ident;
use crate::server::sql::session::Maintenance;

/// Tables that one message locks.
const LOCKED: usize = 200;

const TABLES: &str = "select n.nspname::text, c.relname::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
    where c.relkind in ('r', 'p') and c.relpersistence in ('p', 'u') and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'freehold') \
    and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.deptype = 'e') order by 1, 2";

pub struct Foreign {
    side: Side,
    /// Its transaction is the moment.
    holder: Maintenance,
}

impl Foreign {
    /// The database that the DSN names, from now on as of now.
    pub async fn open(dsn: &Dsn, application_name: &str) -> Result<Self, SqlError> {
        let doing = format!("hold a snapshot of {}", dsn.public());
        let admin = Admin::connect(dsn, None, application_name).await?;
        admin.run(&doing, "set default_transaction_read_only = on").await?;
        let holder = read(dsn, application_name).await?;
        unhurry(&holder).await?;
        let tables = admin.rows(&doing, TABLES, &[]).await?;
        // What is locked before the first query is locked before the snapshot.
        run(&holder, &doing, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        for some in tables.chunks(LOCKED) {
            let names: Vec<String> =
                some.iter().map(|row| format!("ONLY {}.{}", ident(row.get(0)), ident(row.get(1)))).collect();
            run(&holder, &doing, &format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "))).await?;
        }
        let exported = rows(&holder, &doing, "select pg_catalog.pg_export_snapshot()", &[]).await?;
        let snapshot: String = exported.first().map(|row| row.get(0)).unwrap_or_default();
        let seen = rows(&holder, &doing, TABLES, &[]).await?;
        let names = |rows: &[tokio_postgres::Row]| -> Vec<(String, String)> {
            rows.iter().map(|row| (row.get(0), row.get(1))).collect()
        };
        if names(&tables) != names(&seen) {
            let message = "tables were made or dropped at this very moment";
            return Err(SqlError::new(doing, SqlErrorKind::Contention, message));
        }
        let sql = "select oid from pg_catalog.pg_largeobject_metadata order by 1";
        let large_objects = rows(&holder, &doing, sql, &[]).await?.iter().map(|row| row.get(0)).collect();
        let side = Side {
            maintenance: read(dsn, application_name).await?,
            admin_dsn: dsn.clone(),
            maintenance_dsn: dsn.clone(),
            owner: admin.user().to_owned(),
            application_name: application_name.to_owned(),
            whose: Whose::Theirs { snapshot, large_objects },
            admin,
        };
        side.stay().await?;
        Ok(Self { side, holder })
    }

    /// What reads of it read.
    pub fn side(&self) -> &Side {
        &self.side
    }

    /// Whether the moment is still held: without it, nothing of what is read any more is as of then.
    pub async fn still_held(&self) -> Result<(), SqlError> {
        run(&self.holder, "look after the snapshot of the source", "SELECT 1").await
    }

    /// Ends what somebody before us has open there: a process that sleeps holds its snapshot.
    pub async fn end_lower_epochs(dsn: &Dsn, prefix: &str, epoch: i64) -> Result<(), SqlError> {
        let admin = Admin::connect(dsn, None, &format!("{prefix}{epoch}")).await?;
        admin.fence_lower_epochs(prefix, epoch).await.map(drop)?;
        admin.close().await;
        Ok(())
    }

    /// Says goodbye, so that nothing is left open there.
    pub async fn close(self) {
        self.holder.close().await;
        self.side.close().await;
    }
}
