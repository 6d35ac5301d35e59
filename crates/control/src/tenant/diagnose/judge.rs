//! What the facts about a tenant say, link by link. Pure: reads neither store nor server.

use freehold_api::diagnosis::LinkState;
use freehold_api::plan::Plan;
use freehold_drivers::server::sql::{Activity, Disk, Entered, Observed, Severity, SqlError, SqlErrorKind, Standing};
use jiff::{SignedDuration, Timestamp};

/// From this many percent of a limit on, somebody should know.
const MANY_PERCENT: i64 = 90;
const QUOTA_PERCENT: u64 = 80;
/// Locks are waited for all the time; for so long, by somebody who notices.
const LONG_WAIT: SignedDuration = SignedDuration::from_secs(5);
const LONG_TRANSACTION: SignedDuration = SignedDuration::from_mins(15);

/// One link's state, in words.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    pub state: LinkState,
    pub message: String,
    pub next: Option<String>,
}

impl Judged {
    pub fn ok(message: impl Into<String>) -> Self {
        Self { state: LinkState::Ok, message: message.into(), next: None }
    }
    pub fn notable(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { state: LinkState::Notable, message: message.into(), next: Some(next.into()) }
    }
    pub fn broken(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { state: LinkState::Broken, message: message.into(), next: Some(next.into()) }
    }
    pub fn skipped(why: &str) -> Self {
        Self { state: LinkState::Skipped, message: why.into(), next: None }
    }
}

/// Who and what it is about.
pub struct About<'a> {
    pub tenant: &'a str,
    pub server: &'a str,
    pub database: &'a str,
    pub owner: &'a str,
    pub login: &'a str,
    /// False while it is suspended or deleted.
    pub admitted: bool,
}

impl About<'_> {
    /// What puts a bent role or grant right at once.
    fn repair(&self) -> String {
        format!("freehold server check {}", self.server)
    }
}

/// The login role and the database, against how they were made.
pub fn role(about: &About<'_>, seen: &Observed, plan: &Plan) -> Judged {
    let lost = "a restore, or an adoption of what is there, brings it back; Freehold makes nothing anew here";
    let Some(database) = seen.databases.iter().find(|database| database.name == about.database) else {
        return Judged::broken(format!("there is no database {} on the server", about.database), lost);
    };
    let Some(login) = seen.roles.iter().find(|role| role.name == about.login) else {
        return Judged::broken(format!("there is no role {} on the server", about.login), lost);
    };
    if !database.allow_connections {
        let next = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", about.database);
        return Judged::broken(format!("database {} admits nobody", about.database), next);
    }
    let setting = |name: &str| {
        login.config.iter().find_map(|entry| entry.split_once('=').filter(|(key, _)| *key == name).map(|(_, is)| is))
    };
    let owned = database.owner == about.owner || database.connect.iter().any(|role| role == about.owner);
    let broken = if login.can_login != about.admitted {
        Some(match about.admitted {
            true => format!("role {} may not log in (NOLOGIN)", about.login),
            false => format!("role {} may log in although the tenant is suspended or deleted", about.login),
        })
    } else if !login.member_of.iter().any(|role| role == about.owner) {
        Some(format!("role {} is no member of its owner role {}", about.login, about.owner))
    } else if setting("role") != Some(about.owner) {
        Some(format!(
            "role {} was altered: role={} instead of {}, so that sessions do not become the owner",
            about.login,
            setting("role").unwrap_or("(none)"),
            about.owner
        ))
    } else if !owned {
        Some(format!("{} may not connect to database {}", about.owner, about.database))
    } else {
        None
    };
    if let Some(message) = broken {
        return Judged::broken(message, about.repair());
    }
    let timeout = setting("statement_timeout").unwrap_or("0").trim_end_matches("ms");
    let bent = [
        (!login.config_in.is_empty(), "it has settings of its own in this database".to_owned()),
        (database.public_connect, format!("everybody may connect to database {}", about.database)),
        (
            timeout != plan.statement_timeout_ms.to_string(),
            format!("statement_timeout is {timeout} ms; its plan says {}", plan.statement_timeout_ms),
        ),
        (
            i64::from(login.conn_limit) != i64::from(plan.connection_limit),
            format!("CONNECTION LIMIT is {}; its plan says {}", login.conn_limit, plan.connection_limit),
        ),
    ];
    match bent.into_iter().find(|(is, _)| *is) {
        Some((_, message)) => Judged::notable(format!("role {}: {message}", about.login), about.repair()),
        None => Judged::ok(format!("role {} and database {} are as they were made", about.login, about.database)),
    }
}

