//! `server.provision`: makes a server of a pool, from nothing to taking tenants.
//!
//! secrets → ensure → ready → secure, then it is active. What cannot be made is taken back whole: service and data go, the
//! server is `failed` with the reason, and the next try goes by the same name. By another, where something else has that one,
//! or lies where its data would.

use std::time::Duration;

use async_trait::async_trait;
use freehold_api::server::{Finding, Severity};
use freehold_drivers::platform::{Phase, PlatformErrorKind};
use freehold_drivers::server::managed;
use freehold_drivers::server::sql::SqlErrorKind;
use freehold_durable::{Class, Cx, Failure, Operation, OperationRow, Outcome, Resolution, steps};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::store::ServerRow;
use super::{hands, register};
use crate::audit::record::{Actor, Event};
use crate::operation::answer::failure_of;
use crate::plane::Core;
use crate::server_pool::store::{self, ManagedRow};
use crate::server_pool::{LOOP, grow, platforms, secrets, service};
use crate::settings::Ports;

/// Between looks at a server that comes up.
const LOOK: Duration = Duration::from_millis(300);
/// Something else on the platform has the server's name, or the place of its data.
const CONFLICT: &str = "platform_conflict";

steps! {
    /// What is left to do.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        /// Password and certificate, sealed before anything exists.
        Secrets,
        /// The service, defined on its platform and on its way up; at another port than these, which others had.
        Ensure { avoid: Vec<u16> },
        /// Its admin is let in, by the way that tenants come.
        Ready,
        /// Looked at, closed to strangers, and its settings read back.
        Secure,
        /// Takes back service and data.
        Remove,
    }
}

pub struct Provision {
    pub core: Core,
}

#[async_trait]
impl Operation for Provision {
    type Step = Step;

    fn kind(&self) -> &'static str {
        "server.provision"
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let core = &self.core;
        let row = managed(core, &register::subject(cx)?).await?;
        match step {
            Step::Secrets => self.secrets(cx, row).await,
            Step::Ensure { avoid } => self.ensure(cx, row, avoid).await,
            Step::Ready => match look(core, cx, &row).await.map_err(register::for_the_caller)? {
                Seen::Ready => Ok(Outcome::step(Step::Secure)),
                Seen::Absent => Ok(Outcome::again(LOOK, Step::Ensure { avoid: Vec::new() })),
                Seen::Starting(why) => Ok(Outcome::again(LOOK, Step::Ready).waiting_for("server_starting", why)),
            },
            Step::Secure => self.secure(cx, row).await,
            Step::Remove => {
                let platform = core.platform(&row.platform)?;
                platform.remove(&row.id).await.map_err(platforms::failure)?;
                cx.fault("service_removed")?;
                cx.still_mine().await?;
                platform.purge(&row.id).await.map_err(platforms::failure)?;
                Ok(Outcome::done())
            }
        }
    }

    fn undo(&self, failed: &Step) -> Option<Step> {
        match failed {
            // Nothing is there of it; what has its name is somebody else's.
            Step::Secrets => None,
            Step::Ensure { .. } | Step::Ready | Step::Secure | Step::Remove => Some(Step::Remove),
        }
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        let id = server_of(operation);
        let (code, reason) = failure_of(operation);
        end(tx, id, &code, &reason).await?;
        told(&self.core, tx).await?;
        let actor = Actor::operation(operation.id, operation.request_id.clone());
        Event::failed(&actor, "server.provision", format!("server:{id}"), &code).save(tx).await
    }

    async fn resolved(&self, tx: &mut PgConnection, _: &Step, operation: Uuid, as_: Resolution) -> sqlx::Result<()> {
        let Some(id) = server_of_id(tx, operation).await? else { return Ok(()) };
        match as_ {
            Resolution::Succeeded => store::activate(tx, &id).await.map(drop)?,
            Resolution::Failed | Resolution::Cancelled => {
                let code = code_of(tx, operation).await?.unwrap_or_default();
                end(tx, &id, &code, "resolved by hand as undone").await?;
            }
        }
        told(&self.core, tx).await
    }
}

impl Provision {
    async fn secrets(&self, cx: &Cx, row: ManagedRow) -> Result<Outcome<Step>, Failure> {
        let core = &self.core;
        let there = core.platform(&row.platform)?.observe(&row.id).await.map_err(platforms::failure)?;
        if there.phase != Phase::Absent || there.generation > 0 {
            let detail =
                format!("something else on platform {} is called {}, or was and left its data", row.platform, row.id);
            return Err(Failure::permanent(CONFLICT, detail));
        }
        let dsn = dsn(&row, row.port)?;
        let minted = secrets::mint(core, &row, &dsn).await?;
        cx.fault("minted")?;
        Ok(Outcome::step(Step::Ensure { avoid: Vec::new() })
            .recording(move |tx| Box::pin(async move { Ok(minted.save(tx, &row.id).await?) })))
    }

