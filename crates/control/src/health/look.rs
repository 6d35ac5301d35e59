//! One look at one server: as the admin comes, and as tenants come, at the same time and within one limit.
//! Absent: the store's connections, while the server takes its time.

use std::path::PathBuf;
use std::time::Duration;

use freehold_api::server::Finding;
use freehold_drivers::server::disk;
use freehold_drivers::server::sql::{self, Admin, Disk, SqlErrorKind, Timeouts, Visit, Vitals};
use freehold_durable::Failure;
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::store;
use super::visitor::{self, Visitor};
use crate::plane::Core;
use crate::server::hands::{self, Holder};
use crate::server::store::ServerRow;

/// What was found.
#[derive(Debug, Default)]
pub struct Look {
    /// What is wrong; None where it answers as it should.
    pub sick: Option<Sick>,
    /// None where the admin did not get that far.
    pub seen: Option<Seen>,
    pub findings: Vec<Finding>,
}

#[derive(Debug, Clone)]
pub struct Seen {
    pub vitals: Vitals,
    pub disk: Option<Disk>,
    skew: f64,
    /// Whether this is the cluster that was registered: without that, nothing is written there.
    proven: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sick {
    /// Stable, for programs.
    pub code: String,
    pub message: String,
    /// It answers, and is another server than it should be.
    pub wrong: bool,
}

/// The control store's clock as of one instant, so that a hundred looks need not ask it.
pub struct StoreClock {
    seconds: f64,
    taken: Instant,
    /// How long the store took to say it.
    error: f64,
}

impl StoreClock {
    pub async fn read(store: &PgPool) -> sqlx::Result<Self> {
        let mut connection = store.acquire().await?;
        let asked = Instant::now();
        let sql = "SELECT extract(epoch FROM clock_timestamp())::float8";
        let seconds = sqlx::query_scalar(sql).fetch_one(&mut *connection).await?;
        let taken = Instant::now();
        Ok(Self { seconds, taken, error: (taken - asked).as_secs_f64() })
    }

    /// How far a clock that said `seconds` between two instants is ahead of this one, as far as that can be told.
    fn skew(&self, seconds: f64, asked: Instant, told: Instant) -> f64 {
        let took = (told - asked).as_secs_f64();
        let now = self.seconds + (told.saturating_duration_since(self.taken)).as_secs_f64() - took / 2.0;
        let skew = seconds - now;
        let doubt = took / 2.0 + self.error;
        skew.signum() * (skew.abs() - doubt).max(0.0)
    }
}

/// What a look begins with.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// How it comes in as tenants do; None where that was never made.
    pub known: Option<&'a Visitor>,
    pub clock: &'a StoreClock,
    /// Turns at writing to a server.
    pub mending: &'a Semaphore,
}

/// Never fails and never lasts longer than the limit.
pub async fn at(core: &Core, holder: &impl Holder, server: &ServerRow, place: Place<'_>) -> Look {
    let Place { known, clock, mending } = place;
    let limit = Duration::from_secs(core.settings.health.timeout_seconds);
    let deadline = Instant::now() + limit;
    let silent = |_| Err(Sick::silent(limit));
    let admins = timeout_at(deadline, as_admin(core, holder, server, clock, limit));
    let tenants = async {
        match known {
            Some(known) => timeout_at(deadline, as_tenants(core, server, known)).await.unwrap_or_else(silent),
            None => Err(Sick::new("visitor_missing", "health has no login there yet")),
        }
    };
    let (admin, mut tenant) = tokio::join!(admins, tenants);
    let admin = admin.unwrap_or_else(|_| Err(Sick::silent(limit)));
    let mut findings = Vec::new();
    if let Ok(seen) = &admin {
        findings.extend(seen.vitals.findings(seen.skew, seen.disk).into_iter().map(hands::finding));
        let mends = |sick: &Sick| sick.code == "visitor_missing" || sick.code == SqlErrorKind::AuthFailed.code();
        let lacking = tenant.as_ref().is_err_and(mends);
        if lacking && server.state == "draining" {
            // Whoever removes a server takes its visitor away first.
            tenant = Ok(None);
        } else if seen.proven && lacking {
            let again = async {
                let turn = mending.acquire().await;
                let visitor = let_in(core, holder, server).await.map_err(Sick::from)?;
                drop(turn);
                as_tenants(core, server, &visitor).await
            };
            tenant = timeout_at(deadline, again).await.unwrap_or_else(silent);
        }
    }
    if let Ok(Some(finding)) = &tenant {
        findings.push(finding.clone());
    }
    let sick = together(server, admin.as_ref().err(), tenant.as_ref().err());
    Look { sick, seen: admin.ok(), findings }
}