/// Whether another session would be let in.
pub fn connections(about: &About<'_>, standing: &Standing) -> Judged {
    let free_idle = format!(
        "freehold tenant terminate-sessions {} --idle-for 5m, or a higher connection_limit in its plan",
        about.tenant
    );
    let server = format!("freehold server show {}: raise max_connections", about.server);
    let limits = [
        (format!("role {}", about.login), standing.of_login, i64::from(standing.login_limit), &free_idle),
        (format!("database {}", about.database), standing.in_database, i64::from(standing.database_limit), &free_idle),
        (format!("server {}", about.server), standing.on_server, standing.server_max, &server),
    ];
    for (whose, used, limit, next) in &limits {
        if *limit >= 0 && used >= limit {
            return Judged::broken(
                format!("{whose} has {used} of {limit} connections open: the next is refused"),
                *next,
            );
        }
    }
    for (whose, used, limit, next) in &limits {
        if *limit > 0 && used * 100 >= limit * MANY_PERCENT {
            return Judged::notable(format!("{whose} has {used} of {limit} connections open"), *next);
        }
    }
    Judged::ok(format!(
        "{} of {} connections open by role {}, {} of {} on the server",
        standing.of_login, standing.login_limit, about.login, standing.on_server, standing.server_max
    ))
}

/// Why the stored credential was not admitted.
pub fn refused(about: &About<'_>, error: &SqlError, verifier_differs: bool) -> Judged {
    let next = match error.kind {
        SqlErrorKind::AuthFailed if error.message().contains("pg_hba") => {
            format!("let the tenants' addresses in, in pg_hba.conf of server {}", about.server)
        }
        SqlErrorKind::AuthFailed => about.repair(),
        SqlErrorKind::TooManyConnections => {
            format!("freehold tenant sessions {0}; freehold tenant terminate-sessions {0} --idle-for 5m", about.tenant)
        }
        SqlErrorKind::Privilege => about.repair(),
        SqlErrorKind::Tls => "see the link tls".into(),
        _ => format!("freehold server show {}", about.server),
    };
    let why = match (error.kind, verifier_differs) {
        (SqlErrorKind::AuthFailed, true) => "; the tenant has changed its password itself",
        _ => "",
    };
    Judged::broken(format!("role {} is not admitted: {}{why}", about.login, error.message()), next)
}

pub fn identity(about: &About<'_>, entered: &Entered) -> Judged {
    if entered.current_user == about.owner && entered.database == about.database {
        return Judged::ok(format!("it becomes {} in database {}", about.owner, about.database));
    }
    let message = format!(
        "it becomes {} in {} instead of {} in {}",
        entered.current_user, entered.database, about.owner, about.database
    );
    Judged::broken(message, about.repair())
}

pub fn writes(about: &About<'_>, entered: &Entered) -> Judged {
    if entered.in_recovery {
        let next = format!("give server {} every host of the cluster, so that sessions find the primary", about.server);
        return Judged::broken("what answers there is a standby and takes no writes", next);
    }
    if entered.read_only {
        let message = "transactions are read-only by default: somebody set default_transaction_read_only";
        return Judged::broken(message, format!("look for it in the server, database {} and its role", about.database));
    }
    Judged::ok("it takes writes")
}

