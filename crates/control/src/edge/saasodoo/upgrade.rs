//! Upgrade: a higher tier for an instance, once it is paid. Where the tier has servers of its own the instance moves there
//! while it is used, and whoever asks again is answered the same job.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use freehold_api::plan_change::PlanStep;
use freehold_api::problem::Code;
use freehold_durable::State as OpState;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::store::{self, External};
use super::{At, NAME, allocate, canonical};
use crate::http::access::Caller;
use crate::http::extract::Json;
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};
use crate::tenant::plan::{ask, judge, store as plans};
use crate::tenant::{change, store as tenants};

/// Without a move it is done by then.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
pub struct Wanted {
    instance_id: String,
    customer_id: String,
    plan_tier: String,
    /// False: there are unpaid invoices. Whoever leaves it out was paid.
    #[serde(default)]
    paid: Option<bool>,
}

#[derive(Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Upgraded {
    Upgraded { plan_tier: String, message: String },
    Migrating { job_id: String, message: String },
}

pub async fn upgrade(
    State(At { plane, .. }): State<At>,
    Extension(caller): Extension<Caller>,
    Json(wanted): Json<Wanted>,
) -> Answer<Json<Upgraded>> {
    let instance = canonical("instance_id", &wanted.instance_id)?;
    let customer = canonical("customer_id", &wanted.customer_id)?;
    let plan = allocate::plan_of(&plane, &wanted.plan_tier)?;
    store::slug("instance_id", &instance)?;
    let unknown =
        || Refused::new(Code::NotFound, format!("there is no instance {}", freehold_api::id::shown(&instance)));
    let id = store::find(&plane.store, &External { edge: NAME, id: &instance }).await?.ok_or_else(unknown)?;
    caller.require_tenant(&id)?;
    let row = tenants::find(&plane.store, id.as_str()).await?.ok_or_else(unknown)?;
    allocate::require_customer(&row, &customer)?;
    // Asked again while it is under way: also when the plan is there already, and the job not yet done.
    if let Some(operation) = row.operation
        && plans::is_under_way(&plane.store, operation, id.as_str(), plan.name.as_str()).await?
    {
        return Ok(Json(migrating(operation, &row.id)));
    }
    let tier = &wanted.plan_tier;
    if row.plan == plan.name.as_str() {
        return Err(Refused::new(Code::BadRequest, format!("instance {id} has plan_tier {tier} already")));
    }
    let mut judged = judge::judge(&plane.core, &row, plan, false).await?;
    if judged.step != PlanStep::Upgrade {
        let detail = format!("plan_tier {tier} is not above {}, which instance {id} has: this is no upgrade", row.plan);
        return Err(Refused::new(Code::BadRequest, detail));
    }
    if wanted.paid == Some(false) {
        let detail = format!("instance {id} has unpaid invoices: it gets plan_tier {tier} once they are paid");
        return Err(Refused::new(Code::PaymentRequired, detail));
    }
    judged.require(true)?;
    let moves = judged.moves;
    let started = ask::start(&plane, &id, &row, &judged, &caller.actor()).await?;
    let operation = started.id;
    plane.engine.go(started);
    match moves {
        true => Ok(Json(migrating(operation, &row.id))),
        false => in_place(&plane, operation, &row.id, tier).await,
    }
}

async fn in_place(plane: &Plane, operation: Uuid, id: &str, tier: &str) -> Answer<Json<Upgraded>> {
    match plane.engine.wait(operation, PATIENCE).await? {
        Some(row) if row.state == OpState::Succeeded => {
            let message = format!("instance {id} has plan_tier {tier}, on the same server");
            Ok(Json(Upgraded::Upgraded { plan_tier: tier.to_owned(), message }))
        }
        Some(row) if row.state.is_over() => Err(change::refused_by(&format!("upgrade instance {id}"), &row)),
        _ => Ok(Json(migrating(operation, id))),
    }
}

fn migrating(operation: Uuid, id: &str) -> Upgraded {
    let message = format!(
        "instance {id} is being upgraded; GET /v1/operations/{operation} tells how far it is, and allocate where it is"
    );
    Upgraded::Migrating { job_id: operation.to_string(), message }
}
