//! How much is written, read twice: the difference is what was written in between.

use tokio_postgres::types::Type;

use crate::server::sql::admin::Admin;
use crate::server::sql::error::SqlError;

/// Counted since some time in the past.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Traffic {
    /// By the server's clock.
    pub at_seconds: f64,
    /// Of all databases of the server: whoever decodes one reads them all.
    pub wal_bytes: f64,
    /// Rows inserted, updated and deleted in the database.
    pub rows: i64,
}

const TRAFFIC: &str = "select extract(epoch from clock_timestamp())::float8, (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8, \
    coalesce((select tup_inserted + tup_updated + tup_deleted from pg_stat_database where datname = $1), 0)";

impl Admin {
    pub async fn movable_traffic(&self, database: &str) -> Result<Traffic, SqlError> {
        let row = self.row("look at what is written", TRAFFIC, &[(&database, Type::TEXT)]).await?;
        Ok(Traffic { at_seconds: row.get(0), wal_bytes: row.get(1), rows: row.get(2) })
    }
}

impl Traffic {
    /// Bytes of WAL and rows, each per second, since `before`. None: no time has passed, or the counters began anew.
    pub fn since(&self, before: &Self) -> Option<(f64, f64)> {
        let elapsed = self.at_seconds - before.at_seconds;
        let (bytes, rows) = (self.wal_bytes - before.wal_bytes, self.rows.checked_sub(before.rows)?);
        (elapsed > 0.0 && bytes >= 0.0 && rows >= 0).then(|| (bytes / elapsed, rows as f64 / elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::Traffic;

    #[test]
    fn rates_are_of_the_time_between_and_never_negative() {
        let at = |at_seconds, wal_bytes, rows| Traffic { at_seconds, wal_bytes, rows };
        assert_eq!(at(12.0, 300.0, 30).since(&at(10.0, 100.0, 10)), Some((100.0, 10.0)));
        assert_eq!(at(10.0, 300.0, 30).since(&at(10.0, 100.0, 10)), None);
        assert_eq!(at(12.0, 300.0, 3).since(&at(10.0, 100.0, 10)), None);
    }
}