/// Who waits for whom, and for how long.
pub fn locks(about: &About<'_>, sessions: &[Activity], now: Timestamp) -> Judged {
    let blocked: Vec<&Activity> = sessions.iter().filter(|session| !session.blocked_by.is_empty()).collect();
    let waited =
        |session: &Activity| session.state_since.map_or(SignedDuration::ZERO, |since| now.duration_since(since));
    let Some(longest) = blocked.iter().map(|session| waited(session)).max() else {
        return Judged::ok("nobody waits for a lock");
    };
    // Who holds without waiting: ending the others changes nothing.
    let mut roots: Vec<i32> = blocked.iter().flat_map(|session| session.blocked_by.iter().copied()).collect();
    roots.sort_unstable();
    roots.dedup();
    roots.retain(|pid| !blocked.iter().any(|session| session.pid == *pid));
    let told: Vec<String> = roots.iter().map(|pid| holder(*pid, sessions, now)).collect();
    let message = format!(
        "{} wait for locks, the longest for {}; held by {}",
        if blocked.len() == 1 { "1 session".to_owned() } else { format!("{} sessions", blocked.len()) },
        span(longest),
        if told.is_empty() { "each other".to_owned() } else { told.join(", ") }
    );
    let next = match roots.iter().find(|pid| **pid != 0) {
        Some(pid) => format!("freehold tenant terminate-sessions {} --pid {pid}", about.tenant),
        None => format!("freehold tenant sessions {}; a prepared transaction ends by ROLLBACK PREPARED", about.tenant),
    };
    match longest >= LONG_WAIT {
        true => Judged::broken(message, next),
        false => Judged::notable(message, next),
    }
}

fn holder(pid: i32, sessions: &[Activity], now: Timestamp) -> String {
    let Some(session) = sessions.iter().find(|session| session.pid == pid) else {
        return if pid == 0 { "a prepared transaction".into() } else { format!("{pid}") };
    };
    let state = session.state.as_deref().unwrap_or("in an unknown state");
    let since = session.state_since.map_or(String::new(), |since| format!(" for {}", span(now.duration_since(since))));
    format!("{pid} ({}, {state}{since})", session.user)
}

pub fn transactions(about: &About<'_>, sessions: &[Activity], standing: &Standing) -> Judged {
    if let Some(since) = standing.oldest_prepared {
        let age = span(standing.now.duration_since(since));
        let message = format!("{} prepared transactions are open, the oldest for {age}", standing.prepared);
        return Judged::notable(
            message,
            "COMMIT PREPARED or ROLLBACK PREPARED, as the tenant: pg_prepared_xacts lists them",
        );
    }
    let oldest =
        sessions.iter().filter_map(|session| Some((session.transaction_since?, session))).min_by_key(|(at, _)| *at);
    let Some((since, session)) = oldest else { return Judged::ok("no transaction is open") };
    let age = standing.now.duration_since(since);
    let message =
        format!("the oldest transaction is open for {} (session {}, {})", span(age), session.pid, session.user);
    match age >= LONG_TRANSACTION {
        true => {
            let next = format!("freehold tenant terminate-sessions {} --pid {}", about.tenant, session.pid);
            Judged::notable(format!("{message}: what it sees cannot be vacuumed"), next)
        }
        false => Judged::ok(message),
    }
}

/// The server's disk, where it is known.
pub fn disk(about: &About<'_>, size: u64, quota: Option<u64>, disk: Option<Disk>) -> Judged {
    let percent = |part: u64, of: u64| part.saturating_mul(100).checked_div(of).unwrap_or(100);
    let mut message = format!("database {} takes {}", about.database, bytes(size));
    let mut state = LinkState::Ok;
    let mut next = None;
    if let Some(quota) = quota {
        let used = percent(size, quota);
        message.push_str(&format!(", {used} % of its quota of {}", bytes(quota)));
        if used >= QUOTA_PERCENT {
            state = if used >= 100 { LinkState::Broken } else { LinkState::Notable };
            next =
                Some("a higher storage_quota in its plan, or the tenant deletes data and runs VACUUM FULL".to_owned());
        }
    }
    if let Some(disk) = disk {
        let left = percent(disk.free_bytes, disk.total_bytes);
        message.push_str(&format!("; {left} % of the server's disk is free"));
        if let Some(severity) = disk.severity().filter(|_| state != LinkState::Broken) {
            state = if severity == Severity::High { LinkState::Broken } else { LinkState::Notable };
            next = Some(format!("make room on server {}", about.server));
        }
    }
    Judged { state, message, next }
}

fn span(length: SignedDuration) -> String {
    match length.as_secs().max(0) {
        0 => format!("{} ms", length.as_millis().max(0)),
        s @ 1..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s => format!("{} h", s / 3600),
    }
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..10_000_000 => format!("{} kB", bytes / 1000),
        10_000_000..10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{} GB", bytes / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests;
