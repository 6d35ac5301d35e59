//! Opens connections to servers, for operations and loops only.
//!
//! Every connection carries the name of what opened it and its epoch; a successor ends those of lower epochs before it
//! acts, and each connection reads the epoch again before it is used (rule 8 of the design).

use freehold_api::server::{Finding, Severity};
use freehold_drivers::secrets::{Context, Password, Sealer};
use freehold_drivers::server::sql::{self, Admin, Dsn, SqlError};
use freehold_durable::{Cx, Failure, LoopCx};
use uuid::Uuid;

use super::store::{self, ServerRow};
use crate::audit::record::Actor;
use crate::plane::Core;

/// Who opens a connection: an operation or a loop, under an epoch that may have moved on.
pub trait Holder: Sync {
    fn application_name(&self) -> String;
    fn epoch(&self) -> i64;
    fn still_mine(&self) -> impl Future<Output = Result<(), Failure>> + Send;
    /// The operation itself and what it works on.
    fn of_operation(&self) -> Option<(Uuid, &str)>;
    /// Who the audit says it was.
    fn actor(&self) -> Actor;
}

impl Holder for Cx {
    fn application_name(&self) -> String {
        Cx::application_name(self)
    }
    fn epoch(&self) -> i64 {
        self.epoch
    }
    async fn still_mine(&self) -> Result<(), Failure> {
        Cx::still_mine(self).await
    }
    fn of_operation(&self) -> Option<(Uuid, &str)> {
        Some((self.operation, self.subject.as_deref()?))
    }
    fn actor(&self) -> Actor {
        Actor::operation(self.operation, None)
    }
}

impl Holder for LoopCx {
    fn application_name(&self) -> String {
        LoopCx::application_name(self)
    }
    fn epoch(&self) -> i64 {
        self.epoch
    }
    async fn still_mine(&self) -> Result<(), Failure> {
        LoopCx::still_mine(self).await
    }
    fn of_operation(&self) -> Option<(Uuid, &str)> {
        None
    }
    fn actor(&self) -> Actor {
        Actor::of_loop(self.name)
    }
}

/// The server, or a failure that waits for it to come back.
pub async fn server(core: &Core, id: &str) -> Result<ServerRow, Failure> {
    let found = store::find(&core.store, id).await?;
    found.ok_or_else(|| Failure::stuck("server_missing", format!("server {id} is not in the store any more")))
}

/// An admin session on the server's maintenance database, or on the one named.
pub async fn admin(
    core: &Core,
    holder: &impl Holder,
    server: &ServerRow,
    database: Option<&str>,
) -> Result<Admin, Failure> {
    let Some(database) = database else { return open(core, holder, server, None, Triggers::Run).await };
    // Before 17 there are no triggers on login: a session in another database to look for one would be for nothing.
    if server.version_num.is_some_and(|version| version < 170_000) {
        return open(core, holder, server, Some(database), Triggers::Run).await;
    }
    // The row may be old. Where it promises too much the server refuses the session; where it says less, the server is
    // asked.
    if promises_to_pass(server) {
        return open(core, holder, server, Some(database), Triggers::Pass).await;
    }
    let home = open(core, holder, server, None, Triggers::Run).await?;
    enter(core, holder, server, &home, database).await
}

/// On the maintenance database, for work that sets nothing in its session: one that somebody was done with a moment ago,
/// else a new one. Whoever has come to the end of it gives it to [`leave`].
pub async fn come(core: &Core, holder: &impl Holder, server: &ServerRow) -> Result<Admin, Failure> {
    while let Some(known) = core.idle_sessions.take(server) {
        // It may have been ended meanwhile.
        if known.go_by(&holder.application_name()).await.is_ok() {
            enlist(core, holder, server, &known).await?;
            return Ok(known);
        }
    }
    admin(core, holder, server, None).await
}

/// Of one that came by [`come`], and in which nothing failed.
pub fn leave(core: &Core, server: &ServerRow, admin: Admin) {
    core.idle_sessions.keep(server, admin);
}

/// An admin session on a database that Freehold has just made, and that nobody was in: there is nothing to look for first.
pub async fn admin_of_new(
    core: &Core,
    holder: &impl Holder,
    server: &ServerRow,
    database: &str,
) -> Result<Admin, Failure> {
    let triggers = if promises_to_pass(server) { Triggers::Pass } else { Triggers::Run };
    open(core, holder, server, Some(database), triggers).await
}

fn promises_to_pass(server: &ServerRow) -> bool {
    server.superuser == Some(true) && server.version_num >= Some(170_000)
}

/// An admin session on a database of the server that `home` is on. Whoever owns what an event trigger calls would have
/// the admin call it: past them, and where this admin cannot pass them, not into a database that has one on login.
pub async fn enter(
    core: &Core,
    holder: &impl Holder,
    server: &ServerRow,
    home: &Admin,
    database: &str,
) -> Result<Admin, Failure> {
    if home.passes_event_triggers() {
        return open(core, holder, server, Some(database), Triggers::Pass).await;
    }
    if home.has_login_trigger(database).await.map_err(failure)? {
        let message = format!(
            "database {database} on server {} has an event trigger on login, which would run as {}: drop it first",
            server.id,
            home.user()
        );
        return Err(Failure::stuck("login_trigger", message));
    }
    open(core, holder, server, Some(database), Triggers::Run).await
}

