//! `tenant.import`: a database of somebody else's comes in as a new tenant's.
//!
//! ```text
//! place → make → carry → probe → (rename) → pool → active
//! undo, from anywhere:  remove
//! ```
//!
//! | step | on record with it | undone by |
//! |---|---|---|
//! | place | a slot and the names on a server, passwords sealed, what was found | – |
//! | make | – | remove: database and roles |
//! | carry | as of when it is | remove |
//! | probe | the database is the tenant's | remove |
//!
//! **Carry is one step**: all of it is read by one snapshot, which is gone with whoever held it. What fails in its middle, and
//! whoever comes after a process that was killed, begins with an empty database again.
//!
//! The source is only read. What is open there is ended with the step, or by whoever takes over.

use std::time::Duration;

use async_trait::async_trait;
use freehold_durable::{Cx, Failure, Operation, OperationRow, Outcome, Resolution, steps};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{carry, place, store};
use crate::audit::record::{Actor, Event};
use crate::plane::Core;
use crate::pooler::follow;
use crate::server::hands;
use crate::stock::make;
use crate::stock::making::Making;
use crate::stock::store as databases;
use crate::tenant::turn::tenant_of;
use crate::tenant::{change, fence, store as tenants};

pub const KIND: &str = "tenant.import";
/// Until then it is tried; what was copied so far is dropped when it is over.
pub const DEADLINE: Duration = Duration::from_secs(3 * 24 * 3600);

steps! {
    /// What is left to do.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        /// A slot on a server that it fits.
        Place,
        /// Roles.
        Make,
        /// The database, with all that is in it, compared with the source.
        Carry,
        /// A login as the tenant would.
        Probe,
        /// The names that the template's pattern gives.
        Rename,
        /// A moment for its pooler to have it as it is now.
        Pool,
        /// Undo: database and roles.
        Remove,
    }
}

pub struct Import {
    pub core: Core,
}

#[async_trait]
impl Operation for Import {
    type Step = Step;

    fn kind(&self) -> &'static str {
        KIND
    }
    fn concurrency(&self) -> usize {
        4
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let core = &self.core;
        if step == Step::Place {
            return place::run(core, cx).await;
        }
        let tenant = fence::tenant(cx)?;
        let Some(row) = databases::find_of_tenant(&core.store, &tenant).await? else {
            return match cx.undoing {
                true => Ok(Outcome::done()),
                false => Err(Failure::stuck("store_incomplete", "the tenant's database is not in the store")),
            };
        };
        let database = row.id;
        let making = Making::find(core, database).await?;
        match step {
            Step::Place => place::run(core, cx).await,
            Step::Make => {
                let admin = hands::admin(core, cx, &making.server, None).await?;
                let limits = make::limits(core.plan(&making.row.plan));
                let (login, maintenance) = (&making.login.verifier, &making.maintenance.verifier);
                let roles = carry::roles(&making);
                admin.ensure_roles(&roles, login, maintenance, &limits).await.map_err(hands::failure)?;
                Ok(Outcome::step(Step::Carry))
            }
            Step::Carry => {
                let as_of = carry::run(core, cx, &making).await?;
                Ok(Outcome::step(Step::Probe)
                    .recording(move |tx| Box::pin(async move { Ok(store::is_as_of(tx, &tenant, as_of).await?) })))
            }
            Step::Probe => {
                make::probe(core, &making).await?;
                let next = if making.is_renamed() { Step::Rename } else { Step::Pool };
                Ok(Outcome::step(next).recording(move |tx| {
                    Box::pin(async move {
                        databases::made(tx, database, &[]).await?;
                        Ok(databases::set_noted(&mut *tx, database).await?)
                    })
                }))
            }
            Step::Rename => {
                make::rename(core, cx, &making).await?;
                Ok(Outcome::step(Step::Pool))
            }
            Step::Pool => match follow::is_served(core, database).await? {
                true => activate(core, cx, tenant).await,
                false => Ok(Outcome::again(follow::LOOK, Step::Pool)),
            },
            Step::Remove => {
                make::remove(core, cx, &making).await?;
                Ok(Outcome::done()
                    .recording(move |tx| Box::pin(async move { Ok(databases::forget(tx, database).await?) })))
            }
        }
    }

    fn undo(&self, failed: &Step) -> Option<Step> {
        match failed {
            // Recorded with the step after it, or not at all.
            Step::Place => None,
            Step::Make | Step::Carry | Step::Probe | Step::Rename | Step::Pool | Step::Remove => Some(Step::Remove),
        }
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        store::forget_source(tx, operation.id).await?;
        store::forget(tx, change::tenant_of(operation)).await?;
        change::record_not_made(tx, operation).await
    }

    async fn resolved(
        &self,
        tx: &mut PgConnection,
        _step: &Step,
        operation: Uuid,
        resolution: Resolution,
    ) -> Result<(), sqlx::Error> {
        store::forget_source(tx, operation).await?;
        let Some(tenant) = tenant_of(tx, operation).await? else { return Ok(()) };
        let row = databases::find_of_tenant(&mut *tx, &tenant).await?;
        match (resolution, row) {
            (Resolution::Succeeded, Some(row)) => {
                databases::made(tx, row.id, &row.missing).await?;
                tenants::activate(tx, &tenant, &row.missing).await
            }
            (Resolution::Succeeded | Resolution::Failed | Resolution::Cancelled, row) => {
                if let Some(row) = row {
                    databases::forget(tx, row.id).await?;
                }
                store::forget(tx, &tenant).await?;
                tenants::fail(tx, &tenant, &format!("operation {operation} was resolved by hand as undone")).await
            }
        }
    }
}

async fn activate(core: &Core, cx: &Cx, tenant: String) -> Result<Outcome<Step>, Failure> {
    let operation = cx.operation;
    let came = store::came(&core.store, &tenant).await?;
    Ok(Outcome::done().recording(move |tx| {
        Box::pin(async move {
            tenants::activate(tx, &tenant, &[]).await?;
            store::forget_source(tx, operation).await?;
            let actor = Actor::operation(operation, None);
            let as_of = came.as_ref().and_then(|came| came.as_of).map(|at| at.to_jiff().to_string());
            let details = json!({"from": came.as_ref().map(|came| &came.source), "as_of": as_of});
            Ok(Event::done(&actor, KIND, format!("tenant:{tenant}")).with(details).save(tx).await?)
        })
    }))
}