async fn as_admin(
    core: &Core,
    holder: &impl Holder,
    server: &ServerRow,
    clock: &StoreClock,
    limit: Duration,
) -> Result<Seen, Sick> {
    let dsn = hands::dsn(&core.sealer, server).map_err(Sick::from)?;
    let timeouts = Timeouts { lock: limit, statement: limit };
    // Not fenced and not asked whether it is still this process's turn: it reads.
    let admin = Admin::connect_with(&dsn, None, &holder.application_name(), timeouts).await.map_err(Sick::sql)?;
    let found = admin.system_identifier().await.map_err(Sick::sql)?;
    let proven = is_the_same(server, &found)?;
    let asked = Instant::now();
    let vitals = admin.vitals().await.map_err(Sick::sql)?;
    let skew = clock.skew(vitals.clock, asked, Instant::now());
    if vitals.in_recovery {
        return Err(Sick::standby("the address of its admin"));
    }
    admin.close().await;
    let disk = match vitals.data_directory.clone() {
        Some(directory) if !found.is_empty() => {
            // A file system may hang; the limit is the caller's.
            let look = tokio::task::spawn_blocking(move || disk::of_cluster(&PathBuf::from(directory), &found));
            look.await.ok().flatten()
        }
        _ => None,
    };
    Ok(Seen { vitals, disk, skew, proven })
}

/// Says when it is let in by its password, and no further.
async fn as_tenants(core: &Core, server: &ServerRow, visitor: &Visitor) -> Result<Option<Finding>, Sick> {
    let dsn = visitor::dsn(core, server, visitor).map_err(Sick::from)?;
    let Visit { in_recovery, system_identifier } = sql::visit(&dsn).await.map_err(Sick::sql)?;
    is_the_same(server, &system_identifier)?;
    if in_recovery == Some(true) {
        return Err(Sick::standby("the address that tenants use"));
    }
    Ok(in_recovery.is_none().then(|| hands::finding(sql::not_admitted(&visitor.role, dsn.database()))))
}

/// Fenced like everything that writes.
async fn let_in(core: &Core, holder: &impl Holder, server: &ServerRow) -> Result<Visitor, Failure> {
    let admin = hands::admin(core, holder, server, None).await?;
    let visitor = visitor::ensure(core, &admin, &server.id).await?;
    // Somebody who began to remove the server after this look did may have passed the place where it goes.
    if store::is_leaving(&core.store, &server.id).await? {
        admin.drop_roles(&[&visitor.role]).await.map_err(hands::failure)?;
        return Err(Failure::permanent("server_leaving", format!("server {} is being removed", server.id)));
    }
    Ok(visitor)
}

/// Whether that is proven; an error where it is proven that it is another.
fn is_the_same(server: &ServerRow, found: &str) -> Result<bool, Sick> {
    match server.system_identifier.as_deref() {
        Some(known) if !found.is_empty() && known != found => Err(Sick {
            code: "cluster_swapped".into(),
            message: format!(
                "another cluster answers: its system identifier is {found} instead of {known}; nothing is done there. Put the \
                 right server back at this address, or register this one under another name"
            ),
            wrong: true,
        }),
        Some(_) => Ok(!found.is_empty()),
        // It told none when it was registered, and nothing better is to be had.
        None => Ok(true),
    }
}

/// One reason of two: whoever does not get in is named, and who does.
fn together(server: &ServerRow, admin: Option<&Sick>, tenants: Option<&Sick>) -> Option<Sick> {
    let place = format!("{}:{}", server.tenant_host, server.tenant_port);
    let (told, message) = match (admin, tenants) {
        (None, None) => return None,
        (Some(admin), _) if admin.wrong => (admin, admin.message.clone()),
        (_, Some(tenants)) if tenants.wrong => {
            (tenants, format!("where tenants connect ({place}), {}", tenants.message))
        }
        (Some(admin), None) => (admin, format!("tenants get in at {place}, the admin does not: {}", admin.message)),
        // Without the admin, nobody could have made the login.
        (Some(admin), Some(_)) => (admin, admin.message.clone()),
        (None, Some(tenants)) => {
            let message = format!("the admin gets in, tenants at {place} do not: {}", tenants.message);
            return Some(Sick { code: "tenants_shut_out".into(), message, wrong: false });
        }
    };
    Some(Sick { message, ..told.clone() })
}

impl Sick {
    fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), wrong: false }
    }

    fn silent(limit: Duration) -> Self {
        Self::new("server_unreachable", format!("no answer within {} s", limit.as_secs()))
    }

    fn standby(place: &str) -> Self {
        let message = format!(
            "a standby answers at {place}: it takes no writes. Name the primary, or all hosts with target_session_attrs=read-write"
        );
        Self { code: "standby".into(), message, wrong: true }
    }

    fn sql(error: sql::SqlError) -> Self {
        // What a client says that looks for a primary among the hosts it was given.
        if error.message().contains("does not allow writes") {
            return Self::standby("its address");
        }
        Self::new(error.code(), hands::chain(&error))
    }
}

impl From<Failure> for Sick {
    fn from(failure: Failure) -> Self {
        Self::new(&failure.code, failure.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_blamed_only_for_what_the_way_does_not_explain() {
        let taken = Instant::now();
        let clock = StoreClock { seconds: 1000.0, taken, error: 0.5 };
        let (asked, told) = (taken + Duration::from_secs(10), taken + Duration::from_secs(12));
        // It said so some time between 1010 and 1012.
        assert_eq!(clock.skew(1011.0, asked, told), 0.0);
        assert_eq!(clock.skew(1012.4, asked, told), 0.0);
        assert!((clock.skew(1020.0, asked, told) - 7.5).abs() < 1e-9);
        assert!((clock.skew(1000.0, asked, told) + 9.5).abs() < 1e-9);
    }
}
