//! `tenant.plan`: another plan on the same server.
//!
//! ```text
//! widen → (the tenant has the plan) → pool → narrow
//! undo:  back (it has the one before) → pool back → restore
//! ```
//!
//! The login's limit is never below what its pooler may open: it is raised before the pooler is told, and lowered after.
//! Extensions of the plan before stay, for the tenant may use them. Sessions that are open keep the defaults that they began
//! with, and a connection limit ends none.

use async_trait::async_trait;
use freehold_drivers::server::sql::Limits;
use freehold_durable::{Cx, Failure, Operation, OperationRow, Outcome, Resolution, steps};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::store;
use crate::audit::record::{Actor, Event};
use crate::plane::Core;
use crate::pooler::follow;
use crate::server::hands;
use crate::stock::making::Making;
use crate::stock::{make, store as databases};
use crate::tenant::turn::tenant_of;
use crate::tenant::{change, fence};

pub const KIND: &str = "tenant.plan";

steps! {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        /// What either plan allows; the extensions of the new one. With its record the tenant has it.
        Widen { from: String, to: String },
        /// A moment for its pooler.
        Pool { from: String, to: String },
        /// What the new plan allows, and no more.
        Narrow { from: String, to: String },
        /// Undo: what either allows; with its record the tenant has the plan before.
        Back { from: String, to: String },
        /// Undo: a moment for its pooler.
        PoolBack { from: String, to: String },
        /// Undo: what that allows, and no more.
        Restore { from: String, to: String },
    }
}

impl Step {
    fn plans(&self) -> (&str, &str) {
        match self {
            Self::Widen { from, to }
            | Self::Pool { from, to }
            | Self::Narrow { from, to }
            | Self::Back { from, to }
            | Self::PoolBack { from, to }
            | Self::Restore { from, to } => (from, to),
        }
    }
}

pub struct SetPlan {
    pub core: Core,
}

#[async_trait]
impl Operation for SetPlan {
    type Step = Step;

    fn kind(&self) -> &'static str {
        KIND
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let core = &self.core;
        let tenant = fence::tenant(cx)?;
        let gone = || Failure::permanent("wrong_state", "the tenant has no database any more");
        let row = databases::find_of_tenant(&core.store, &tenant).await?.ok_or_else(gone)?;
        let making = Making::find(core, row.id).await?;
        let database = row.id;
        Ok(match step {
            Step::Widen { from, to } => {
                core.known_plan(&to)?;
                limit(core, cx, &making, &wider(&limits(core, &from), &limits(core, &to))).await?;
                if !core.plan(&to).extensions.is_empty() {
                    let inside = hands::admin(core, cx, &making.server, Some(&row.database)).await?;
                    make::more_extensions(core, &to, &inside).await?;
                }
                let plan = to.clone();
                Outcome::step(Step::Pool { from, to })
                    .recording(move |tx| Box::pin(async move { Ok(store::set(tx, &tenant, database, &plan).await?) }))
            }
            Step::Pool { from, to } => match follow::is_served(core, database).await? {
                true => Outcome::step(Step::Narrow { from, to }),
                false => Outcome::again(follow::LOOK, Step::Pool { from, to }),
            },
            Step::Narrow { from, to } => {
                limit(core, cx, &making, &limits(core, &to)).await?;
                let actor = Actor::operation(cx.operation, None);
                Outcome::done().recording(move |tx| {
                    Box::pin(async move {
                        store::forget(tx, &tenant).await?;
                        let event = Event::done(&actor, KIND, format!("tenant:{tenant}"));
                        Ok(event.with(json!({"from": from, "to": to})).save(tx).await?)
                    })
                })
            }
            Step::Back { from, to } => {
                limit(core, cx, &making, &wider(&limits(core, &from), &limits(core, &to))).await?;
                let plan = from.clone();
                Outcome::step(Step::PoolBack { from, to })
                    .recording(move |tx| Box::pin(async move { Ok(store::set(tx, &tenant, database, &plan).await?) }))
            }
            Step::PoolBack { from, to } => match follow::is_served(core, database).await? {
                true => Outcome::step(Step::Restore { from, to }),
                false => Outcome::again(follow::LOOK, Step::PoolBack { from, to }),
            },
            Step::Restore { from, .. } => {
                limit(core, cx, &making, &limits(core, &from)).await?;
                Outcome::done()
            }
        })
    }

    fn undo(&self, failed: &Step) -> Option<Step> {
        let (from, to) = failed.plans();
        let (from, to) = (from.to_owned(), to.to_owned());
        Some(match failed {
            Step::Widen { .. } | Step::Pool { .. } | Step::Narrow { .. } | Step::Back { .. } => Step::Back { from, to },
            Step::PoolBack { .. } => Step::PoolBack { from, to },
            Step::Restore { .. } => Step::Restore { from, to },
        })
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        store::ended(tx, operation).await?;
        change::record_failure(tx, operation).await
    }

    /// Limits follow by themselves: those of the plan that is on record are kept true.
    async fn resolved(
        &self,
        tx: &mut PgConnection,
        step: &Step,
        operation: Uuid,
        resolution: Resolution,
    ) -> Result<(), sqlx::Error> {
        let Some(tenant) = tenant_of(tx, operation).await? else { return Ok(()) };
        let Some(row) = databases::find_of_tenant(&mut *tx, &tenant).await? else { return Ok(()) };
        let (from, to) = step.plans();
        match resolution {
            Resolution::Succeeded => {
                store::set(tx, &tenant, row.id, to).await?;
                store::forget(tx, &tenant).await
            }
            Resolution::Failed | Resolution::Cancelled => {
                store::set(tx, &tenant, row.id, from).await?;
                store::failed(tx, operation, "resolved", "its operation was resolved by hand as undone").await
            }
        }
    }
}

fn limits(core: &Core, plan: &str) -> Limits {
    make::limits(core.plan(plan))
}

/// The second one's defaults, with the higher limit of both.
fn wider(one: &Limits, other: &Limits) -> Limits {
    Limits { connection_limit: one.connection_limit.max(other.connection_limit), ..other.clone() }
}

/// Of every login that comes in; one that is retired already comes in no more.
async fn limit(core: &Core, cx: &Cx, making: &Making, limits: &Limits) -> Result<(), Failure> {
    let admin = hands::admin(core, cx, &making.server, None).await?;
    cx.still_mine().await?;
    let beside = making.beside.iter().filter(|login| login.refused_at.is_none());
    for login in beside.chain([&making.login]) {
        admin.apply_limits(&login.role, limits).await.map_err(hands::failure)?;
        cx.fault("limits")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// While the pooler may have either plan the server refuses nobody whom one of them lets in, and no more than that.
        #[test]
        fn limits_are_never_below_what_a_pooler_may_open(from in 1i32..10_000, to in 1i32..10_000, work_mem in any::<Option<u32>>()) {
            let of = |connection_limit, work_mem_kb| Limits { connection_limit, work_mem_kb, ..Limits::default() };
            let (before, after) = (of(from, None), of(to, work_mem));
            let between = wider(&before, &after);
            prop_assert_eq!(between.connection_limit, from.max(to));
            prop_assert_eq!(between.work_mem_kb, after.work_mem_kb);
            // Up, there is nothing left to narrow.
            prop_assert_eq!(to >= from, between == after);
        }
    }
}
