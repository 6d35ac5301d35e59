//! How a server is doing, in one look at its shared catalogs, and what of that a person should know.
//! Absent: free space, which no catalog knows (`disk.rs` asks the machine, where the server's machine is this one).

use super::admin::Admin;
use super::error::SqlError;
use super::facts::{Finding, Severity};

/// None is not known: this admin may not see it, or there is nothing of the kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vitals {
    pub in_recovery: bool,
    /// Seconds since 1970, by the server's clock.
    pub clock: f64,
    /// Client sessions, and how many the server admits besides those it reserves.
    pub connections: i32,
    pub connections_max: i32,
    pub databases: i32,
    /// Of client sessions and prepared transactions.
    pub oldest_transaction_seconds: Option<f64>,
    /// Whether sessions were there whose transactions this admin may not see.
    pub transactions_hidden: bool,
    /// Transactions since the oldest row that is not frozen.
    pub xid_age: i64,
    /// The same of multixacts.
    pub mxid_age: i64,
    /// Of the standby, subscriber or slot that is furthest behind.
    pub replication_lag_bytes: Option<i64>,
    /// On the server's machine.
    pub data_directory: Option<String>,
}

/// Free and total bytes of the file system that holds the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    pub free_bytes: u64,
    pub total_bytes: u64,
}

impl Disk {
    /// A percentage of a large disk is a lot of room: below 15 % it is low, unless 20 GiB are free, and below 5 % full,
    /// unless 10 GiB are.
    pub fn severity(self) -> Option<Severity> {
        let below = |percent: u64, most: u64| {
            u128::from(self.free_bytes) * 100 < u128::from(self.total_bytes) * u128::from(percent)
                && self.free_bytes < most
        };
        if below(5, 10 << 30) { Some(Severity::High) } else { below(15, 20 << 30).then_some(Severity::Medium) }
    }
}

/// Whoever may not see a session sees null for its type; background workers have no database or no user.
const VITALS: &str = "select pg_is_in_recovery(), extract(epoch from clock_timestamp())::float8, \
    (select count(*)::int4 from pg_stat_activity where datid is not null and usesysid is not null and coalesce(backend_type, 'client backend') = 'client backend'), \
    current_setting('max_connections')::int4 - current_setting('superuser_reserved_connections')::int4 - coalesce(current_setting('reserved_connections', true)::int4, 0), \
    (select count(*)::int4 from pg_database), \
    (select max(extract(epoch from clock_timestamp() - x.began))::float8 from (select xact_start from pg_stat_activity \
        where backend_type = 'client backend' and pid <> pg_backend_pid() union all select prepared from pg_prepared_xacts) x (began)), \
    exists (select from pg_stat_activity where datid is not null and usesysid is not null and backend_type is null), \
    (select max(age(datfrozenxid))::int8 from pg_database), (select max(mxid_age(datminmxid))::int8 from pg_database), \
    case when not pg_is_in_recovery() then (select max(pg_wal_lsn_diff(pg_current_wal_lsn(), x.lsn))::int8 from (select replay_lsn from pg_stat_replication \
        union all select coalesce(confirmed_flush_lsn, restart_lsn) from pg_replication_slots) x (lsn)) end, \
    (select setting from pg_settings where name = 'data_directory')";

/// From which share of `connections_max` on.
const CONNECTIONS_MANY: f64 = 0.80;
const CONNECTIONS_FULL: f64 = 0.95;
const TRANSACTION_OLD_SECONDS: f64 = 3600.0;
/// Autovacuum begins to freeze at 0.2 thousand million, gives all it has at 1.6, and the server takes no writes from 2.1 on.
const AGE_HIGH: i64 = 1_000_000_000;
const AGE_CRITICAL: i64 = 1_600_000_000;
const LAG_BYTES: i64 = 1 << 30;
const SKEW_SECONDS: f64 = 5.0;

impl Admin {
    pub async fn vitals(&self) -> Result<Vitals, SqlError> {
        let row = self.row("read how the server is doing", VITALS, &[]).await?;
        Ok(Vitals {
            in_recovery: row.get(0),
            clock: row.get(1),
            connections: row.get(2),
            connections_max: row.get(3),
            databases: row.get(4),
            oldest_transaction_seconds: row.get(5),
            transactions_hidden: row.get(6),
            xid_age: row.get(7),
            mxid_age: row.get(8),
            // An inactive logical slot may be a little ahead of what is flushed.
            replication_lag_bytes: row.get::<_, Option<i64>>(9).map(|lag| lag.max(0)),
            data_directory: row.get(10),
        })
    }
}

