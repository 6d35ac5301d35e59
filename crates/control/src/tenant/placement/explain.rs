//! `POST /v1/placements/explain`: what a create would do now, and what speaks against each server and pool. Changes nothing.

use axum::extract::State;
use freehold_api::placement::{Choice, ExplainPlacement, Placement, PoolVerdict, ServerVerdict};
use freehold_api::problem::Code;

use super::pools::{self, PoolView};
use super::{Want, candidates, explain_refusal, obstacles, rank};
use crate::http::extract::{Json, text};
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};
use crate::server::store::ServerWithUse;
use crate::server_pool::wait;
use crate::stock::store as databases;
use crate::tenant::{change, create};

/// Where a tenant would go, and why not elsewhere
#[utoipa::path(post, path = "/v1/placements/explain", tag = "placements", request_body = Option<ExplainPlacement>,
    responses((status = 200, description = "What a create would do now", body = Placement)))]
pub async fn explain(State(plane): State<Plane>, Json(body): Json<ExplainPlacement>) -> Answer<Json<Placement>> {
    let core = &plane.core;
    if let Some(region) = &body.region {
        text("region", region, 63)?;
    }
    let labels = body.labels.unwrap_or_default();
    change::check_labels(labels.iter().map(|(key, value)| (key.as_str(), Some(value.as_str()))))?;
    let plan = create::plan_of(core, body.plan.as_ref())?;
    let (template, _) = create::template_of(core, body.template.as_ref()).await?;
    let want = Want {
        kind: plan.server,
        region: body.region.as_deref(),
        labels: &labels,
        template: &template,
        extensions: &plan.extensions,
        rules: &core.settings.placement,
    };
    let fleet = core.fleet.no_older_than(&core.store, wait::SURE).await?;
    let growth = wait::growth(core).await?;
    let views = pools::views(&core.settings.server_pools, &core.settings.placement, &fleet, &growth);
    let ranked = rank(&want, &fleet);
    // The first of those that have a database ready; without, the first that has a slot.
    let (name, version) = (template.name.as_str(), template.version.as_str());
    let stocked = databases::peek(&core.store, name, version, plan.name.as_str(), &candidates(&ranked)).await?;
    let choice = choose(&want, &ranked, stocked.as_deref(), &views, &fleet);
    Ok(Json(Placement { choice, servers: verdicts(&want, &ranked, &fleet), pools: of_pools(&want, &views) }))
}

/// Of the servers that have a database ready (`stocked`) or else a slot; then of the pools.
pub(super) fn choose(
    want: &Want<'_>,
    ranked: &[&ServerWithUse],
    stocked: Option<&str>,
    views: &[PoolView<'_>],
    fleet: &[ServerWithUse],
) -> Choice {
    let server = stocked.or_else(|| ranked.first().map(|server| server.row.id.as_str()));
    if let Some(server) = server.and_then(|server| server.parse().ok()) {
        return Choice::Server { server };
    }
    match pools::choose(want, views) {
        Some(view) => Choice::Pool { pool: view.pool.name.clone() },
        None => Choice::None { reason: refusal(want, fleet, views).0.to_string() },
    }
}

/// Why nobody takes the tenant, server by server and pool by pool.
pub fn refusal(want: &Want<'_>, fleet: &[ServerWithUse], views: &[PoolView<'_>]) -> Refused {
    if views.is_empty() {
        return explain_refusal(want, fleet);
    }
    let of_pool = |view: &PoolView<'_>| {
        let why = pools::obstacles(want, view).next().map_or(String::new(), |why| why.to_string());
        format!("server pool {}: {why}", view.pool.name)
    };
    let pools: Vec<String> = views.iter().take(10).map(of_pool).collect();
    if !fleet.iter().any(|server| server.row.pool.is_none() || server.row.provisioned_at.is_some()) {
        return Refused::new(Code::NoRoom, format!("no server can take the tenant: {}", pools.join("; ")));
    }
    let mut refused = explain_refusal(want, fleet);
    refused.0.detail = format!("{}; {}", refused.0.detail, pools.join("; "));
    refused
}

fn verdicts(want: &Want<'_>, ranked: &[&ServerWithUse], fleet: &[ServerWithUse]) -> Vec<ServerVerdict> {
    let unfit = fleet.iter().filter(|server| obstacles(want, server).next().is_some());
    let verdict = |server: &ServerWithUse| {
        Some(ServerVerdict {
            server: server.row.id.parse().ok()?,
            obstacles: obstacles(want, server).map(|obstacle| obstacle.to_string()).collect(),
            priority: server.row.priority,
            tenants: u32::try_from(server.taken_by_now()).unwrap_or(u32::MAX),
            capacity: u32::try_from(server.row.capacity).unwrap_or(0),
        })
    };
    ranked.iter().copied().chain(unfit).filter_map(verdict).collect()
}

fn of_pools(want: &Want<'_>, views: &[PoolView<'_>]) -> Vec<PoolVerdict> {
    let verdict = |view: &PoolView<'_>| PoolVerdict {
        pool: view.pool.name.clone(),
        obstacles: pools::obstacles(want, view).map(|obstacle| obstacle.to_string()).collect(),
        servers: u32::try_from(view.count()).unwrap_or(u32::MAX),
        maximum_servers: view.pool.maximum_servers,
        growing: view.growing().and_then(|server| server.row.id.parse().ok()),
    };
    views.iter().map(verdict).collect()
}
