//! `tenant.create`: whatever of a new tenant's database stock did not have ready.
//!
//! no room:    place, once there is a slot for it; then as the others
//! no stock:   create → own → rename → claim → active
//! from stock: rename → limits → claim → active, each only when it is needed; with none, no operation runs at all.

use std::time::Duration;

use async_trait::async_trait;
use freehold_drivers::server::sql::Session;
use freehold_durable::{Cx, Failure, New, Operation, OperationRow, Outcome, Resolution, steps};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::turn::tenant_of as tenant_of_id;
use super::{change, place, store as tenants};
use crate::audit::record::{Actor, Event};
use crate::plane::Core;
use crate::pooler::follow;
use crate::schema::build as template_build;
use crate::server::hands;
use crate::stock::claim::Given;
use crate::stock::declare;
use crate::stock::make;
use crate::stock::making::Making;
use crate::stock::store as databases;

const TEMPLATE_POLL: Duration = Duration::from_millis(250);

steps! {
    /// What is left to do.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        /// Waits until a server has a slot for it.
        Place,
        /// Roles, and a copy of the template's database; builds that first where it is missing.
        Create { database: Uuid },
        /// The copy handed to its owner and closed to others, until a login as the tenant would has been seen to work.
        Own { database: Uuid },
        /// A stock database and its login get the names that the template's pattern gives.
        Rename { database: Uuid, other_plan: bool },
        /// The plan's limits and extensions, where stock had another plan's.
        Limits { database: Uuid },
        /// The template's claim.sql.
        Claim { database: Uuid },
        /// A moment for its pooler to have it as it is now.
        Pool { database: Uuid },
        /// Takes back whatever was made, under its old name and its new.
        Remove { database: Uuid },
    }
}

impl Step {
    /// None before it has one.
    fn database(&self) -> Option<Uuid> {
        match self {
            Self::Place => None,
            Self::Create { database }
            | Self::Own { database }
            | Self::Rename { database, .. }
            | Self::Limits { database }
            | Self::Claim { database }
            | Self::Pool { database }
            | Self::Remove { database } => Some(*database),
        }
    }
}

/// The operation that makes this tenant, beginning here.
pub fn new(core: &Core, actor: &Actor, tenant: &str, step: Step) -> New<Step> {
    New {
        deadline: Some(Duration::from_secs(core.settings.tenants.create_deadline_seconds)),
        ..change::new::<Provision>("tenant.create", tenant, step, actor)
    }
}

/// Where the operation begins; None when nothing is left to do.
pub fn first_step(given: &Given, has_claim: bool) -> Option<Step> {
    let database = given.database;
    if given.to_make {
        return Some(Step::Create { database });
    }
    if given.renamed {
        return Some(Step::Rename { database, other_plan: given.other_plan });
    }
    if given.other_plan {
        return Some(Step::Limits { database });
    }
    has_claim.then_some(Step::Claim { database })
}

pub struct Provision {
    pub core: Core,
}

#[async_trait]
impl Operation for Provision {
    type Step = Step;

    fn kind(&self) -> &'static str {
        "tenant.create"
    }
    fn concurrency(&self) -> usize {
        16
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let core = &self.core;
        let Some(database) = step.database() else { return place::run(core, cx).await };
        if cx.undoing && databases::find(&core.store, database).await?.is_none() {
            return Ok(Outcome::done());
        }
        let making = Making::find(core, database).await?;
        let has_claim = making.template.claim.is_some();
        match step {
            Step::Place => place::run(core, cx).await,
            Step::Create { .. } => {
                let Some(build) = making.build()? else {
                    self.ensure_template(cx, &making).await?;
                    return Ok(Outcome::again(TEMPLATE_POLL, Step::Create { database }));
                };
                make::create(core, cx, &making, build).await?;
                Ok(Outcome::step(Step::Own { database }))
            }
            Step::Own { .. } => {
                let build = making.built()?;
                make::own(core, cx, &making, build).await?;
                make::probe(core, &making).await?;
                let next = match (making.is_renamed(), has_claim) {
                    (true, _) => Step::Rename { database, other_plan: false },
                    (false, true) => Step::Claim { database },
                    (false, false) => Step::Pool { database },
                };
                let missing = build.missing.clone();
                Ok(Outcome::step(next).recording(move |tx| {
                    Box::pin(async move {
                        databases::made(tx, database, &missing).await?;
                        Ok(databases::set_noted(&mut *tx, database).await?)
                    })
                }))
            }
            Step::Rename { other_plan, .. } => {
                make::rename(core, cx, &making).await?;
                Ok(match (other_plan, has_claim) {
                    (true, _) => Outcome::step(Step::Limits { database }),
                    (false, true) => Outcome::step(Step::Claim { database }),
                    (false, false) => Outcome::step(Step::Pool { database }),
                })
            }
            Step::Limits { .. } => {
                let plan = core.plan(&making.row.plan);
                let admin = hands::admin(core, cx, &making.server, None).await?;
                admin.apply_limits(&making.login.role, &make::limits(plan)).await.map_err(hands::failure)?;
                cx.fault("limits")?;
                if !plan.extensions.is_empty() {
                    let inside = hands::admin(core, cx, &making.server, Some(&making.row.database)).await?;
                    make::extensions(core, &making.row.plan, &inside).await?;
                }
                Ok(Outcome::step(if has_claim { Step::Claim { database } } else { Step::Pool { database } }))
            }
            Step::Claim { .. } => {
                self.run_claim(cx, &making).await?;
                Ok(Outcome::step(Step::Pool { database }))
            }
            Step::Pool { .. } => Ok(match follow::is_served(core, database).await? {
                true => activate(cx, &making),
                false => Outcome::again(follow::LOOK, Step::Pool { database }),
            }),
            Step::Remove { .. } => {
                make::remove(core, cx, &making).await?;
                Ok(Outcome::done()
                    .recording(move |tx| Box::pin(async move { Ok(databases::forget(tx, database).await?) })))
            }
        }
    }

    fn undo(&self, failed: &Step) -> Option<Step> {
        failed.database().map(|database| Step::Remove { database })
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
        let Some(database) = step.database() else {
            let Some(tenant) = tenant_of_id(tx, operation).await? else { return Ok(()) };
            return tenants::fail(
                tx,
                &tenant,
                &format!("operation {operation} was resolved by hand, without a database"),
            )
            .await;
        };
        let Some(row) = databases::find(&mut *tx, database).await? else { return Ok(()) };
        let Some(tenant) = row.tenant_id else { return Ok(()) };
        match resolution {
            Resolution::Succeeded => {
                databases::made(tx, database, &row.missing).await?;
                tenants::activate(tx, &tenant, &row.missing).await
            }
            Resolution::Failed | Resolution::Cancelled => {
                databases::forget(tx, database).await?;
                tenants::fail(tx, &tenant, &format!("operation {operation} was resolved by hand as undone")).await
            }
        }
    }
}

