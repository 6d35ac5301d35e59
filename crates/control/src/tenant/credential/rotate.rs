//! `tenant.rotate`: another credential for a tenant. Nothing old goes until the new is proven.
//!
//! ```text
//! beside the old one: plan → add → pool → prove → hand out; the old one goes when its grace is over (`retire.rs`)
//! immediately:        [refuse → disown → drop →] plan → … → hand out → refuse → disown → drop
//! in its place:       plan → change → prove → hand out → settle
//! ```
//!
//! Until it is handed out, undoing leaves nothing behind; from then on nothing is undone. In its place there is no overlap:
//! the old password is refused as soon as it is changed.

use std::time::Duration;

use async_trait::async_trait;
use freehold_api::template::Rotate as Naming;
use freehold_api::tenant::TenantState;
use freehold_drivers::server::sql::{self, Admin};
use freehold_durable::{Cx, Failure, New, Operation, OperationRow, Outcome, Resolution, steps};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::name::{self, Name};
use super::retire::{Retiring, is_foreign};
use super::store::{self, Planned};
use crate::audit::record::{Actor, Event};
use crate::http::problem::constraint;
use crate::plane::Core;
use crate::pooler::follow;
use crate::server::{forget, hands};
use crate::stock::declare::{self, NEXT, REPLACEMENT};
use crate::stock::make;
use crate::stock::making::Making;
use crate::stock::store::{self as databases, LoginRow};
use crate::tenant::turn::tenant_of;
use crate::tenant::{change, fence, store as tenants};

pub const KIND: &str = "tenant.rotate";
/// It takes a second. A tenant that holds things locked does not keep its other verbs waiting for ever.
const DEADLINE: Duration = Duration::from_secs(600);

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct How {
    /// In seconds. 0: the old one goes at once.
    pub grace: u64,
    /// In its place, under its name.
    #[serde(default)]
    pub replaces: bool,
    /// Whose request it was, and which of his.
    #[serde(default)]
    pub key: Option<Uuid>,
    #[serde(default)]
    pub once: Option<String>,
}

