//! What a server has, as the one that a database leaves or as the one that it comes to.

use std::collections::BTreeMap;

use tokio_postgres::types::Type;

use super::{Locale, NAMES, Named};
use crate::server::sql::admin::Admin;
use crate::server::sql::error::SqlError;

/// Whoever writes for so long holds up whoever wants a replication slot.
const LONG_SECONDS: f64 = 5.0;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Host {
    pub version_num: i32,
    pub admin: String,
    pub superuser: bool,
    pub replication: bool,
    /// A member of `pg_create_subscription`, which there is from 16 on.
    pub create_subscription: bool,
    pub createdb: bool,
    pub createrole: bool,
    pub wal_level: String,
    /// Those that the server allows, and those that are taken.
    pub slots: (u64, u64),
    pub senders: (u64, u64),
    pub logical_workers: (u64, u64),
    /// Transactions that write, of anybody on the server.
    pub writers: Waiting,
    /// Those that were prepared and neither committed nor rolled back.
    pub prepared: Waiting,
    pub extensions: BTreeMap<String, Available>,
}

/// Transactions that others wait for: process ids, or names of prepared ones.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Waiting {
    pub named: Named,
    /// None: this admin may not see it.
    pub oldest_seconds: Option<f64>,
}

/// An extension that could be created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Available {
    pub default_version: Option<String>,
    pub versions: Vec<String>,
    /// Its default version takes a superuser.
    pub superuser: bool,
}

/// Whether a server can make a database that sorts like another one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocaleThere {
    pub exists: bool,
    pub version: Option<String>,
}

const HOST: &str = "select r.rolsuper, r.rolreplication, r.rolcreatedb, r.rolcreaterole, \
    exists (select from pg_roles s where s.rolname = 'pg_create_subscription' and pg_has_role(s.oid, 'USAGE')), \
    current_setting('wal_level'), \
    current_setting('max_replication_slots')::int8, (select count(*) from pg_replication_slots), \
    current_setting('max_wal_senders')::int8, (select count(*) from pg_stat_replication), \
    least(current_setting('max_logical_replication_workers')::int8, current_setting('max_worker_processes')::int8 - 1), \
    (select count(*) from pg_subscription where subenabled) \
    from pg_roles r where r.rolname = current_user";

/// Who may not see a foreign session's times still sees that it writes.
const WRITERS: &str = "select count(*), coalesce((array_agg(pid::text order by xact_start, pid))[1:NAMES], '{}'), \
    max(extract(epoch from clock_timestamp() - xact_start)::float8) from pg_stat_activity \
    where backend_xid is not null and pid <> pg_backend_pid() \
    and coalesce(clock_timestamp() - xact_start > make_interval(secs => $1), true)";

/// Names are their owners' business: only those of one's own database are told, by whoever looks into it.
const PREPARED: &str = "select count(*), '{}'::text[], max(extract(epoch from clock_timestamp() - prepared)::float8) from pg_prepared_xacts";

const EXTENSIONS: &str = "select v.name::text, e.default_version, array_agg(v.version order by v.version), \
    coalesce(bool_or(v.superuser and not v.trusted) filter (where v.version = e.default_version), true) \
    from pg_available_extension_versions v join pg_available_extensions e on e.name = v.name where v.name = any($1) group by 1, 2";

/// Spelt as the operating system spells it, which is not everywhere the same.
const LIBC: &str = "select count(*), max(pg_collation_actual_version(c.oid)) from pg_collation c where c.collprovider = 'c' \
    and lower(replace(c.collcollate, '-', '')) = lower(replace($1, '-', ''))";
const LIBC_IN_USE: &str = "select count(*), max(pg_database_collation_actual_version(d.oid)) from pg_database d \
    where d.datlocprovider = 'c' and lower(replace(d.datcollate, '-', '')) = lower(replace($1, '-', ''))";
const ICU: &str = "select count(*), max(pg_collation_actual_version(c.oid)) \
    filter (where coalesce(to_jsonb(c)->>'colllocale', to_jsonb(c)->>'colliculocale') = $1) from pg_collation c where c.collprovider = 'i'";

impl Admin {
    /// `extensions`: those that somebody wants to know about.
    pub async fn movable_host(&self, extensions: &[String]) -> Result<Host, SqlError> {
        let doing = "look at what a move needs";
        let row = self.row(doing, HOST, &[]).await?;
        let count = |column: usize| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
        let writers = WRITERS.replace("NAMES", &NAMES.to_string());
        let writers = self.row(doing, &writers, &[(&LONG_SECONDS, Type::FLOAT8)]).await?;
        let prepared = self.row(doing, PREPARED, &[]).await?;
        let waiting = |row: &tokio_postgres::Row| Waiting {
            named: Named { count: u64::try_from(row.get::<_, i64>(0)).unwrap_or(0), names: row.get(1) },
            oldest_seconds: row.get(2),
        };
        let available = self.rows(doing, EXTENSIONS, &[(&extensions, Type::TEXT_ARRAY)]).await?;
        let available = available.iter().map(|row| {
            (row.get(0), Available { default_version: row.get(1), versions: row.get(2), superuser: row.get(3) })
        });
        Ok(Host {
            version_num: self.version_num(),
            admin: self.user().to_owned(),
            superuser: row.get(0),
            replication: row.get(1),
            createdb: row.get(2),
            createrole: row.get(3),
            create_subscription: row.get(4),
            wal_level: row.get(5),
            slots: (count(6), count(7)),
            senders: (count(8), count(9)),
            logical_workers: (count(10), count(11)),
            writers: waiting(&writers),
            prepared: waiting(&prepared),
            extensions: available.collect(),
        })
    }

    /// Whether a database that sorts like this could be made here, and by which version of the library.
    pub async fn has_locale(&self, wanted: &Locale) -> Result<LocaleThere, SqlError> {
        let doing = "look for a locale";
        let newer = |least: i32| self.version_num() >= least;
        let mut found = LocaleThere::default();
        let libc = async |sql: &str| self.row(doing, sql, &[(&wanted.collate, Type::TEXT)]).await;
        for sql in [LIBC, LIBC_IN_USE] {
            let row = libc(sql).await?;
            found.exists |= row.get::<_, i64>(0) > 0;
            found.version = found.version.or(row.get(1));
        }
        match wanted.provider.as_str() {
            "i" => {
                let row = self.row(doing, ICU, &[(&wanted.locale, Type::TEXT)]).await?;
                found = LocaleThere { exists: row.get::<_, i64>(0) > 0, version: row.get(1) };
            }
            "b" => {
                let there = match wanted.locale.as_deref() {
                    Some("PG_UNICODE_FAST") => newer(180_000),
                    _ => newer(170_000),
                };
                // It has the C library's names all the same.
                found = LocaleThere { exists: there, version: None };
            }
            _ => {}
        }
        Ok(found)
    }
}