    async fn ensure(&self, cx: &Cx, row: ManagedRow, mut avoid: Vec<u16>) -> Result<Outcome<Step>, Failure> {
        let core = &self.core;
        let service = service::of(core, &row)?;
        cx.still_mine().await?;
        let ensured = core.platform(&row.platform)?.ensure(&service).await;
        cx.fault("ensured")?;
        let pool = core.settings.server_pool(&row.pool);
        let ports = pool.and_then(|pool| grow::ports(&core.settings, pool)).map(|(_, ports)| ports);
        match (ensured, row.port.and_then(|port| u16::try_from(port).ok()), ports) {
            (Ok(()), _, _) => Ok(Outcome::step(Step::Ready)),
            (Err(error), Some(port), Some(ports)) if error.kind == PlatformErrorKind::PortTaken => {
                tracing::warn!(server = row.id, port, %error, "another port is taken");
                avoid.push(port);
                let server = hands::server(core, &row.id).await?;
                let (core, avoided) = (core.clone(), avoid.clone());
                Ok(Outcome::step(Step::Ensure { avoid }).recording(move |tx| {
                    Box::pin(async move { move_port(&core, tx, &row, &server, ports, &avoided).await })
                }))
            }
            (Err(error), _, _) => Err(platforms::failure(error)),
        }
    }

    async fn secure(&self, cx: &Cx, row: ManagedRow) -> Result<Outcome<Step>, Failure> {
        let core = &self.core;
        let id = row.id.clone();
        let mut facts = register::look_again(core, cx, &id).await.map_err(register::for_the_caller)?;
        cx.fault("secured")?;
        register::open_to_tenants(core, cx, &id).await.map_err(register::for_the_caller)?;
        facts.findings.extend(settings_in_force(core, cx, &row).await?);
        let (core, operation, engine) = (core.clone(), cx.operation, cx.engine());
        Ok(Outcome::done().recording(move |tx| {
            Box::pin(async move {
                register::record(tx, &id, &facts).await?;
                store::activate(tx, &id).await?;
                let actor = Actor::operation(operation, None);
                Event::done(&actor, "server.provision", format!("server:{id}")).save(&mut *tx).await?;
                engine.wake_in(tx, "stock").await?;
                Ok(told(&core, tx).await?)
            })
        }))
    }
}

/// A name that is somebody else's is not tried again.
async fn end(tx: &mut PgConnection, id: &str, code: &str, reason: &str) -> sqlx::Result<()> {
    match code == CONFLICT {
        true => store::give_up_name(tx, id, reason).await,
        false => store::fail(tx, id, reason).await.map(drop),
    }
}

/// Why it failed first, before its undo did.
async fn code_of(tx: &mut PgConnection, operation: Uuid) -> sqlx::Result<Option<String>> {
    let sql = "SELECT coalesce(failed_error, error) ->> 'code' FROM operation WHERE id = $1";
    Ok(sqlx::query_scalar(sql).bind(operation).fetch_optional(tx).await?.flatten())
}

/// Whoever waits for it looks again, and so does whoever may start another.
pub(super) async fn told(core: &Core, tx: &mut PgConnection) -> sqlx::Result<()> {
    core.fleet.forget().await;
    freehold_durable::wake_in(tx, LOOP).await?;
    freehold_durable::rouse_in(tx, "tenant.create", "Place").await
}

pub async fn managed(core: &Core, id: &str) -> Result<ManagedRow, Failure> {
    let found = store::find(&core.store, id).await?;
    found.ok_or_else(|| Failure::permanent("server_missing", format!("server {id} is no server that Freehold runs")))
}

pub enum Seen {
    Ready,
    /// Not there as a service, or stopped.
    Absent,
    Starting(String),
}

/// Whether its admin is let in, by the way that tenants come. A server whose platform has given up is a failure.
pub async fn look(core: &Core, cx: &Cx, row: &ManagedRow) -> Result<Seen, Failure> {
    let platform = core.platform(&row.platform)?;
    let observed = platform.observe(&row.id).await.map_err(platforms::failure)?;
    let reason = observed.reason.unwrap_or_default();
    match observed.phase {
        Phase::Absent | Phase::Stopped => return Ok(Seen::Absent),
        Phase::Failing => {
            let words = platform.last_words(&row.id).await.unwrap_or_default();
            let said =
                if words.is_empty() { String::new() } else { format!("; it said: {}", words.replace('\n', " | ")) };
            return Err(Failure::permanent(
                "server_failing",
                format!("server {} does not start: {reason}{said}", row.id),
            ));
        }
        Phase::Starting | Phase::Running => {}
    }
    let server = hands::server(core, &row.id).await?;
    match hands::admin(core, cx, &server, None).await {
        Ok(admin) => {
            admin.ping().await.map_err(hands::failure)?;
            Ok(Seen::Ready)
        }
        Err(failure) if may_pass(&failure, observed.phase) => {
            let what = if reason.is_empty() { failure.message } else { format!("{reason} ({})", failure.message) };
            Ok(Seen::Starting(format!("server {} is starting: {what}", row.id)))
        }
        Err(failure) => Err(failure),
    }
}

