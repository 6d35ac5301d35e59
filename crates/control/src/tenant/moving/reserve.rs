//! Judges once more, chooses the server, and takes a slot and the names there. Touches neither server but to look.

use std::time::Duration;

use freehold_api::id::PoolName;
use freehold_api::movability::{Movability, MoveEstimate, MoveMethod};
use freehold_api::moving::{STOP_LEAST_SECONDS, STOP_MAX_SECONDS};
use freehold_api::problem::Code;
use freehold_durable::{Cx, Failure, Outcome};

use super::store;
use super::{How, Step};
use crate::http::problem::{Refused, constraint};
use crate::plane::Core;
use crate::server::hands;
use crate::server_pool::{self, wait::Awaited};
use crate::stock::making::Making;
use crate::stock::{claim, declare, make, store as databases};
use crate::tenant::adopt::store as adopted;
use crate::tenant::fence;
use crate::tenant::movability::judge::span;
use crate::tenant::movability::look::{self, Watch};
use crate::tenant::movability::target::{self, Goal};
use crate::tenant::store as tenants;

/// For a server of a pool that is being made.
const LOOK: Duration = Duration::from_secs(5);
/// For what is in the way, and passes.
const PASSING: Duration = Duration::from_secs(30);
/// Nobody types them.
const PASSWORD: usize = 40;
/// What is in the way passes.
pub const NOT_NOW: &str = "not_now";

pub async fn run(core: &Core, cx: &Cx, goal: Goal, how: How) -> Result<Outcome<Step>, Failure> {
    let tenant = fence::tenant(cx)?;
    let plan = match &goal {
        Goal::Plan(plan) => Some(plan.clone()),
        Goal::Server(_) | Goal::ServerPool(_) | Goal::Region(_) | Goal::Elsewhere => None,
    };
    if let Some(plan) = &plan
        && let Some(pool) = pool_to_wait_for(core, cx, &tenant, &goal).await?
    {
        return Ok(await_server(tenant, plan.clone(), pool, how));
    }
    let found = look::look(core, cx, &tenant, Some(&goal), Watch::Nothing).await?;
    match require_movable(&found, how.method) {
        Ok(()) => {}
        // Nobody gives a plan up for what passes.
        Err(failure) if failure.code == NOT_NOW && plan.is_some() => {
            let again = Outcome::again(PASSING, Step::Reserve { goal, how });
            return Ok(again.waiting_for(NOT_NOW, failure.message));
        }
        Err(failure) => return Err(failure),
    }
    let how = limited(how, &found);
    let to = found.to.and_then(|to| to.server);
    let Some(to) = to else {
        // Of a plan: whoever was faster than this look has it, and the next one chooses anew.
        if plan.is_some() {
            return Ok(Outcome::again(LOOK, Step::Reserve { goal, how }));
        }
        let message =
            "none of its servers has room now: name a server, or let the pool have one more spare (minimum_spare)";
        return Err(Failure::permanent("no_room", message));
    };
    let gone = || Failure::permanent("wrong_state", "the tenant has no database any more");
    let row = databases::find_of_tenant(&core.store, &tenant).await?.ok_or_else(gone)?;
    let making = Making::find(core, row.id).await?;
    if !adopted::kept_logins(&core.store, row.id).await?.is_empty() {
        let message = "logins that were there before it was adopted still come in, and are on its server alone: hand out \
                       Freehold's instead, and drop them";
        return Err(Failure::permanent("kept_logins", message));
    }
    require_free_names(core, cx, &making, to.as_str()).await?;
    let (there, back) = (declare::mint_one(core, PASSWORD).await, declare::mint_one(core, PASSWORD).await);
    let (engine, method) = (cx.engine(), how.method);
    core.fleet.placed(to.as_str()).await;
    Ok(Outcome::step(Step::Prepare { how }).recording(move |tx| {
        Box::pin(async move {
            if !claim::lock_slot(tx, to.as_str()).await? {
                let message = format!("the last slot of server {to} is taken: name another");
                // Of a plan's servers the next one does as well.
                return Err(match plan {
                    Some(_) => Failure::transient("no_room", message),
                    None => Failure::permanent("no_room", message),
                });
            }
            tenants::wait_no_more(tx, &tenant).await?;
            let reserved = store::reserve(tx, &tenant, &row, to.as_str(), &there, &back, plan.as_deref()).await;
            reserved.map_err(|error| match constraint(&error) {
                Some(name) if name.starts_with("tenant_database_server_id") => taken(&row.database, to.as_str()),
                _ => error.into(),
            })?;
            store::goes_by(tx, &tenant, method).await?;
            // What had to give way is dropped there.
            Ok(engine.wake_in(tx, "stock").await?)
        })
    }))
}