#[derive(Clone, Copy)]
enum Triggers {
    Run,
    Pass,
}

async fn open(
    core: &Core,
    holder: &impl Holder,
    server: &ServerRow,
    database: Option<&str>,
    triggers: Triggers,
) -> Result<Admin, Failure> {
    let dsn = dsn(&core.sealer, server)?;
    let name = holder.application_name();
    let admin = match triggers {
        Triggers::Pass => Admin::connect_past_event_triggers(&dsn, database, &name).await,
        Triggers::Run => Admin::connect(&dsn, database, &name).await,
    };
    let admin = admin.map_err(failure)?;
    // Before anything is done there, be it to one's own sessions.
    require_same(server, &admin).await?;
    enlist(core, holder, server, &admin).await?;
    Ok(admin)
}

/// It goes by the holder's name: whoever had the work before is ended, and the epoch read again.
async fn enlist(core: &Core, holder: &impl Holder, server: &ServerRow, admin: &Admin) -> Result<(), Failure> {
    let name = holder.application_name();
    if holder.epoch() > 1
        && let Some((prefix, _)) = name.rsplit_once(':')
    {
        let is_loop = holder.of_operation().is_none();
        if !is_loop || !core.fenced.has(server, prefix, holder.epoch()) {
            admin.fence_lower_epochs(&format!("{prefix}:"), holder.epoch()).await.map_err(failure)?;
        }
        if is_loop {
            core.fenced.remember(server, prefix, holder.epoch());
        }
    }
    fence_ended(core, holder, admin).await?;
    holder.still_mine().await
}

/// For whoever only reads, with so much time for each statement: nothing is fenced, and nobody is asked whose turn it is.
pub async fn reader(
    core: &Core,
    holder: &impl Holder,
    server: &ServerRow,
    statement: std::time::Duration,
) -> Result<Admin, Failure> {
    let timeouts = sql::Timeouts { lock: statement, statement };
    let dsn = dsn(&core.sealer, server)?;
    let admin = Admin::connect_with(&dsn, None, &holder.application_name(), timeouts).await.map_err(failure)?;
    require_same(server, &admin).await?;
    Ok(admin)
}

async fn require_same(server: &ServerRow, admin: &Admin) -> Result<(), Failure> {
    let found = admin.system_identifier().await.map_err(failure)?;
    match server.system_identifier.as_deref() {
        Some(known) if !found.is_empty() && known != found => {
            let detail = format!(
                "another cluster answers at the address of server {}: its system identifier is {found} instead of {known}; \
                 nothing is done there",
                server.id
            );
            Err(Failure::stuck("cluster_swapped", detail))
        }
        _ => Ok(()),
    }
}

/// Operations on the same thing that were cancelled or resolved while somebody held them: he may be asleep with a
/// connection open, and would act on what is this operation's now.
async fn fence_ended(core: &Core, holder: &impl Holder, admin: &Admin) -> Result<(), Failure> {
    let Some((operation, subject)) = holder.of_operation() else { return Ok(()) };
    let sql = "SELECT id FROM operation WHERE subject = $1 AND id <> $2 AND epoch > 1 AND finished_at > now() - interval '1 day'";
    let ended: Vec<Uuid> = sqlx::query_scalar(sql).bind(subject).bind(operation).fetch_all(&core.store).await?;
    for id in ended {
        admin.fence_lower_epochs(&format!("fh:{id}:"), i64::MAX).await.map_err(failure)?;
    }
    Ok(())
}

/// The admin's connection string, opened.
pub fn dsn(sealer: &Sealer, server: &ServerRow) -> Result<Dsn, Failure> {
    let opened = sealer.open_password(&dsn_context(server.dsn_seal_id, server.dsn_version), &server.dsn_sealed);
    let opened = opened.map_err(|error| {
        Failure::stuck("sealed_secret_unreadable", format!("connection string of server {}: {error}", server.id))
    })?;
    let dsn = Dsn::parse(opened.expose())
        .map_err(|error| Failure::stuck("bad_dsn", format!("server {}: {error}", server.id)))?;
    Ok(match &server.ca_certificate {
        Some(pem) => dsn.with_ca_pem(pem.as_bytes()),
        None => dsn,
    })
}

/// The same server for one of its logins.
pub fn dsn_for(
    sealer: &Sealer,
    server: &ServerRow,
    database: &str,
    role: &str,
    password: Password,
) -> Result<Dsn, Failure> {
    Ok(dsn(sealer, server)?.with_database(database).with_user(role, password))
}

pub fn dsn_context(id: Uuid, version: i32) -> Context {
    Context { id, field: "dsn", version: u32::try_from(version).unwrap_or(0) }
}

/// What an error of a server means to an operation: try again, ask a person, or give up.
pub fn failure(error: SqlError) -> Failure {
    let message = chain(&error);
    if error.is_for_a_person() {
        Failure::stuck(error.code(), message)
    } else if error.is_transient() || error.kind == sql::SqlErrorKind::DiskFull {
        Failure::transient(error.code(), message)
    } else {
        Failure::permanent(error.code(), message)
    }
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

pub fn finding(found: sql::Finding) -> Finding {
    let severity = match found.severity {
        sql::Severity::Low => Severity::Low,
        sql::Severity::Medium => Severity::Medium,
        sql::Severity::High => Severity::High,
    };
    Finding { code: found.code.to_string(), severity, message: found.message }
}
