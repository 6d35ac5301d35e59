//! Where a tenant is to go: what the caller named, and the server that it means.

use std::sync::Arc;

use freehold_api::id::shown;
use freehold_api::movability::{MoveDestination, MoveTo};
use freehold_durable::Failure;
use serde::{Deserialize, Serialize};

use super::judge::Against;
use crate::http::extract::text;
use crate::http::problem::Refused;
use crate::plane::{Answer, Core};
use crate::server::store::{self as servers, ServerRow, ServerWithUse};
use crate::server_pool::wait;
use crate::tenant::create;
use crate::tenant::placement::{Obstacle, Want, explain, obstacles, pools, rank};
use crate::tenant::store::TenantRow;

/// What was named, once it is known to be there; kept in the operation's step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    Server(String),
    ServerPool(String),
    Plan(String),
    Region(String),
    /// Any server but the one that it is on.
    Elsewhere,
}

/// Refuses what is not there, and what is where the tenant is already. Reads the store alone.
pub async fn resolve(core: &Core, row: &TenantRow, at: &ServerRow, to: &MoveTo) -> Answer<Goal> {
    let (goal, field) = find(core, to).await?;
    refuse_where_it_is(core, &goal, field, &row.id, at)?;
    Ok(goal)
}

/// What is meant, and the field that said so. Refuses what is not there.
pub async fn find(core: &Core, to: &MoveTo) -> Answer<(Goal, &'static str)> {
    match to {
        MoveTo::Name(name) => {
            text("to.name", name, 63)?;
            let named = named(core, name).await?;
            match named.as_slice() {
                [] => {
                    let message = format!("there is no server, server pool, plan or region {}", shown(name));
                    Err(Refused::field("to.name", message))
                }
                [one] => Ok((one.clone(), "to.name")),
                several => {
                    let kinds: Vec<&str> = several.iter().map(Goal::kind).collect();
                    let message =
                        format!("{name} is a {}: say which, for example {}:{name}", kinds.join(" and a "), kinds[0]);
                    Err(Refused::field("to.name", message))
                }
            }
        }
        MoveTo::Server(id) => {
            let found = servers::find(&core.store, id.as_str()).await?.filter(|server| server.state != "removed");
            if found.is_none() {
                return Err(Refused::field(
                    "to.server",
                    format!("there is no server {id}; `freehold server list` shows them"),
                ));
            }
            Ok((Goal::Server(id.to_string()), "to.server"))
        }
        MoveTo::ServerPool(name) => {
            if !core.settings.server_pools.iter().any(|pool| pool.name == *name) {
                return Err(Refused::field(
                    "to.server_pool",
                    format!("there is no server pool {name} in the settings"),
                ));
            }
            Ok((Goal::ServerPool(name.to_string()), "to.server_pool"))
        }
        MoveTo::Plan(name) => {
            create::plan_of(core, Some(name))?;
            Ok((Goal::Plan(name.to_string()), "to.plan"))
        }
        MoveTo::Region(region) => {
            text("to.region", region, 63)?;
            if !has_region(core, region).await? {
                return Err(Refused::field(
                    "to.region",
                    format!("no server and no server pool is in region {}", shown(region)),
                ));
            }
            Ok((Goal::Region(region.clone()), "to.region"))
        }
    }
}

async fn named(core: &Core, name: &str) -> Answer<Vec<Goal>> {
    let server = servers::find(&core.store, name).await?.is_some_and(|server| server.state != "removed");
    let pool = core.settings.server_pools.iter().any(|pool| pool.name.as_str() == name);
    let plan = core.settings.plan(name).is_some();
    let region = has_region(core, name).await?;
    let named = [
        (server, Goal::Server(name.to_owned())),
        (pool, Goal::ServerPool(name.to_owned())),
        (plan, Goal::Plan(name.to_owned())),
        (region, Goal::Region(name.to_owned())),
    ];
    Ok(named.into_iter().filter(|(is_there, _)| *is_there).map(|(_, goal)| goal).collect())
}

async fn has_region(core: &Core, region: &str) -> sqlx::Result<bool> {
    let of_pools = core.settings.server_pools.iter().any(|pool| pool.region.as_deref() == Some(region));
    let fleet = core.fleet.rows(&core.store).await?;
    Ok(of_pools || fleet.iter().any(|server| server.row.region.as_deref() == Some(region)))
}