/// Where no server that the plan wants has room, and a pool can make one. It is chosen before anybody is looked at: the wait
/// may be long, and what is in the way meanwhile need not be there at its end.
async fn pool_to_wait_for(core: &Core, cx: &Cx, tenant: &str, goal: &Goal) -> Result<Option<PoolName>, Failure> {
    let gone = || Failure::permanent("wrong_state", "the tenant has no database any more");
    let row = tenants::find(&core.store, tenant).await?.ok_or_else(gone)?;
    let chosen = target::choose(core, &row, row.server_id.as_deref().ok_or_else(gone)?, goal).await?;
    if chosen.server.is_some() {
        return Ok(None);
    }
    let Some((pool, _)) = chosen.pool else {
        let refused = chosen.refusal.unwrap_or_else(|| Refused::new(Code::NoRoom, "no server has room now"));
        return Err(Failure::permanent(refused.code().as_str(), refused.0.detail));
    };
    // Once: no server is made for whom nothing moves.
    if row.waiting_for.is_none() {
        let found = look::look(core, cx, tenant, Some(goal), Watch::Nothing).await?;
        require_movable(&found, MoveMethod::Logical)
            .or_else(|failure| if failure.code == NOT_NOW { Ok(()) } else { Err(failure) })?;
    }
    let bad = |_| Failure::stuck("store_incomplete", format!("{pool} is no name of a pool"));
    pool.parse().map(Some).map_err(bad)
}

/// By this method. `not_now`, where all that is in the way passes: whoever asks again may have it. Where only the other method is
/// left it is said how to ask for it, and what it costs.
pub fn require_movable(found: &Movability, method: MoveMethod) -> Result<(), Failure> {
    if found.methods.contains(&method) {
        return Ok(());
    }
    let blocks: Vec<_> = found.findings.iter().filter(|finding| finding.blocks.contains(&method)).collect();
    let code = if blocks.iter().all(|finding| finding.passes) { NOT_NOW } else { "not_movable" };
    let why: Vec<String> =
        blocks.iter().map(|finding| format!("{} ({})", finding.message, finding.code.as_str())).collect();
    let mut message = why.join("; ");
    if let Some(other) = by_dump(found) {
        message.push_str("; ");
        message.push_str(&other);
    }
    Err(Failure::permanent(code, message))
}

/// Not for whoever moves because of another plan: that goes by replication alone.
fn by_dump(found: &Movability) -> Option<String> {
    let to = found.to.as_ref().filter(|to| to.plan.is_none())?;
    let estimate = dump_estimate(found)?;
    let server = to.server.as_ref().map(|server| format!("server:{server}"));
    let pool = || to.server_pool.as_ref().map(|pool| format!("server-pool:{pool}"));
    let place = server.or_else(pool).or_else(|| to.region.as_ref().map(|region| format!("region:{region}")))?;
    // Of one that is suspended nobody writes.
    let stopped = match estimate.stall_seconds {
        0.0 => String::new(),
        seconds => format!(", with writes stopped for about {}", span(seconds)),
    };
    let tenant = &found.tenant;
    Some(format!(
        "by dump and restore it can be moved{stopped}: freehold tenant move {tenant} --to {place} --method dump"
    ))
}

/// None: that method is not left.
fn dump_estimate(found: &Movability) -> Option<&MoveEstimate> {
    found.estimates.iter().find(|estimate| estimate.method == MoveMethod::Dump)
}

/// Who named no limit for a dump has one that is well above what it should take.
fn limited(how: How, found: &Movability) -> How {
    let judged = dump_estimate(found).map_or(0.0, |estimate| estimate.stall_seconds * 4.0) as u64;
    match (how.method, how.stall_ms) {
        (MoveMethod::Dump, 0) => How { stall_ms: judged.clamp(STOP_LEAST_SECONDS, STOP_MAX_SECONDS) * 1000, ..how },
        _ => how,
    }
}

/// Its place among those for whom the pool's next server is made.
fn await_server(tenant: String, plan: String, pool: PoolName, how: How) -> Outcome<Step> {
    let awaited = Awaited { pool, server: None };
    let step = Step::Reserve { goal: Goal::Plan(plan.clone()), how };
    let outcome = Outcome::again(LOOK, step).waiting_for("waiting_for_server", awaited.message());
    outcome.recording(move |tx| {
        Box::pin(async move {
            tenants::wait_as(tx, &tenant, &plan, &awaited).await?;
            Ok(freehold_durable::wake_in(tx, server_pool::LOOP).await?)
        })
    })
}

/// What is called so at the target is somebody else's: it is neither taken over nor, by an undo, dropped.
async fn require_free_names(core: &Core, cx: &Cx, making: &Making, to: &str) -> Result<(), Failure> {
    let Making { row, login, maintenance, beside, template, .. } = making;
    let roles = make::roles(row, &login.role, &maintenance.role, template);
    let mut names = vec![roles.owner.as_str(), &roles.login, &roles.maintenance];
    names.extend(roles.extra.iter().map(|role| role.name.as_str()));
    names.extend(beside.iter().map(|login| login.role.as_str()));
    let server = hands::server(core, to).await?;
    let admin = hands::admin(core, cx, &server, None).await?;
    let there = admin.observe(&names, &[&row.database]).await.map_err(hands::failure)?;
    let found = there.roles.iter().map(|role| &role.name).chain(there.databases.iter().map(|database| &database.name));
    match found.min() {
        Some(name) => Err(taken(name, to)),
        None => Ok(()),
    }
}

fn taken(name: &str, server: &str) -> Failure {
    Failure::permanent(
        "name_taken",
        format!("something else on server {server} is called {name:?}: name another server"),
    )
}
