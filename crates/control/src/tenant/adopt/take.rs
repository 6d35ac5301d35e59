//! `tenant.adopt`: record → roles → close → own → probe → active. What the database was is on record before anything is
//! changed, and whatever fails on the way gives it back as it was. Its data is not touched.

use async_trait::async_trait;
use freehold_api::template::DatabaseOwner;
use freehold_drivers::server::sql::adopt::{Closing, Former, Object, Taking};
use freehold_drivers::server::sql::{self, Admin, Roles};
use freehold_durable::{Cx, Failure, Operation, OperationRow, Outcome, Resolution, steps};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::inspect::{self, Inspected};
use super::judge::{self, Asked};
use super::store;
use crate::audit::record::{Actor, Event};
use crate::plane::Core;
use crate::server::{forget, hands};
use crate::stock::declare;
use crate::stock::make;
use crate::stock::making::Making;
use crate::stock::store::{self as databases, LoginRow};
use crate::tenant::change;
use crate::tenant::store as tenants;

/// How long an ALTER waits for what somebody holds, with everybody else behind it.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);
/// Whoever is kept may go on making things as itself until it connects again; not for ever while it is looked at.
const ROUNDS: usize = 20;

steps! {
    /// What is left to do.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        /// Looked at once more, and written down as it is.
        Record { database: Uuid, asked: Asked },
        /// Its owner role, its login, its maintenance login.
        Roles { database: Uuid, asked: Asked },
        /// Nobody else comes in any more.
        Close { database: Uuid, asked: Asked },
        /// What is in it becomes the owner role's.
        Own { database: Uuid, asked: Asked },
        /// A login as the tenant would.
        Probe { database: Uuid, asked: Asked },
        /// As it was before.
        GiveBack { database: Uuid, asked: Asked },
    }
}

impl Step {
    fn parts(&self) -> (Uuid, &Asked) {
        let (Self::Record { database, asked }
        | Self::Roles { database, asked }
        | Self::Close { database, asked }
        | Self::Own { database, asked }
        | Self::Probe { database, asked }
        | Self::GiveBack { database, asked }) = self;
        (*database, asked)
    }
}

pub struct Adopt {
    pub core: Core,
}

#[async_trait]
impl Operation for Adopt {
    type Step = Step;

    fn kind(&self) -> &'static str {
        "tenant.adopt"
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let core = &self.core;
        let (database, asked) = step.parts();
        let asked = asked.clone();
        if cx.undoing && databases::find(&core.store, database).await?.is_none() {
            return Ok(Outcome::done());
        }
        let making = Making::find(core, database).await?;
        match step {
            Step::Record { .. } => {
                let former = record(core, cx, &making, &asked).await?;
                let next = Step::Roles { database, asked };
                Ok(Outcome::step(next)
                    .recording(move |tx| Box::pin(async move { Ok(store::record(tx, database, &former).await?) })))
            }
            Step::Roles { .. } => {
                let former = former(core, database).await?;
                let admin = hands::admin(core, cx, &making.server, None).await?;
                admin.join(&former.joined).await.map_err(hands::failure)?;
                cx.fault("joined")?;
                let limits = make::limits(core.plan(&making.row.plan));
                let (login, maintenance) = (&making.login.verifier, &making.maintenance.verifier);
                let roles = roles(&making);
                admin.ensure_roles(&roles, login, maintenance, &limits).await.map_err(hands::failure)?;
                admin.act_for(&roles.names()).await.map_err(hands::failure)?;
                Ok(Outcome::step(Step::Close { database, asked }))
            }
            Step::Close { .. } => {
                close(core, cx, &making, &asked).await?;
                Ok(Outcome::step(Step::Own { database, asked }))
            }
            Step::Own { .. } => {
                own(core, cx, &making, &asked).await?;
                Ok(Outcome::step(Step::Probe { database, asked }))
            }
            Step::Probe { .. } => {
                let former = former(core, database).await?;
                probe(core, &making, &making.login).await?;
                probe(core, &making, &making.maintenance).await?;
                let admin = hands::admin(core, cx, &making.server, None).await?;
                admin.leave(&former.joined).await.map_err(hands::failure)?;
                if making.template.manifest.database_owner != DatabaseOwner::Tenant {
                    admin.act_no_more_for(&roles(&making).names()).await.map_err(hands::failure)?;
                }
                Ok(activate(cx, &making, &former))
            }
            Step::GiveBack { .. } => {
                give_back(core, cx, &making).await?;
                Ok(Outcome::done()
                    .recording(move |tx| Box::pin(async move { Ok(databases::forget(tx, database).await?) })))
            }
        }
    }

    fn undo(&self, failed: &Step) -> Option<Step> {
        let (database, asked) = failed.parts();
        Some(Step::GiveBack { database, asked: asked.clone() })
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        change::record_not_made(tx, operation).await
    }

    async fn resolved(
        &self,
        tx: &mut PgConnection,
        step: &Step,
        operation: Uuid,
        resolution: Resolution,
    ) -> Result<(), sqlx::Error> {
        let (database, _) = step.parts();
        let Some(row) = databases::find(&mut *tx, database).await? else { return Ok(()) };
        let Some(tenant) = row.tenant_id else { return Ok(()) };
        match resolution {
            Resolution::Succeeded => {
                databases::made(tx, database, &row.missing).await?;
                store::forget(tx, database).await?;
                tenants::activate(tx, &tenant, &row.missing).await
            }
            Resolution::Failed | Resolution::Cancelled => {
                databases::forget(tx, database).await?;
                tenants::fail(tx, &tenant, &format!("operation {operation} was resolved by hand as undone")).await
            }
        }
    }
}

