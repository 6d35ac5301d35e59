//! The place in the publisher's log. Making one waits for every transaction on the *server* that has written and is still
//! open, a neighbour's too (rule 6): so it has a deadline, an error that names them, and is never made under a fence.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;

use super::link::Link;
use super::side::Side;
use crate::server::sql::admin::{Admin, Timeouts};
use crate::server::sql::error::{SqlError, SqlErrorKind};

const GONE_WITHIN: Duration = Duration::from_secs(10);
/// It is there at once; what is waited for afterwards nobody needs.
const ON_RECORD: Duration = Duration::from_secs(1);

/// By the lock that every writing transaction holds on itself: the activity of others is hidden from weak admins.
const WRITERS: &str = "select format('%s (%s in %s%s)', l.pid, coalesce(a.usename, 'unknown'), coalesce(a.datname, 'unknown'), \
        coalesce(', for ' || round(extract(epoch from clock_timestamp() - a.xact_start)) || ' s', '')) \
    from pg_locks l left join pg_stat_activity a on a.pid = l.pid \
    where l.locktype = 'transactionid' and l.mode = 'ExclusiveLock' and l.granted and l.pid is not null and l.pid <> pg_backend_pid() \
    union all select format('prepared transaction %s (%s in %s, since %s)', quote_literal(gid), owner, database, prepared) from pg_prepared_xacts \
    limit 20";

impl Admin {
    /// Slots whose readers get all that they have not got yet.
    pub async fn slots_kept(&self) -> Result<Vec<String>, SqlError> {
        let sql = "select slot_name::text from pg_replication_slots where coalesce(wal_status, '') <> 'lost'";
        Ok(self.rows("look at replication slots", sql, &[]).await?.iter().map(|row| row.get(0)).collect())
    }
}

impl Side {
    pub async fn create_slot(&self, link: &Link, within: Duration) -> Result<(), SqlError> {
        let doing = format!("create replication slot {}", link.name());
        if self.has_slot(link).await? {
            return Ok(());
        }
        // A session of its own: its limit is this verb's.
        let timeouts = Timeouts { statement: within, ..Timeouts::default() };
        let session = Admin::connect_with(&self.admin_dsn, None, &self.application_name, timeouts).await?;
        let sql = "select 1 from pg_create_logical_replication_slot($1, 'pgoutput')";
        let outcome = session.rows(&doing, sql, &[(&link.name(), Type::TEXT)]).await;
        session.close().await;
        match outcome {
            Ok(_) => Ok(()),
            Err(error) if error.kind == SqlErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.kind == SqlErrorKind::Timeout => {
                let rows = self.admin.rows(&doing, WRITERS, &[]).await?;
                let writers: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
                let message = match writers.is_empty() {
                    true => format!("open transactions held it up for {within:?}; they are over now: try again"),
                    false => format!(
                        "within {within:?} these transactions, which write, did not end: {}; end them, or try again later",
                        writers.join(", ")
                    ),
                };
                Err(error.with_message(message))
            }
            Err(error) => Err(error),
        }
    }

    /// Skips what the log has had until now: on 15 what was applied here would otherwise go back where it came from. Often
    /// before the fence, so that little is left to skip under it. Answers the place, for `follow_from`: a server that dies
    /// forgets how far a slot was advanced.
    pub async fn advance_slot(&self, link: &Link) -> Result<String, SqlError> {
        let doing = format!("advance replication slot {}", link.name());
        let sql = "with here (lsn) as materialized (select pg_current_wal_lsn()) \
                   select lsn::text, pg_replication_slot_advance($1, lsn) is null from here";
        Ok(self.admin.row(&doing, sql, &[(&link.name(), Type::TEXT)]).await?.get(0))
    }

    /// Before the fence, so that [`advance_slot`](Self::advance_slot) has little to read under it: it reads from where
    /// decoding would begin anew, which is where all that was open was on record in the log, by then confirmed. A slot that is
    /// made and gone with its session puts that on record; the first turn confirms it, and the second goes there.
    pub async fn bring_slot_up(&self, link: &Link) -> Result<(), SqlError> {
        // Also where that comes to nothing, because all slots are taken or somebody goes on writing: there is more to read then.
        if let Err(error) = self.record_what_is_open(link).await {
            tracing::debug!(%error, "its log is read from further back");
        }
        self.advance_slot(link).await?;
        self.advance_slot(link).await.map(drop)
    }

    async fn record_what_is_open(&self, link: &Link) -> Result<(), SqlError> {
        let timeouts = Timeouts { statement: ON_RECORD, ..Timeouts::default() };
        let session = Admin::connect_with(&self.admin_dsn, None, &self.application_name, timeouts).await?;
        let (name, doing) = (format!("{}_now", link.name()), "put on record what is open");
        let sql = "select 1 from pg_create_logical_replication_slot($1, 'pgoutput', true)";
        let outcome = session.rows(doing, sql, &[(&name, Type::TEXT)]).await.map(drop);
        session.close().await;
        outcome
    }

    pub async fn drop_slot(&self, link: &Link) -> Result<(), SqlError> {
        let doing = format!("drop replication slot {}", link.name());
        let deadline = Instant::now() + GONE_WITHIN;
        let end = "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1 and active_pid is not null";
        let drop_it = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1";
        while self.has_slot(link).await? {
            self.admin.rows(&doing, end, &[(&link.name(), Type::TEXT)]).await?;
            match self.admin.rows(&doing, drop_it, &[(&link.name(), Type::TEXT)]).await {
                Err(error) if error.kind == SqlErrorKind::InUse && Instant::now() < deadline => {
                    sleep(Duration::from_millis(20)).await;
                }
                other => drop(other?),
            }
        }
        Ok(())
    }

    /// Slots that the workers of a subscription made while they copied, where it could not take them along: its server was
    /// not reachable. `subscription` is its oid there.
    pub async fn drop_slots_of_copies(&self, subscription: u32) -> Result<(), SqlError> {
        let sql = "select pg_drop_replication_slot(slot_name) from pg_replication_slots \
                   where database = current_database() and not active and slot_name ~ ('^pg_' || $1 || '_sync_[0-9]+_[0-9]+$')";
        self.admin.rows("drop slots of copies", sql, &[(&subscription.to_string(), Type::TEXT)]).await.map(drop)
    }

    async fn has_slot(&self, link: &Link) -> Result<bool, SqlError> {
        let sql = "select 1 from pg_replication_slots where slot_name = $1";
        self.admin.exists("look for a replication slot", sql, &[(&link.name(), Type::TEXT)]).await
    }
}
