//! Whether a tenant can have another plan, and what that takes. Reads the store alone.

use std::sync::Arc;

use freehold_api::plan::Plan;
use freehold_api::plan_change::PlanStep;
use freehold_api::problem::Code;
use freehold_api::tenant::TenantState;
use freehold_durable::Failure;

use crate::http::problem::Refused;
use crate::plane::{Answer, Core};
use crate::server::store::{self as servers, ServerRow};
use crate::stats::show as stats;
use crate::tenant::change;
use crate::tenant::movability::target::{self, Goal};
use crate::tenant::moving::ask as moving;
use crate::tenant::store::TenantRow;

pub struct Judged<'a> {
    pub to: &'a Plan,
    pub step: PlanStep,
    /// Where it is now.
    pub at: Arc<ServerRow>,
    /// The plan wants another kind of server.
    pub moves: bool,
    pub size_bytes: Option<u64>,
    /// Whatever its time is.
    pub against: Vec<Refused>,
    /// It could not be carried out now.
    pub against_now: Vec<Refused>,
}

impl Judged<'_> {
    /// Refuses with what comes first.
    pub fn require(&mut self, now: bool) -> Answer<()> {
        let mut against = std::mem::take(&mut self.against);
        if now {
            against.append(&mut self.against_now);
        }
        against.into_iter().next().map_or(Ok(()), Err)
    }
}

pub async fn judge<'a>(core: &'a Core, row: &TenantRow, to: &'a Plan, over_quota: bool) -> Answer<Judged<'a>> {
    let id = &row.id;
    match row.state() {
        TenantState::Active | TenantState::Suspended => {}
        TenantState::Creating | TenantState::Failed | TenantState::Deleted => {
            return Err(change::wrong_state(id, &row.state, "given another plan", "an active or suspended tenant"));
        }
    }
    let at = match row.server_id.as_deref() {
        Some(server) => servers::find(&core.store, server).await?,
        None => None,
    };
    let none = || Refused::new(Code::WrongState, format!("tenant {id} is {} and has no database yet", row.state));
    let at = Arc::new(at.ok_or_else(none)?);
    let size_bytes = stats::usage(core, id).await?.and_then(|usage| usage.size_bytes);
    let mut judged = Judged {
        to,
        step: PlanStep::between(core.plan(&row.plan).rank, to.rank),
        moves: at.kind() != to.server,
        at,
        size_bytes,
        against: Vec::new(),
        against_now: Vec::new(),
    };
    if to.name.as_str() == row.plan {
        let detail = format!(
            "tenant {id} has plan {} already; a change of plan that is kept is taken back by freehold tenant plan {id} --cancel",
            row.plan
        );
        judged.against.push(Refused::new(Code::SamePlan, detail));
        judged.moves = false;
        return Ok(judged);
    }
    if let (Some(size), Some(quota), false) = (size_bytes, to.storage_quota, over_quota)
        && size > quota
    {
        let detail = format!(
            "the database of tenant {id} takes {size} bytes, and plan {} allows {quota}: make it smaller, or say that it may be \
             larger (over_quota)",
            to.name
        );
        judged.against.push(Refused::new(Code::QuotaExceeded, detail));
    }
    judged.against_now = match judged.moves {
        true => against_moving(core, row, to, &judged.at).await?,
        false => to.extensions.iter().filter_map(|name| missing(to, name, &judged.at)).collect(),
    };
    let had = &core.plan(&row.plan).extensions;
    if !judged.moves && to.extensions.iter().any(|name| !had.contains(name)) {
        // The side that was left has not got them: what follows it would stop, and with it the way back.
        let mut store = core.store.acquire().await?;
        judged.against_now.extend(moving::refuse_kept_side(&mut store, id).await.err());
    }
    Ok(judged)
}

async fn against_moving(core: &Core, row: &TenantRow, to: &Plan, at: &ServerRow) -> Answer<Vec<Refused>> {
    let mut against = Vec::new();
    let mut store = core.store.acquire().await?;
    if let Err(refused) = moving::refuse_kept_side(&mut store, &row.id).await {
        against.push(refused);
    }
    drop(store);
    match target::choose(core, row, &at.id, &Goal::Plan(to.name.to_string())).await {
        Ok(chosen) => against.extend(chosen.refusal),
        Err(Failure { code, message, .. }) => {
            let known = Code::ALL.iter().copied().find(|known| known.as_str() == code);
            against.push(Refused::new(known.unwrap_or(Code::Prerequisite), message));
        }
    }
    Ok(against)
}

fn missing(plan: &Plan, extension: &str, server: &ServerRow) -> Option<Refused> {
    if server.has_extension(extension) {
        return None;
    }
    let detail = format!(
        "extension {extension} of plan {} is not installed on server {}: install it there first",
        plan.name, server.id
    );
    Some(Refused::new(Code::ExtensionMissing, detail))
}
