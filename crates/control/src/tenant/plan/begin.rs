//! Begins a change of plan, in the caller's transaction: in place, or as a move.

use std::time::Duration;

use freehold_api::movability::MoveMethod;
use freehold_api::moving::STALL_SECONDS;
use freehold_api::plan::Plan;
use freehold_durable::{Engine, New, StartError, Started};
use serde_json::json;
use sqlx::PgConnection;

use super::set::{self, SetPlan};
use crate::audit::record::{Actor, Event};
use crate::plane::Core;
use crate::tenant::change;
use crate::tenant::movability::target::Goal;
use crate::tenant::moving::{self, How, Move};
use crate::tenant::store::TenantRow;

/// For a server that does not answer; past it the tenant has the plan that it had.
const DEADLINE: Duration = Duration::from_secs(3600);

/// The caller has locked the tenant.
pub async fn begin(
    core: &Core,
    engine: &Engine,
    tx: &mut PgConnection,
    row: &TenantRow,
    to: &Plan,
    moves: bool,
    actor: &Actor,
) -> Result<Started, StartError> {
    let plan = to.name.to_string();
    let started = match moves {
        true => {
            let keep_seconds = core.settings.tenants.move_grace_seconds;
            let how = How { stall_ms: STALL_SECONDS * 1000, keep_seconds, method: MoveMethod::Logical };
            let step = moving::Step::Reserve { goal: Goal::Plan(plan), how };
            let new = change::new::<Move>(moving::KIND, &row.id, step, actor);
            engine.start::<Move>(tx, New { deadline: Some(moving::DEADLINE), ..new }).await?
        }
        false => {
            let step = set::Step::Widen { from: row.plan.clone(), to: plan };
            let new = change::new::<SetPlan>(set::KIND, &row.id, step, actor);
            engine.start::<SetPlan>(tx, New { deadline: Some(DEADLINE), ..new }).await?
        }
    };
    let event = Event::done(actor, "tenant.plan.begin", format!("tenant:{}", row.id));
    event.with(json!({"from": row.plan, "to": to.name, "moves": moves})).save(tx).await?;
    Ok(started)
}
