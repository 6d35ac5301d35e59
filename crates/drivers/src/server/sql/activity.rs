//! The sessions in one database: who is there, what they wait for, and ending those of its tenant.
//!
//! What a tenant wrote (application name, query) is data here and stays data. A weak admin sees of a foreign role's
//! session only that it is there, not even that it is a client's. Absent: sessions that surely are none.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;

use super::admin::Admin;
use super::error::SqlError;

/// How long ended sessions may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// One client's session. What its admin may not see of a foreign role's session is absent.
#[derive(Debug, Clone, PartialEq)]
pub struct Activity {
    pub pid: i32,
    pub user: String,
    /// A member of the owner: the tenant itself.
    pub of_tenant: bool,
    pub application: String,
    pub client: Option<String>,
    pub state: Option<String>,
    pub since: Option<Timestamp>,
    pub state_since: Option<Timestamp>,
    /// Its transaction began, if one is open.
    pub transaction_since: Option<Timestamp>,
    /// `Lock: relation`, `Client: ClientRead`.
    pub waits_for: Option<String>,
    /// Whom it waits for, where it waits for a lock. 0 is a prepared transaction.
    pub blocked_by: Vec<i32>,
    /// Only where it was asked for.
    pub query: Option<String>,
}

/// Which sessions of a database to end.
#[derive(Debug, Clone)]
pub struct Which<'a> {
    pub database: &'a str,
    /// Whose members the tenant's logins are.
    pub owner: &'a str,
    /// Roles whose sessions are spared, whatever else is said.
    pub spared: &'a [&'a str],
    /// This one alone; then it need not be the tenant's.
    pub pid: Option<i32>,
    /// Only those that have done nothing for so long, in a transaction or out of one.
    pub idle_for: Option<Duration>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    pub ended: Vec<i32>,
    /// Asked to end, and still there: stuck in the kernel, or not this admin's to end.
    pub left: Vec<i32>,
}

const SESSIONS: &str = "select a.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''), host(a.client_addr), a.state, \
    a.backend_start, a.state_change, a.xact_start, a.wait_event_type || ': ' || a.wait_event, \
    case when a.wait_event_type = 'Lock' then pg_blocking_pids(a.pid) else '{}' end, \
    case when $3 then a.query end, \
    coalesce(not r.rolsuper and r.rolname <> current_user and pg_has_role(r.oid, o.oid, 'MEMBER'), false) \
    from pg_stat_activity a left join pg_roles r on r.oid = a.usesysid left join pg_roles o on o.rolname = $2 \
    where a.datname = $1 and coalesce(a.backend_type, 'client backend') = 'client backend' and a.usesysid is not null \
    and a.pid <> pg_backend_pid() order by a.backend_start, a.pid";

/// Not every admin may end every session: those that it may not are only counted.
const END: &str = "select a.pid, a.backend_start, \
    case when r.rolname = current_user or current_setting('is_superuser')::bool \
              or pg_has_role(r.oid, 'USAGE') and not r.rolsuper or pg_has_role('pg_signal_backend', 'USAGE') and not r.rolsuper \
         then pg_terminate_backend(a.pid) else false end \
    from pg_stat_activity a join pg_roles r on r.oid = a.usesysid join pg_roles o on o.rolname = $2 \
    where a.datname = $1 and coalesce(a.backend_type, 'client backend') = 'client backend' and a.pid <> pg_backend_pid() \
    and r.rolname <> current_user and r.rolname <> all($3) \
    and case when $4 > 0 then a.pid = $4 else not r.rolsuper and pg_has_role(r.oid, o.oid, 'MEMBER') end \
    and ($5 < 0 or a.state in ('idle', 'idle in transaction', 'idle in transaction (aborted)') \
                   and a.state_change < clock_timestamp() - make_interval(secs => $5))";

const LEFT: &str = "select a.pid from pg_stat_activity a join unnest($1, $2) as e (pid, since) \
    on a.pid = e.pid and a.backend_start = e.since";

impl Admin {
    /// The oldest first. `owner` is the tenant's owner role; with `query`, what each runs or ran last.
    pub async fn sessions_in(&self, database: &str, owner: &str, query: bool) -> Result<Vec<Activity>, SqlError> {
        let doing = format!("look at the sessions in {database}");
        let params = [(&database as _, Type::TEXT), (&owner as _, Type::TEXT), (&query as _, Type::BOOL)];
        let rows = self.rows(doing, SESSIONS, &params).await?;
        Ok(rows
            .iter()
            .map(|row| Activity {
                pid: row.get(0),
                user: row.get(1),
                application: row.get(2),
                client: row.get(3),
                state: row.get(4),
                since: row.get(5),
                state_since: row.get(6),
                transaction_since: row.get(7),
                waits_for: row.get(8),
                blocked_by: row.get(9),
                query: row.get(10),
                of_tenant: row.get(11),
            })
            .collect())
    }

    /// Ends them and waits until they are gone. They may come back: `refuse_logins` is what keeps them out.
    pub async fn end_sessions(&self, which: &Which<'_>) -> Result<Ended, SqlError> {
        let doing = format!("end sessions in {}", which.database);
        let spared = super::quote::owned(which.spared);
        let (pid, idle) = (which.pid.unwrap_or(0), which.idle_for.map_or(-1.0, |idle| idle.as_secs_f64()));
        let rows = self
            .rows(
                &doing,
                END,
                &[
                    (&which.database, Type::TEXT),
                    (&which.owner, Type::TEXT),
                    (&spared, Type::TEXT_ARRAY),
                    (&pid, Type::INT4),
                    (&idle, Type::FLOAT8),
                ],
            )
            .await?;
        let (mut pids, mut since, mut not_ours) = (Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            let (pid, began, asked): (i32, Option<Timestamp>, bool) = (row.get(0), row.get(1), row.get(2));
            match began.filter(|_| asked) {
                Some(began) => {
                    pids.push(pid);
                    since.push(began);
                }
                None => not_ours.push(pid),
            }
        }
        let deadline = Instant::now() + GONE_WITHIN;
        loop {
            let left = self.rows(&doing, LEFT, &[(&pids, Type::INT4_ARRAY), (&since, Type::TIMESTAMPTZ_ARRAY)]).await?;
            let left: Vec<i32> = left.iter().map(|row| row.get(0)).collect();
            if left.is_empty() || Instant::now() > deadline {
                let ended = pids.iter().copied().filter(|pid| !left.contains(pid)).collect();
                not_ours.extend(left);
                return Ok(Ended { ended, left: not_ours });
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}
