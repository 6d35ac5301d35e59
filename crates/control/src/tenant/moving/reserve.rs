//! Judges once more, chooses the server, and takes a slot and the names there. Touches neither server but to look.

use freehold_api::movability::{Movability, MoveMethod, MoveSeverity};
use freehold_durable::{Cx, Failure, Outcome};

use super::store;
use super::{How, Step};
use crate::http::problem::constraint;
use crate::plane::Core;
use crate::server::hands;
use crate::stock::making::Making;
use crate::stock::{claim, declare, make, store as databases};
use crate::tenant::adopt::store as adopted;
use crate::tenant::fence;
use crate::tenant::movability::look::{self, Watch};
use crate::tenant::movability::target::Goal;

/// Nobody types them.
const PASSWORD: usize = 40;

pub async fn run(core: &Core, cx: &Cx, goal: Goal, how: How) -> Result<Outcome<Step>, Failure> {
    let tenant = fence::tenant(cx)?;
    let found = look::look(core, cx, &tenant, Some(&goal), Watch::Nothing).await?;
    require_movable(&found)?;
    let Some(to) = found.to.and_then(|to| to.server) else {
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
    let engine = cx.engine();
    core.fleet.placed(to.as_str()).await;
    Ok(Outcome::step(Step::Prepare { how }).recording(move |tx| {
        Box::pin(async move {
            if !claim::lock_slot(tx, to.as_str()).await? {
                return Err(Failure::permanent(
                    "no_room",
                    format!("the last slot of server {to} is taken: name another"),
                ));
            }
            let reserved = store::reserve(tx, &tenant, &row, to.as_str(), &there, &back).await;
            reserved.map_err(|error| match constraint(&error) {
                Some(name) if name.starts_with("tenant_database_server_id") => taken(&row.database, to.as_str()),
                _ => error.into(),
            })?;
            // What had to give way is dropped there.
            Ok(engine.wake_in(tx, "stock").await?)
        })
    }))
}

/// By the one method that a move knows.
pub fn require_movable(found: &Movability) -> Result<(), Failure> {
    if found.methods.contains(&MoveMethod::Logical) {
        return Ok(());
    }
    let blocks = found.findings.iter().filter(|finding| finding.severity == MoveSeverity::Blocks);
    let why: Vec<String> = blocks.map(|finding| format!("{} ({})", finding.message, finding.code.as_str())).collect();
    Err(Failure::permanent("not_movable", why.join("; ")))
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