fn activate(cx: &Cx, making: &Making) -> Outcome<Step> {
    activated(cx, making.row.tenant_id.clone().unwrap_or_default(), making.row.missing.clone())
}

pub(super) fn activated(cx: &Cx, tenant: String, missing: Vec<String>) -> Outcome<Step> {
    let operation = cx.operation;
    Outcome::done().recording(move |tx| {
        Box::pin(async move {
            tenants::activate(tx, &tenant, &missing).await?;
            let actor = Actor::operation(operation, None);
            Ok(Event::done(&actor, "tenant.create", format!("tenant:{tenant}")).save(tx).await?)
        })
    })
}

impl Provision {
    async fn ensure_template(&self, cx: &Cx, making: &Making) -> Result<(), Failure> {
        let engine = cx.engine();
        let mut tx = self.core.store.begin().await?;
        let started = template_build::start(&engine, &mut tx, &making.row.server_id, &making.template).await?;
        tx.commit().await?;
        if let Some(started) = started {
            engine.go(started);
        }
        Ok(())
    }

    /// Through the maintenance login, with what only the claim knows as settings that were bound, not pasted.
    async fn run_claim(&self, cx: &Cx, making: &Making) -> Result<(), Failure> {
        let core = &self.core;
        let Some(sql) = &making.template.claim else { return Ok(()) };
        let tenant = tenants::find(&core.store, making.row.tenant_id.as_deref().unwrap_or_default()).await?;
        let tenant = tenant.ok_or_else(|| Failure::permanent("tenant_missing", "the tenant is not in the store"))?;
        // Held while the script runs: opening it ended whoever ran the script before (rule 8).
        let _fence = hands::admin(core, cx, &making.server, None).await?;
        let password = declare::open(&core.sealer, &making.maintenance)
            .map_err(|error| Failure::stuck("sealed_secret_unreadable", error))?;
        let dsn =
            hands::dsn_for(&core.sealer, &making.server, &making.row.database, &making.maintenance.role, password)?;
        let mut settings = vec![
            ("freehold.tenant_id".to_owned(), tenant.id.clone()),
            ("freehold.tenant_name".into(), tenant.name.clone()),
            ("freehold.tenant_plan".into(), tenant.plan.clone()),
            ("freehold.tenant_region".into(), tenant.region.clone().unwrap_or_default()),
            ("freehold.database".into(), making.row.database.clone()),
            ("freehold.template_version".into(), making.row.template_version.clone()),
            ("freehold.created_at".into(), tenant.created_at.to_jiff().to_string()),
        ];
        let plain = |key: &str| key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        settings.extend(
            tenant
                .labels
                .iter()
                .filter(|(key, _)| plain(key))
                .map(|(key, value)| (format!("freehold.label_{key}"), value.clone())),
        );
        let settings: Vec<(&str, &str)> =
            settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let session = Session::connect(&dsn, None, &cx.application_name(), &settings).await.map_err(hands::failure)?;
        cx.still_mine().await?;
        cx.fault("entered")?;
        session.execute_script(sql).await.map_err(|error| {
            let failure = hands::failure(error);
            Failure { message: format!("claim.sql: {}", failure.message), ..failure }
        })
    }
}