impl Vitals {
    /// What a person should know, each once. `skew` is how far the server's clock is ahead of the control store's, in
    /// seconds, as far as that could be told.
    pub fn findings(&self, skew: f64, disk: Option<Disk>) -> Vec<Finding> {
        use Severity::*;
        let mut findings = Vec::new();
        let used = f64::from(self.connections) / f64::from(self.connections_max.max(1));
        if used >= CONNECTIONS_MANY {
            let severity = if used >= CONNECTIONS_FULL { High } else { Medium };
            let message = format!(
                "{} of {} connections are in use: beyond that, tenants are refused; end what is idle, or raise max_connections",
                self.connections, self.connections_max
            );
            findings.push(Finding::new("connections_near_max", severity, message));
        }
        if let Some(age) = self.oldest_transaction_seconds.filter(|age| *age >= TRANSACTION_OLD_SECONDS) {
            let message = format!(
                "a transaction has been open for {}: until it ends, no row that was deleted since is cleaned up, on the whole server",
                duration(age)
            );
            findings.push(Finding::new("old_transaction", Medium, message));
        }
        let age = self.xid_age.max(self.mxid_age);
        if age >= AGE_HIGH {
            let severity = if age >= AGE_CRITICAL { High } else { Medium };
            let message = format!(
                "the oldest row that is not frozen is {} million transactions old; from 2,100 on the server takes no writes: \
                 find what keeps autovacuum from it (old transactions, replication slots), and vacuum",
                age / 1_000_000
            );
            findings.push(Finding::new("wraparound_near", severity, message));
        }
        if let Some(lag) = self.replication_lag_bytes.filter(|lag| *lag >= LAG_BYTES) {
            let message = format!(
                "a standby, subscriber or slot is {} MB behind: its WAL is kept until then, and fills the disk",
                lag >> 20
            );
            findings.push(Finding::new("replication_behind", Medium, message));
        }
        if let Some((disk, severity)) = disk.and_then(|disk| Some((disk, disk.severity()?))) {
            let message = format!(
                "{} MB of {} MB are free where its data is: a full disk stops every tenant's writes",
                disk.free_bytes >> 20,
                disk.total_bytes >> 20
            );
            findings.push(Finding::new("disk_low", severity, message));
        }
        if skew.abs() >= SKEW_SECONDS {
            let (by, way) = (duration(skew.abs()), if skew > 0.0 { "ahead of" } else { "behind" });
            let message = format!("its clock is {by} {way} the control store's: have both follow the same time server");
            findings.push(Finding::new("clock_skew", Medium, message));
        }
        if self.transactions_hidden {
            let message = "how old transactions are is not visible: GRANT pg_read_all_stats to the admin";
            findings.push(Finding::new("statistics_not_readable", Low, message));
        }
        findings
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn well() -> Vitals {
        Vitals { clock: 1e9, connections: 5, connections_max: 97, databases: 4, ..Vitals::default() }
    }

    fn codes(vitals: &Vitals, skew: f64, disk: Option<Disk>) -> Vec<(&'static str, Severity)> {
        vitals.findings(skew, disk).into_iter().map(|finding| (finding.code, finding.severity)).collect()
    }

    #[test]
    fn a_server_that_is_well_has_no_findings() {
        assert_eq!(codes(&well(), 4.9, Some(Disk { free_bytes: 15, total_bytes: 100 })), []);
    }

    #[test]
    fn each_limit_is_told_from_where_the_documentation_says() {
        use Severity::*;
        for (connections, expected) in [(77, None), (78, Some(Medium)), (92, Some(Medium)), (93, Some(High))] {
            let found = codes(&Vitals { connections, ..well() }, 0.0, None);
            assert_eq!(found.first().map(|found| found.1), expected, "{connections} of 97");
        }
        let age = |xid_age| codes(&Vitals { xid_age, ..well() }, 0.0, None).first().map(|found| found.1);
        assert_eq!((age(999_999_999), age(1_000_000_000), age(1_600_000_000)), (None, Some(Medium), Some(High)));
        let mxid = Vitals { mxid_age: 1_600_000_000, ..well() };
        assert_eq!(codes(&mxid, 0.0, None), [("wraparound_near", High)]);
        let old = |age| codes(&Vitals { oldest_transaction_seconds: Some(age), ..well() }, 0.0, None).len();
        assert_eq!((old(3599.0), old(3600.0)), (0, 1));
        let lag = |lag| codes(&Vitals { replication_lag_bytes: Some(lag), ..well() }, 0.0, None).len();
        assert_eq!((lag((1 << 30) - 1), lag(1 << 30)), (0, 1));
        let disk =
            |free_bytes| codes(&well(), 0.0, Some(Disk { free_bytes, total_bytes: 1000 })).first().map(|found| found.1);
        assert_eq!((disk(150), disk(149), disk(50), disk(49)), (None, Some(Medium), Some(Medium), Some(High)));
        let large = |free: u64| Disk { free_bytes: free << 30, total_bytes: 1 << 40 }.severity();
        assert_eq!((large(20), large(19), large(10), large(9)), (None, Some(Medium), Some(Medium), Some(High)));
        assert_eq!(Disk { free_bytes: 0, total_bytes: 0 }.severity(), None);
        assert_eq!((codes(&well(), -5.0, None).len(), codes(&well(), 5.0, None).len()), (1, 1));
        let hidden = Vitals { transactions_hidden: true, ..well() };
        assert_eq!(codes(&hidden, 0.0, None), [("statistics_not_readable", Low)]);
    }

    proptest! {
        /// Whatever a server answers, no finding is told twice and none panics.
        #[test]
        fn findings_are_told_once(connections in any::<i32>(), connections_max in any::<i32>(), xid_age in any::<i64>(), mxid_age in any::<i64>(),
            lag in any::<Option<i64>>(), old in any::<Option<f64>>(), skew in any::<f64>(), free in any::<u64>(), total in any::<u64>()) {
            let vitals = Vitals { connections, connections_max, xid_age, mxid_age, replication_lag_bytes: lag,
                oldest_transaction_seconds: old, transactions_hidden: true, ..Vitals::default() };
            let mut found: Vec<_> = codes(&vitals, skew, Some(Disk { free_bytes: free, total_bytes: total })).into_iter().map(|found| found.0).collect();
            let count = found.len();
            found.dedup();
            prop_assert_eq!(found.len(), count);
        }
    }
}
