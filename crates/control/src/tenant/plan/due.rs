//! The plans loop: begins each change of plan whose time has come. It takes no input and keeps nothing: what is due is in the
//! store, and what cannot be begun says there why, and when it is tried again.

use std::time::Duration;

use async_trait::async_trait;
use freehold_api::plan::Plan;
use freehold_api::plan_change::PlanStep;
use freehold_durable::{Failure, Loop, LoopCx};
use serde_json::json;

use super::{begin, judge, store};
use crate::audit::record::{Actor, Event};
use crate::http::problem::Refused;
use crate::plane::Core;
use crate::tenant::store as tenants;

/// Somebody else is at work on the tenant.
const BUSY: f64 = 10.0;

pub struct ChangeDue {
    pub core: Core,
}

#[async_trait]
impl Loop for ChangeDue {
    fn name(&self) -> &'static str {
        "plans"
    }
    fn period(&self) -> Duration {
        Duration::from_secs(15)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        let actor = Actor::of_loop(self.name());
        for tenant in store::due(&self.core.store).await? {
            cx.still_mine().await?;
            self.change(cx, &tenant, &actor).await?;
        }
        Ok(())
    }
}

impl ChangeDue {
    async fn change(&self, cx: &LoopCx, tenant: &str, actor: &Actor) -> Result<(), Failure> {
        let core = &self.core;
        // Judged before the transaction, which must not wait for other connections to the store.
        let Some(seen) = tenants::find(&core.store, tenant).await? else { return Ok(()) };
        let mut tx = core.store.begin().await?;
        let Some(change) = store::find_due(&mut tx, tenant).await? else { return Ok(()) };
        drop(tx);
        let judged = match core.settings.plan(&change.plan) {
            Some(plan) if change.plan == seen.plan => Err(Seen::Void(format!("it has plan {} already", plan.name))),
            Some(plan) if step_from(core, &seen.plan, plan) != change.step => Err(Seen::Void(format!(
                "from plan {}, which it has by now, plan {} is no {}",
                seen.plan, plan.name, change.step
            ))),
            Some(plan) => match judge::judge(core, &seen, plan, change.over_quota).await {
                Ok(mut judged) => match judged.require(true) {
                    Ok(()) => Ok((judged.to, judged.moves)),
                    Err(refused) => Err(Seen::Against(refused)),
                },
                Err(refused) => Err(Seen::Against(refused)),
            },
            None => Err(Seen::Gone),
        };
        let mut tx = core.store.begin().await?;
        let Some(row) = tenants::lock(&mut tx, tenant).await? else { return Ok(()) };
        let same = (&row.plan, &row.server_id, &row.state) == (&seen.plan, &seen.server_id, &seen.state);
        match store::find_due(&mut tx, tenant).await? {
            Some(now) if same && now.plan == change.plan => {}
            // Taken back, or changed, while this looked: the next round looks again.
            Some(_) | None => return Ok(()),
        }
        let mut started = None;
        match judged {
            _ if row.operation.is_some() => {
                let message = "another operation is at work on the tenant";
                store::waits_for(&mut tx, tenant, "busy", message, BUSY).await?;
            }
            Err(Seen::Void(why)) => {
                store::forget(&mut tx, tenant).await?;
                let event = Event::done(actor, "tenant.plan.void", format!("tenant:{tenant}"));
                event.with(json!({"plan": change.plan, "why": why})).save(&mut *tx).await?;
            }
            Err(Seen::Gone) => {
                let message = format!("there is no plan {} in the settings any more", change.plan);
                store::waits(&mut tx, tenant, "unknown_plan", &message).await?;
            }
            Err(Seen::Against(refused)) => {
                let code = refused.code().as_str();
                tracing::info!(tenant, plan = change.plan, code, why = refused.0.detail, "a change of plan waits");
                // Whoever may see the tenant reads it.
                store::waits(&mut tx, tenant, code, &refused.without_fleet().0.detail).await?;
            }
            Ok((to, moves)) => match begin::begin(core, &cx.engine(), &mut tx, &row, to, moves, actor).await {
                Ok(begun) => {
                    store::begun(&mut tx, tenant, begun.id).await?;
                    started = Some(begun);
                }
                // Between the look and now: it comes again.
                Err(freehold_durable::StartError::Busy { .. }) => return Ok(()),
                Err(freehold_durable::StartError::Store(error)) => return Err(error.into()),
            },
        }
        cx.still_mine_in(&mut tx).await?;
        tx.commit().await?;
        if let Some(started) = started {
            cx.engine().go(started);
        }
        Ok(())
    }
}

fn step_from(core: &Core, from: &str, to: &Plan) -> &'static str {
    PlanStep::between(core.plan(from).rank, to.rank).as_str()
}

/// Why nothing is begun.
enum Seen {
    /// It has the plan by whichever way, or another one than it was asked for.
    Void(String),
    /// The settings have it no more.
    Gone,
    Against(Refused),
}