/// Whether a server that comes up may get over it: what is sealed wrongly and another cluster at its address stay; and
/// whom it refuses while its platform says that it runs, it will refuse again.
fn may_pass(failure: &Failure, phase: Phase) -> bool {
    let refused = [SqlErrorKind::AuthFailed, SqlErrorKind::Tls, SqlErrorKind::Privilege];
    match failure.class {
        Class::Transient => true,
        Class::Permanent | Class::Stuck => {
            phase == Phase::Starting && refused.iter().any(|kind| kind.code() == failure.code)
        }
        Class::Fenced => false,
    }
}

/// What it was told and does not do.
pub async fn settings_in_force(core: &Core, cx: &Cx, row: &ManagedRow) -> Result<Vec<Finding>, Failure> {
    let bad = |error: managed::BadSetting| Failure::permanent("bad_definition", error.to_string());
    let wanted = row.definition.rendered(service::log(&row.platform)).map_err(bad)?;
    let server = hands::server(core, &row.id).await?;
    let admin = hands::admin(core, cx, &server, None).await?;
    let names: Vec<&str> = wanted.settings.keys().map(String::as_str).collect();
    let in_force = admin.settings_in_force(&names).await.map_err(hands::failure)?;
    let differences = managed::differences(&wanted.settings, &in_force).into_iter().map(hands::finding);
    let notes = wanted.notes.into_iter().map(|message| Finding {
        code: "tuned_below_capacity".into(),
        severity: Severity::Low,
        message,
    });
    Ok(differences.chain(notes).collect())
}

fn dsn(row: &ManagedRow, port: Option<i32>) -> Result<freehold_drivers::server::sql::Dsn, Failure> {
    let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(5432);
    let dsn = grow::dsn(&row.tenant_host, port, row.definition.tls);
    dsn.ok_or_else(|| Failure::permanent("bad_address", format!("{:?} is no host", row.tenant_host)))
}

/// Gives it another port of the range, that no server has and nobody was found at.
async fn move_port(
    core: &Core,
    tx: &mut PgConnection,
    row: &ManagedRow,
    server: &ServerRow,
    ports: Ports,
    avoid: &[u16],
) -> Result<(), Failure> {
    store::lock(tx).await?;
    let taken = store::ports(tx, &row.platform, &row.id).await?;
    let none = || Failure::permanent("port_taken", format!("no port of {ports} is free on platform {}", row.platform));
    let port = grow::free_port(ports, &taken, avoid).ok_or_else(none)?;
    let known = hands::dsn(&core.sealer, server)?;
    let password = known.password().cloned().ok_or_else(|| Failure::permanent("bad_dsn", "it has no password"))?;
    let dsn = dsn(row, Some(i32::from(port)))?;
    let version = server.dsn_version + 1;
    let sealed = secrets::seal_dsn(&core.sealer, server.dsn_seal_id, version, &dsn.with_user(secrets::ADMIN, password));
    Ok(store::set_port(tx, &row.id, port, &dsn.public(), &sealed, version).await?)
}

pub fn server_of(operation: &OperationRow) -> &str {
    operation.subject.as_deref().and_then(|subject| subject.strip_prefix("server:")).unwrap_or_default()
}

pub async fn server_of_id(tx: &mut PgConnection, operation: Uuid) -> sqlx::Result<Option<String>> {
    let sql = "SELECT substr(subject, 8) FROM operation WHERE id = $1 AND subject LIKE 'server:%'";
    sqlx::query_scalar(sql).bind(operation).fetch_optional(tx).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_waited_for() {
        let sealed = Failure::stuck("sealed_secret_unreadable", "x");
        let swapped = Failure::stuck("cluster_swapped", "x");
        let denied = Failure::stuck(SqlErrorKind::AuthFailed.code(), "x");
        let silent = Failure::transient(SqlErrorKind::Unreachable.code(), "x");
        let both = |failure: &Failure| [Phase::Starting, Phase::Running].map(|phase| may_pass(failure, phase));
        assert_eq!(both(&silent), [true, true]);
        assert_eq!(both(&denied), [true, false], "the platform gives the admin while it starts");
        for failure in [sealed, swapped, Failure::fenced()] {
            assert_eq!(both(&failure), [false, false], "{failure}");
        }
    }
}
