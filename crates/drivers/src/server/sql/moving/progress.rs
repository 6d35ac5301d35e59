//! How far a direction is, and what is wrong with it. Both sides tell a part.

use tokio_postgres::types::Type;

use super::link::Link;
use super::side::Side;
use crate::server::sql::error::{SqlError, SqlErrorKind};

/// As the subscriber sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    pub tables: i64,
    /// Copied, and followed by the one worker that applies.
    pub ready: i64,
    pub copying: i64,
    /// Of the copies that run.
    pub copied_bytes: i64,
    pub enabled: bool,
    pub applies: bool,
    /// Since the subscription was made. Which error it was is in this server's log, and nowhere else.
    pub errors: i64,
    /// Why no worker runs, as far as the server tells.
    pub hindered: Option<String>,
}

/// As the publisher sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotSeen {
    pub active: bool,
    /// Not yet confirmed by the subscriber.
    pub lag_bytes: i64,
    /// Kept on disk for it.
    pub kept_bytes: i64,
}

impl Progress {
    pub fn is_ready(&self) -> bool {
        self.tables > 0 && self.ready == self.tables && self.applies
    }
}

impl Side {
    /// Of all that is in the database, indexes and catalogs too.
    pub async fn bytes(&self) -> Result<u64, SqlError> {
        let sql = "select pg_database_size(current_database())";
        let row = self.admin.row("measure the database", sql, &[]).await?;
        Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
    }

    /// At the subscriber.
    pub async fn progress(&self, link: &Link) -> Result<Progress, SqlError> {
        let doing = format!("look at subscription {}", link.name());
        let sql = "select s.subenabled, count(r.srrelid), count(r.srrelid) filter (where r.srsubstate = 'r'), \
            count(r.srrelid) filter (where r.srsubstate in ('d', 'f', 's')), \
            coalesce((select sum(bytes_processed) from pg_stat_progress_copy where datname = current_database() and type = 'CALLBACK'), 0)::int8, \
            exists (select from pg_stat_subscription w where w.subid = s.oid and w.relid is null and w.pid is not null), \
            coalesce((select apply_error_count + sync_error_count from pg_stat_subscription_stats t where t.subid = s.oid), 0), \
            (select count(*) from pg_stat_subscription where pid is not null), current_setting('max_logical_replication_workers')::int8 \
            from pg_subscription s left join pg_subscription_rel r on r.srsubid = s.oid \
            where s.subname = $1 and s.subdbid = (select oid from pg_database where datname = current_database()) group by s.oid, s.subenabled";
        let rows = self.admin.rows(&doing, sql, &[(&link.name(), Type::TEXT)]).await?;
        let Some(row) = rows.first() else {
            return Err(SqlError::new(doing, SqlErrorKind::Missing, "there is no such subscription"));
        };
        let (enabled, applies, errors): (bool, bool, i64) = (row.get(0), row.get(5), row.get(6));
        let (running, most): (i64, i64) = (row.get(7), row.get(8));
        let hindered = match (enabled, applies) {
            (_, true) => None,
            (false, false) => Some("the subscription is disabled".to_owned()),
            (true, false) if running >= most => Some(format!(
                "all {most} workers of this server are busy: raise max_logical_replication_workers, or wait"
            )),
            (true, false) if errors > 0 => {
                Some(format!("its worker ended with an error {errors} times: this server's log says which"))
            }
            (true, false) => Some("its worker has not started, or cannot reach the other side".to_owned()),
        };
        Ok(Progress {
            tables: row.get(1),
            ready: row.get(2),
            copying: row.get(3),
            copied_bytes: row.get(4),
            enabled,
            applies,
            errors,
            hindered,
        })
    }

    /// At the publisher. A slot that the server gave up is an error: nothing but a new beginning helps.
    pub async fn slot_seen(&self, link: &Link) -> Result<SlotSeen, SqlError> {
        let doing = format!("look at replication slot {}", link.name());
        let sql = "select active, coalesce(pg_current_wal_lsn() - confirmed_flush_lsn, 0)::int8, \
            coalesce(pg_current_wal_lsn() - restart_lsn, 0)::int8, coalesce(wal_status, ''), \
            coalesce(to_jsonb(s)->>'invalidation_reason', '') from pg_replication_slots s where slot_name = $1";
        let rows = self.admin.rows(&doing, sql, &[(&link.name(), Type::TEXT)]).await?;
        let Some(row) = rows.first() else {
            return Err(SqlError::new(doing, SqlErrorKind::Missing, "there is no such slot"));
        };
        if row.get::<_, &str>(3) == "lost" {
            let reason = match row.get::<_, &str>(4) {
                "" => "wal_removed",
                told => told,
            };
            let message = format!(
                "the server gave it up ({reason}): more was written than max_slot_wal_keep_size keeps; raise that, and begin the copy anew"
            );
            return Err(SqlError::new(doing, SqlErrorKind::Unexpected, message));
        }
        Ok(SlotSeen { active: row.get(0), lag_bytes: row.get(1), kept_bytes: row.get(2) })
    }
}
