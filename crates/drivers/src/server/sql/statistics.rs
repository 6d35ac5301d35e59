//! What PostgreSQL counts of each database, and how large they are. Counters only rise, until somebody resets them or the
//! server crashes; sizes cost a look at every file, about a millisecond for a small database, and come in portions.

use std::collections::BTreeMap;

use tokio_postgres::types::Type;

use super::admin::Admin;
use super::error::SqlError;

/// Since the database was made, or since its statistics were reset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    pub database: String,
    pub transactions: i64,
    pub blocks_hit: i64,
    pub blocks_read: i64,
    pub deadlocks: i64,
    pub temp_bytes: i64,
}

/// Client sessions that one role has in one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sessions {
    pub role: String,
    pub database: String,
    pub count: i32,
}

const COUNTERS: &str = "select d.datname::text, coalesce(s.xact_commit + s.xact_rollback, 0), coalesce(s.blks_hit, 0), coalesce(s.blks_read, 0), \
    coalesce(s.deadlocks, 0), coalesce(s.temp_bytes, 0) from pg_database d left join pg_stat_database s on s.datid = d.oid";

const SESSIONS: &str = "select coalesce(usename, '')::text, coalesce(datname, '')::text, count(*)::int4 from pg_stat_activity \
    where datid is not null and usesysid is not null and coalesce(backend_type, 'client backend') = 'client backend' group by 1, 2";

/// A database that goes away meanwhile has no size; one that the admin may not connect to tells it none.
const SIZES: &str = "select datname::text, case when datconnlimit <> -2 and (has_database_privilege(oid, 'CONNECT') or pg_has_role('pg_read_all_stats', 'USAGE')) \
    then pg_database_size(oid) end from pg_database where datname = any($1)";

impl Admin {
    /// Of every database that there is.
    pub async fn counters(&self) -> Result<Vec<Counters>, SqlError> {
        let rows = self.rows("read what databases counted", COUNTERS, &[]).await?;
        let counters = rows.iter().map(|row| Counters {
            database: row.get(0),
            transactions: row.get(1),
            blocks_hit: row.get(2),
            blocks_read: row.get(3),
            deadlocks: row.get(4),
            temp_bytes: row.get(5),
        });
        Ok(counters.collect())
    }

    pub async fn sessions(&self) -> Result<Vec<Sessions>, SqlError> {
        let rows = self.rows("count sessions", SESSIONS, &[]).await?;
        Ok(rows.iter().map(|row| Sessions { role: row.get(0), database: row.get(1), count: row.get(2) }).collect())
    }

    /// In bytes, of those that are there and that this admin may look at.
    pub async fn sizes(&self, databases: &[String]) -> Result<BTreeMap<String, i64>, SqlError> {
        let rows = self.rows("measure databases", SIZES, &[(&databases, Type::TEXT_ARRAY)]).await?;
        Ok(rows.iter().filter_map(|row| Some((row.get(0), row.get::<_, Option<i64>>(1)?))).collect())
    }
}