steps! {
    /// What is left to do.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        /// The login of before comes in no more. `then`: a rotation begins with that, else it ends with it.
        Refuse { #[serde(default)] then: Option<How> },
        /// What it made becomes the owner's.
        Disown { #[serde(default)] then: Option<How> },
        /// The role, then its row.
        Drop { #[serde(default)] then: Option<How> },
        /// Name and sealed password are on record before anything of it exists.
        Plan { how: How },
        /// The role, with the rights and limits of the first.
        Add { how: How },
        /// A moment for the pooler to serve both.
        Pool { how: How },
        /// The login gets the other password.
        Change { how: How },
        /// A login as the tenant would.
        Prove { how: How },
        /// From now on it is the tenant's.
        HandOut { how: How },
        /// A moment for the pooler to have the other password.
        Settle { how: How },
        /// Takes back what was not handed out.
        Remove,
    }
}

impl Step {
    /// A rotation that is immediate ends what is still in force of the one before it first.
    pub fn first(how: How, has_retiring: bool) -> Self {
        match has_retiring {
            true => Self::Refuse { then: Some(how) },
            false => Self::Plan { how },
        }
    }
}

pub fn new(actor: &Actor, tenant: &str, first: Step) -> New<Step> {
    New { deadline: Some(DEADLINE), ..change::new::<Rotate>(KIND, tenant, first, actor) }
}

/// Whether the password is changed in its place, as the template's current version says.
pub async fn replaces(core: &Core, template: &str) -> sqlx::Result<bool> {
    let template = core.catalog.find(&core.store, template).await?;
    Ok(template.is_some_and(|template| template.manifest.naming.rotate == Naming::Replace))
}

pub struct Rotate {
    pub core: Core,
}

#[async_trait]
impl Operation for Rotate {
    type Step = Step;

    fn kind(&self) -> &'static str {
        KIND
    }
    fn concurrency(&self) -> usize {
        8
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let core = &self.core;
        match step {
            Step::Refuse { then } => {
                if let Some(retiring) = Retiring::find(core, cx).await? {
                    retiring.refuse(core, cx).await?;
                }
                Ok(Outcome::step(Step::Disown { then }))
            }
            Step::Disown { then } => {
                if let Some(retiring) = Retiring::find(core, cx).await?
                    && !retiring.disown(core, cx).await?
                {
                    return Ok(Outcome::again(follow::LOOK, Step::Disown { then }));
                }
                Ok(Outcome::step(Step::Drop { then }))
            }
            Step::Drop { then } => {
                let next = match then {
                    Some(how) => Outcome::step(Step::Plan { how }),
                    None => Outcome::done(),
                };
                let Some(retiring) = Retiring::find(core, cx).await? else { return Ok(next) };
                let gone = retiring.drop_role(core, cx).await?;
                Ok(next.recording(move |tx| Box::pin(async move { Ok(gone.record(tx).await?) })))
            }
            Step::Remove => {
                if let Some(turning) = Turning::find(core, cx).await? {
                    turning.take_back(core, cx).await?;
                }
                let tenant = fence::tenant(cx)?;
                Ok(Outcome::done()
                    .recording(move |tx| Box::pin(async move { Ok(store::forget_next(tx, &tenant).await?) })))
            }
            Step::Plan { how } => {
                let turning = Turning::find(core, cx).await?.ok_or_else(no_database)?;
                turning.plan(core, how).await
            }
            Step::Add { how } => {
                let turning = Turning::find(core, cx).await?.ok_or_else(no_database)?;
                turning.add(core, cx).await?;
                Ok(Outcome::step(Step::Pool { how }))
            }
            Step::Pool { how } => {
                let turning = Turning::find(core, cx).await?.ok_or_else(no_database)?;
                Ok(match follow::knows(core, turning.making.row.id, NEXT).await? {
                    true => Outcome::step(Step::Prove { how }),
                    false => Outcome::again(follow::LOOK, Step::Pool { how }),
                })
            }
            Step::Change { how } => {
                let turning = Turning::find(core, cx).await?.ok_or_else(no_database)?;
                let next = turning.next()?;
                let admin = hands::admin(core, cx, &turning.making.server, None).await?;
                admin.set_verifier(&turning.making.login.role, &next.verifier).await.map_err(hands::failure)?;
                Ok(Outcome::step(Step::Prove { how }))
            }
            Step::Prove { how } => {
                let turning = Turning::find(core, cx).await?.ok_or_else(no_database)?;
                turning.prove(core, cx).await?;
                Ok(Outcome::step(Step::HandOut { how }))
            }
            Step::HandOut { how } => {
                let (actor, tenant) = (Actor::operation(cx.operation, None), fence::tenant(cx)?);
                let next = match (how.replaces, how.grace) {
                    (true, _) => Outcome::step(Step::Settle { how: how.clone() }),
                    (false, 0) => Outcome::step(Step::Refuse { then: None }),
                    (false, _) => Outcome::done(),
                };
                Ok(next.recording(move |tx| {
                    Box::pin(async move {
                        match how.replaces {
                            true => store::replace(tx, &tenant).await?,
                            false => store::hand_out(tx, &tenant, how.grace).await?,
                        }
                        let event = Event::done(&actor, KIND, format!("tenant:{tenant}"));
                        let event = event.with(json!({"grace_seconds": how.grace, "in_place": how.replaces}));
                        Ok(event.save(tx).await?)
                    })
                }))
            }
            Step::Settle { how } => {
                let turning = Turning::find(core, cx).await?.ok_or_else(no_database)?;
                if !follow::is_served(core, turning.making.row.id).await? {
                    return Ok(Outcome::again(follow::LOOK, Step::Settle { how }));
                }
                if how.grace == 0 {
                    let admin = hands::admin(core, cx, &turning.making.server, None).await?;
                    admin.terminate_sessions(&[&turning.making.login.role]).await.map_err(hands::failure)?;
                }
                Ok(Outcome::done())
            }
        }
    }

    fn undo(&self, failed: &Step) -> Option<Step> {
        match failed {
            Step::Plan { .. }
            | Step::Add { .. }
            | Step::Pool { .. }
            | Step::Change { .. }
            | Step::Prove { .. }
            | Step::HandOut { .. }
            | Step::Remove => Some(Step::Remove),
            // Before anything was made, or after it was handed out; the loop goes on with what is retiring.
            Step::Refuse { .. } | Step::Disown { .. } | Step::Drop { .. } | Step::Settle { .. } => None,
        }
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        change::record_failure(tx, operation).await
    }

    async fn resolved(
        &self,
        tx: &mut PgConnection,
        step: &Step,
        operation: Uuid,
        resolution: Resolution,
    ) -> Result<(), sqlx::Error> {
        let Some(tenant) = tenant_of(tx, operation).await? else { return Ok(()) };
        match (resolution, step) {
            (Resolution::Succeeded, Step::Prove { how } | Step::HandOut { how }) if how.replaces => {
                store::replace(tx, &tenant).await
            }
            (Resolution::Succeeded, Step::Prove { how } | Step::HandOut { how }) => {
                store::hand_out(tx, &tenant, how.grace).await
            }
            (Resolution::Succeeded, Step::Drop { .. }) => store::forget_retired(tx, &tenant).await,
            _ => store::forget_next(tx, &tenant).await,
        }
    }
}

fn no_database() -> Failure {
    Failure::permanent("wrong_state", "the tenant has no database any more")
}

/// A tenant in the middle of a rotation.
struct Turning {
    making: Making,
    /// Whether its logins are admitted; those of a suspended tenant are refused, the new one too.
    admitted: bool,
}

impl Turning {
    async fn find(core: &Core, cx: &Cx) -> Result<Option<Self>, Failure> {
        let tenant = fence::tenant(cx)?;
        let Some(row) = databases::find_of_tenant(&core.store, &tenant).await? else { return Ok(None) };
        let Some(found) = tenants::find(&core.store, &tenant).await? else { return Ok(None) };
        let admitted = match found.state() {
            TenantState::Active => true,
            TenantState::Creating | TenantState::Failed | TenantState::Suspended | TenantState::Deleted => false,
        };
        Ok(Making::look(core, row.id).await?.map(|making| Self { making, admitted }))
    }

    fn planned(&self) -> Option<&LoginRow> {
        self.making.beside.iter().find(|login| login.purpose == NEXT || login.purpose == REPLACEMENT)
    }

    fn next(&self) -> Result<&LoginRow, Failure> {
        let missing = || Failure::stuck("store_incomplete", "the login that was planned is not in the store");
        self.planned().ok_or_else(missing)
    }

    /// What the role is called on the server.
    fn role<'a>(&'a self, next: &'a LoginRow) -> &'a str {
        if next.purpose == REPLACEMENT { &self.making.login.role } else { &next.role }
    }

    async fn plan(&self, core: &Core, how: How) -> Result<Outcome<Step>, Failure> {
        let after = |how: How| if how.replaces { Step::Change { how } } else { Step::Add { how } };
        if self.planned().is_some() {
            return Ok(Outcome::step(after(how)));
        }
        let Making { row, login, template, .. } = &self.making;
        let name = match how.replaces {
            true => Name { role: name::placeholder(&row.owner), second_of: None },
            false => name::next(&login.role, login.second_of.as_deref(), &row.owner)
                .map_err(|long| Failure::permanent("name_too_long", long.to_string()))?,
        };
        if store::is_taken(&core.store, row.id, &name.role).await? {
            return Err(taken(&name.role));
        }
        let minted = declare::mint_one(core, template.manifest.password.length).await;
        let (database, server) = (row.id, row.server_id.clone());
        let purpose = if how.replaces { REPLACEMENT } else { NEXT };
        Ok(Outcome::step(after(how.clone())).recording(move |tx| {
            Box::pin(async move {
                let planned = Planned {
                    database,
                    server: &server,
                    purpose,
                    role: &name.role,
                    second_of: name.second_of.as_deref(),
                    minted,
                    by: how.key,
                    once: how.once.as_deref(),
                };
                store::plan(tx, &planned).await.map_err(|error| match constraint(&error) {
                    Some("login_server_id_role_key") => taken(&name.role),
                    _ => error.into(),
                })
            })
        }))
    }

    async fn add(&self, core: &Core, cx: &Cx) -> Result<(), Failure> {
        let Making { row, server, template, maintenance, .. } = &self.making;
        let next = self.next()?;
        let admin = hands::admin(core, cx, server, None).await?;
        if is_foreign(&admin, &next.role, &row.owner).await? {
            return Err(taken(&next.role));
        }
        cx.fault("name_free")?;
        let roles = make::roles(row, &next.role, &maintenance.role, template);
        let limits = make::limits(core.plan(&row.plan));
        cx.still_mine().await?;
        let added = admin.ensure_second_login(&roles, &next.verifier, &limits, self.admitted).await;
        added.map_err(hands::failure).map(drop)
    }

    /// Logs in as the tenant will, where it will. Of a suspended one nobody may: its role is looked at.
    async fn prove(&self, core: &Core, cx: &Cx) -> Result<(), Failure> {
        let Making { row, server, .. } = &self.making;
        let next = self.next()?;
        let role = self.role(next);
        if !self.admitted {
            let admin = hands::admin(core, cx, server, None).await?;
            return look(&admin, role, &row.owner, &next.verifier).await;
        }
        let password =
            declare::open(&core.sealer, next).map_err(|error| Failure::stuck("sealed_secret_unreadable", error))?;
        let dsn = hands::dsn_for(&core.sealer, server, &row.database, role, password)?;
        let dsn = dsn.with_host(&server.tenant_host, u16::try_from(server.tenant_port).unwrap_or(5432));
        sql::assert_login(&dsn, &row.database, &row.owner).await.map_err(|error| {
            let failure = hands::failure(error);
            Failure { message: format!("log in with the new credential: {}", failure.message), ..failure }
        })
    }

    async fn take_back(&self, core: &Core, cx: &Cx) -> Result<(), Failure> {
        let Some(next) = self.planned() else { return Ok(()) };
        let Making { row, server, login, .. } = &self.making;
        let admin = hands::admin(core, cx, server, None).await?;
        if next.purpose == REPLACEMENT {
            return admin.set_verifier(&login.role, &login.verifier).await.map_err(hands::failure);
        }
        if is_foreign(&admin, &next.role, &row.owner).await? {
            return Ok(());
        }
        admin.refuse_logins(&[&next.role]).await.map_err(hands::failure)?;
        cx.fault("refused")?;
        forget::drop_roles(core, cx, server, &admin, &[&next.role]).await
    }
}

async fn look(admin: &Admin, role: &str, owner: &str, verifier: &str) -> Result<(), Failure> {
    let seen = admin.observe(&[role], &[]).await.map_err(hands::failure)?;
    let as_meant = seen.roles.iter().any(|found| {
        found.member_of.iter().any(|of| of == owner)
            && found.config.iter().any(|set| *set == format!("role={owner}"))
            && found.verifier.as_deref().is_none_or(|is| is == verifier)
    });
    match as_meant {
        true => Ok(()),
        false => Err(Failure::permanent("not_proven", format!("role {role} is not as it was made"))),
    }
}

fn taken(role: &str) -> Failure {
    let message = format!("the next login would be called {role:?}, which somebody else has on its server or pooler");
    Failure::permanent("name_taken", message)
}