fn roles(making: &Making) -> Roles {
    make::roles(&making.row, &making.login.role, &making.maintenance.role, &making.template)
}

async fn former(core: &Core, database: Uuid) -> Result<Former, Failure> {
    let found = store::former(&core.store, database).await?;
    found.ok_or_else(|| Failure::stuck("store_incomplete", format!("what database {database} was is not in the store")))
}

/// What it is now. Refused here is only what has changed since it was looked at a moment ago.
async fn record(core: &Core, cx: &Cx, making: &Making, asked: &Asked) -> Result<Former, Failure> {
    let row = &making.row;
    let seen = inspect::inspect(core, cx, &making.server, &row.database, asked, Some(row.id)).await?;
    if let Some(first) = seen.verdict.refusals.first() {
        let all: Vec<&str> = seen.verdict.refusals.iter().map(|found| found.message.as_str()).collect();
        return Err(Failure::permanent(first.code.clone(), all.join("; ")));
    }
    let joined = if weak(&seen) { to_join(&seen, asked) } else { Vec::new() };
    Ok(Former {
        owner: seen.outside.owner.clone(),
        connect: seen.outside.connect.clone(),
        event_triggers: seen.inside.event_triggers.clone(),
        had_note: seen.inside.has_note,
        joined,
        objects: seen.wanted(asked, &row.owner).into_iter().cloned().collect(),
    })
}

fn weak(seen: &Inspected) -> bool {
    seen.roles.iter().any(|role| !role.admin_is_member)
}

/// Former owners that the admin does not act for yet.
fn to_join(seen: &Inspected, asked: &Asked) -> Vec<String> {
    let owners = seen.owners(asked);
    let not_yet = seen.roles.iter().filter(|role| !role.admin_is_member && owners.contains(&role.name));
    not_yet.map(|role| role.name.clone()).collect()
}

async fn close(core: &Core, cx: &Cx, making: &Making, asked: &Asked) -> Result<(), Failure> {
    let former = former(core, making.row.id).await?;
    let admin = hands::admin(core, cx, &making.server, None).await?;
    let named: Vec<String> =
        former.connect.iter().map(|entry| entry.grantee.clone()).filter(|name| !name.is_empty()).collect();
    let kept = store::kept_logins(&core.store, making.row.id).await?;
    let closing = Closing {
        database: &making.row.database,
        owner: &making.row.owner,
        kept: &kept,
        named: &named,
        tenant_owns_database: making.template.manifest.database_owner == DatabaseOwner::Tenant,
    };
    cx.still_mine().await?;
    admin.close_database(&closing).await.map_err(hands::failure)?;
    cx.fault("closed")?;
    if asked.end_sessions {
        admin.end_others(&making.row.database, &kept).await.map_err(hands::failure)?;
    }
    Ok(())
}

async fn own(core: &Core, cx: &Cx, making: &Making, asked: &Asked) -> Result<(), Failure> {
    let row = &making.row;
    let mut former = former(core, row.id).await?;
    let kept = store::kept_logins(&core.store, row.id).await?;
    let inside = hands::admin(core, cx, &making.server, Some(&row.database)).await?;
    inside.wait_for_locks_at_most(PATIENCE).await.map_err(hands::failure)?;
    let default_acls = inside.default_acls().await.map_err(hands::failure)?;
    let owners: Vec<String> = former.objects.iter().map(|object| object.owner.clone()).collect();
    let default_acls: Vec<_> = default_acls.into_iter().filter(|acl| owners.contains(&acl.role)).collect();
    let triggers = former.event_triggers.clone();
    let taking = Taking { owner: &row.owner, event_triggers: &triggers, default_acls: &default_acls, kept: &kept };
    for _ in 0..ROUNDS {
        let found = inside.owned_objects().await.map_err(hands::failure)?;
        let wanted = judge::wanted(&found, asked, &row.owner);
        if wanted.is_empty() {
            inside.take_defaults(&taking).await.map_err(hands::failure)?;
            cx.fault("defaults")?;
            return Ok(());
        }
        if add(&mut former, &wanted) {
            // Before it is changed: what was made since the record is given back too.
            store::record(&core.store, row.id, &former).await?;
        }
        cx.still_mine().await?;
        inside.take_objects(&wanted, &taking).await.map_err(hands::failure)?;
        cx.fault("objects")?;
    }
    let message = "somebody goes on making things in it: end the sessions of the logins that are kept, so that they come back as the tenant";
    Err(Failure::transient("still_changing", message))
}