fn refuse_where_it_is(core: &Core, goal: &Goal, field: &str, tenant: &str, at: &ServerRow) -> Answer<()> {
    let server = &at.id;
    let refused = match goal {
        Goal::Server(id) if *id == at.id => format!("tenant {tenant} is on server {server}: name another one"),
        Goal::ServerPool(pool) if at.pool.as_ref() == Some(pool) => {
            format!("tenant {tenant} is on server {server}, which is of server pool {pool}: name another server")
        }
        Goal::Plan(plan) if core.plan(plan).server == at.kind() => format!(
            "plan {plan} wants a {} server, and tenant {tenant} is on one ({server}): it need not move",
            at.kind
        ),
        Goal::Region(region) if at.region.as_ref() == Some(region) => {
            format!("tenant {tenant} is on server {server}, which is in region {region}")
        }
        Goal::Server(_) | Goal::ServerPool(_) | Goal::Plan(_) | Goal::Region(_) | Goal::Elsewhere => return Ok(()),
    };
    Err(Refused::field(field, refused))
}

impl Goal {
    fn kind(&self) -> &'static str {
        match self {
            Self::Server(_) => "server",
            Self::ServerPool(_) => "server-pool",
            Self::Plan(_) => "plan",
            Self::Region(_) => "region",
            Self::Elsewhere => "server",
        }
    }
}

/// The server that a goal means now.
pub struct Chosen {
    /// For people.
    pub name: String,
    pub server: Option<Arc<ServerRow>>,
    /// The pool whose next server it would be, and of which PostgreSQL.
    pub pool: Option<(String, u16)>,
    pub against: Vec<Against>,
    /// Where no server can take it and no pool can make one that could.
    pub refusal: Option<Refused>,
    goal: Goal,
}

/// Whoever waits already has his place among those that do.
async fn growth(core: &Core, row: &TenantRow) -> sqlx::Result<pools::Growth> {
    let mut growth = wait::growth(core).await?;
    if row.waiting_for.is_some() {
        growth.waiting.clear();
    }
    Ok(growth)
}

/// The one that a create would choose, had it to be another than where the tenant is.
pub async fn choose(core: &Core, row: &TenantRow, at: &str, goal: &Goal) -> Result<Chosen, Failure> {
    let fleet = core.fleet.no_older_than(&core.store, wait::SURE).await?;
    choose_among(core, row, at, goal, &fleet).await
}

/// The same of a fleet that the caller brings.
pub async fn choose_among(
    core: &Core,
    row: &TenantRow,
    at: &str,
    goal: &Goal,
    fleet: &[ServerWithUse],
) -> Result<Chosen, Failure> {
    let plan = match goal {
        Goal::Plan(plan) => core.known_plan(plan)?,
        Goal::Server(_) | Goal::ServerPool(_) | Goal::Region(_) | Goal::Elsewhere => core.plan(&row.plan),
    };
    let templates = core.catalog.all(&core.store).await?;
    let (template, _) = templates.get(&row.template).ok_or_else(|| {
        Failure::permanent("unknown_template", format!("template {} of the tenant is not there any more", row.template))
    })?;
    let region = match goal {
        Goal::Region(region) => Some(region.as_str()),
        Goal::Server(_) | Goal::ServerPool(_) | Goal::Plan(_) | Goal::Elsewhere => row.region.as_deref(),
    };
    let want = Want {
        kind: plan.server,
        region,
        labels: &row.labels.0,
        template,
        extensions: &plan.extensions,
        rules: &core.settings.placement,
    };
    let chosen = |name: String| Chosen {
        name,
        server: None,
        pool: None,
        against: Vec::new(),
        refusal: None,
        goal: goal.clone(),
    };
    if let Goal::Server(id) = goal {
        let found = fleet.iter().find(|server| server.row.id == *id);
        let gone = || Failure::permanent("invalid", format!("server {id} was removed meanwhile"));
        let found = found.ok_or_else(gone)?;
        let against = obstacles(&want, found).map(|obstacle| against(&obstacle)).collect();
        return Ok(Chosen { server: Some(found.row.clone()), against, ..chosen(format!("server {id}")) });
    }
    let pool = match goal {
        Goal::ServerPool(pool) => Some(pool.as_str()),
        Goal::Server(_) | Goal::Plan(_) | Goal::Region(_) | Goal::Elsewhere => None,
    };
    let others: Vec<ServerWithUse> = fleet
        .iter()
        .filter(|server| server.row.id != at && pool.is_none_or(|pool| server.row.pool.as_deref() == Some(pool)))
        .cloned()
        .collect();
    if let Some(best) = rank(&want, &others).first() {
        return Ok(Chosen { server: Some(best.row.clone()), ..chosen(format!("server {}", best.row.id)) });
    }
    let growth = growth(core, row).await?;
    let mut views = pools::views(&core.settings.server_pools, &core.settings.placement, fleet, &growth);
    views.retain(|view| pool.is_none_or(|pool| view.pool.name.as_str() == pool));
    if let Some(view) = pools::choose(&want, &views) {
        let pool = Some((view.pool.name.to_string(), view.pool.postgres));
        return Ok(Chosen { pool, ..chosen(format!("server pool {}", view.pool.name)) });
    }
    // For another plan, what its own server lacks is the reason of it all.
    let told = if matches!(goal, Goal::Plan(_)) { fleet } else { &others[..] };
    let refusal = explain::refusal(&want, told, &views);
    Ok(Chosen {
        against: vec![Against::Full(refusal.0.detail.clone())],
        refusal: Some(refusal),
        ..chosen(match goal {
            Goal::Elsewhere => "any other server".to_owned(),
            Goal::Server(_) | Goal::ServerPool(_) | Goal::Plan(_) | Goal::Region(_) => {
                format!("{} {}", goal.kind().replace('-', " "), goal.value())
            }
        })
    })
}