/// False: all of it is on record already.
fn add(former: &mut Former, wanted: &[&Object]) -> bool {
    let known: std::collections::BTreeSet<(String, u32)> =
        former.objects.iter().map(|object| (object.class.clone(), object.oid)).collect();
    let new = wanted.iter().filter(|object| !known.contains(&(object.class.clone(), object.oid)));
    let before = former.objects.len();
    former.objects.extend(new.map(|object| (*object).clone()).collect::<Vec<_>>());
    former.objects.len() > before
}

/// As the tenant's applications will come in.
async fn probe(core: &Core, making: &Making, login: &LoginRow) -> Result<(), Failure> {
    let (row, server) = (&making.row, &making.server);
    let password =
        declare::open(&core.sealer, login).map_err(|error| Failure::stuck("sealed_secret_unreadable", error))?;
    let dsn = hands::dsn_for(&core.sealer, server, &row.database, &login.role, password)?;
    let port = u16::try_from(server.tenant_port).unwrap_or(5432);
    let entered = sql::assert_login(&dsn.with_host(&server.tenant_host, port), &row.database, &row.owner).await;
    entered.map_err(|error| {
        let failure = hands::failure(error);
        Failure { message: format!("log in as the tenant would: {}", failure.message), ..failure }
    })
}

fn activate(cx: &Cx, making: &Making, former: &Former) -> Outcome<Step> {
    let (database, operation) = (making.row.id, cx.operation);
    let tenant = making.row.tenant_id.clone().unwrap_or_default();
    let details = json!({"server": making.row.server_id, "database": making.row.database, "former_owner": former.owner,
        "objects": former.objects.len(),
        "event_triggers_disabled": former.event_triggers.iter().filter(|trigger| trigger.is_enabled()).count()});
    Outcome::done().recording(move |tx| {
        Box::pin(async move {
            databases::made(tx, database, &[]).await?;
            tenants::activate(tx, &tenant, &[]).await?;
            store::forget(tx, database).await?;
            let actor = Actor::operation(operation, None);
            let event = Event::done(&actor, "tenant.adopt", format!("tenant:{tenant}"));
            Ok(event.with(details).save(tx).await?)
        })
    })
}

/// Each part finds for itself what there is to give back.
async fn give_back(core: &Core, cx: &Cx, making: &Making) -> Result<(), Failure> {
    let row = &making.row;
    // Nothing was changed before it was on record.
    let Some(former) = store::former(&core.store, row.id).await? else { return Ok(()) };
    let kept = store::kept_logins(&core.store, row.id).await?;
    let admin = hands::admin(core, cx, &making.server, None).await?;
    let logins = [making.login.role.as_str(), making.maintenance.role.as_str()];
    admin.refuse_logins(&logins).await.map_err(hands::failure)?;
    if admin.database_exists(&row.database).await.map_err(hands::failure)? {
        // A weak admin may not act for them any more where this has run to its end before.
        admin.join(&former.joined).await.map_err(hands::failure)?;
        admin.act_for(&roles(making).names()).await.map_err(hands::failure)?;
        admin.reopen_database(&row.database, &former, &row.owner, &kept).await.map_err(hands::failure)?;
        cx.fault("reopened")?;
        give_back_contents(core, cx, making, &admin, &former).await?;
    }
    cx.fault("given_back")?;
    let roles = roles(making);
    forget::drop_roles(core, cx, &making.server, &admin, &roles.names()).await?;
    admin.leave(&former.joined).await.map_err(hands::failure)
}

async fn give_back_contents(
    core: &Core,
    cx: &Cx,
    making: &Making,
    home: &Admin,
    former: &Former,
) -> Result<(), Failure> {
    let row = &making.row;
    let inside = hands::enter(core, cx, &making.server, home, &row.database).await?;
    inside.wait_for_locks_at_most(PATIENCE).await.map_err(hands::failure)?;
    cx.still_mine().await?;
    inside.give_back_objects(former, &row.owner).await.map_err(hands::failure)
}