fn against(obstacle: &Obstacle<'_>) -> Against {
    let why = obstacle.to_string();
    match obstacle {
        Obstacle::Full(_) => Against::Full(why),
        Obstacle::Disk { .. } | Obstacle::Size { .. } => Against::Disk(why),
        Obstacle::State(_) | Obstacle::Unhealthy(_) | Obstacle::Connections { .. } => Against::Away(why),
        Obstacle::Kind { .. }
        | Obstacle::Region(_)
        | Obstacle::Label { .. }
        | Obstacle::Version { .. }
        | Obstacle::Extension(_) => Against::Unfit(why),
    }
}

impl Goal {
    fn value(&self) -> &str {
        match self {
            Self::Server(value) | Self::ServerPool(value) | Self::Plan(value) | Self::Region(value) => value,
            Self::Elsewhere => "",
        }
    }
}

impl Chosen {
    /// Why nobody has a slot for it now, where that is so.
    pub fn no_room(&self) -> Option<String> {
        let full = self.against.iter().find_map(|against| match against {
            Against::Full(why) => Some(why.clone()),
            Against::Disk(_) | Against::Unfit(_) | Against::Away(_) => None,
        });
        match (&self.server, &self.pool) {
            (Some(_), _) => full,
            (None, Some((pool, _))) => Some(format!(
                "none of its servers has room now: let server pool {pool} have one more spare (minimum_spare)"
            )),
            (None, None) => full.or_else(|| Some("no server has room now".into())),
        }
    }

    pub fn destination(&self) -> MoveDestination {
        let of = |is: bool| is.then(|| self.goal.value().to_owned());
        let pool = self.pool.as_ref().map(|(name, _)| name.clone());
        let pool = pool.or_else(|| of(matches!(self.goal, Goal::ServerPool(_))));
        MoveDestination {
            server: self.server.as_ref().and_then(|server| server.id.parse().ok()),
            server_pool: pool.and_then(|pool| pool.parse().ok()),
            plan: of(matches!(self.goal, Goal::Plan(_))).and_then(|plan| plan.parse().ok()),
            region: of(matches!(self.goal, Goal::Region(_))),
        }
    }

    pub fn free_bytes(&self) -> Option<u64> {
        self.server.as_ref().and_then(|server| free_bytes(server))
    }
}

/// Of its file system, or of what its platform was told.
pub fn free_bytes(server: &ServerRow) -> Option<u64> {
    let held = server.definition.as_ref().and_then(|definition| definition.disk_bytes);
    let of_platform =
        held.zip(server.size_bytes).map(|(held, used)| held.saturating_sub(u64::try_from(used).unwrap_or(0)));
    server.data_free_bytes.and_then(|free| u64::try_from(free).ok()).or(of_platform)
}
