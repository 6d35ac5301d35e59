//! Lists and shows server pools, as the settings declare them and with what is there of them.

use axum::extract::State;
use freehold_api::OperationId;
use freehold_api::id::PoolName;
use freehold_api::page::{Page, Paging};
use freehold_api::problem::Code;
use freehold_api::server::Severity;
use freehold_api::server_pool::ServerPool;
use freehold_api::status::Concern;

use super::{store, wait};
use crate::http::extract::{Id, Json, Query, cursor, limit, next_cursor};
use crate::http::problem::Refused;
use crate::plane::{Answer, Core, Plane};
use crate::settings::ServerPool as Declared;
use crate::tenant::placement::pools::{self, PoolView};

/// List server pools
#[utoipa::path(get, path = "/v1/server-pools", tag = "server pools", params(Paging),
    responses((status = 200, description = "A page of server pools, as the settings declare them", body = Page<ServerPool>)))]
pub async fn list(State(plane): State<Plane>, Query(query): Query<Paging>) -> Answer<Json<Page<ServerPool>>> {
    let limit = usize::try_from(limit(query.limit)?).unwrap_or(usize::MAX);
    let from: usize = cursor(query.cursor.as_deref())?.unwrap_or(0);
    let declared = &plane.settings.server_pools;
    let next = from.saturating_add(limit);
    let mut items = Vec::new();
    for pool in declared.iter().skip(from).take(limit) {
        items.push(find(&plane.core, pool).await?);
    }
    let next_cursor = (next < declared.len()).then(|| next_cursor(&next)).flatten();
    Ok(Json(Page { items, next_cursor }))
}

/// Show one server pool
#[utoipa::path(get, path = "/v1/server-pools/{name}", tag = "server pools",
    params(("name" = PoolName, Path, description = "The pool's name")),
    responses((status = 200, description = "The server pool", body = ServerPool)))]
pub async fn show(State(plane): State<Plane>, Id(name): Id<PoolName>) -> Answer<Json<ServerPool>> {
    Ok(Json(find(&plane.core, pool(&plane, &name)?).await?))
}

pub fn pool<'a>(plane: &'a Plane, name: &PoolName) -> Answer<&'a Declared> {
    plane.settings.server_pool(name.as_str()).ok_or_else(|| {
        Refused::new(Code::NotFound, format!("there is no server pool {name}; `freehold server-pool list` shows them"))
    })
}

async fn find(core: &Core, pool: &Declared) -> Answer<ServerPool> {
    let fleet = core.fleet.no_older_than(&core.store, wait::SURE).await?;
    let growth = wait::growth(core).await?;
    let views = pools::views(std::slice::from_ref(pool), &core.settings.placement, &fleet, &growth);
    let view = &views[0];
    let retry_at = store::retry_at(&core.store, pool.name.as_str()).await?;
    let growing = view.growing().map(|server| server.row.id.clone());
    let operation = match &growing {
        Some(server) => {
            crate::server::store::find_with_use(&core.store, server).await?.and_then(|found| found.operation)
        }
        None => None,
    };
    let count = |number: i64| u32::try_from(number).unwrap_or(0);
    Ok(ServerPool {
        name: pool.name.clone(),
        platform: pool.platform.clone(),
        kind: pool.kind,
        postgres: pool.postgres,
        image: pool.image.clone(),
        limits: pool.limits(),
        capacity: pool.slots(),
        minimum_spare: pool.spare(),
        maximum_servers: pool.maximum_servers,
        region: pool.region.clone(),
        labels: pool.labels.clone(),
        priority: pool.priority,
        servers: u32::try_from(view.count()).unwrap_or(u32::MAX),
        tenants: count(view.tenants()),
        spare: count(view.spare()),
        waiting: count(view.waiting()),
        growing: growing.and_then(|server| server.parse().ok()),
        operation: operation.map(OperationId),
        obstacle: obstacle(view, wait::short(core, view).await?),
        retry_at: retry_at.map(jiff_sqlx::Timestamp::to_jiff),
    })
}

/// What a person on call should know of pools: those that should grow and do not, and servers whose certificate ends.
pub async fn concerns(core: &Core) -> Answer<Vec<Concern>> {
    let mut concerns = Vec::new();
    let fleet = core.fleet.rows(&core.store).await?;
    let growth = wait::growth(core).await?;
    for view in pools::views(&core.settings.server_pools, &core.settings.placement, &fleet, &growth) {
        let Some(why) = obstacle(&view, wait::short(core, &view).await?) else { continue };
        let name = &view.pool.name;
        concerns.push(Concern {
            severity: if view.waiting.is_empty() { Severity::Medium } else { Severity::High },
            code: "server_pool_short".into(),
            message: format!("server pool {name}: {why}"),
            next: Some(format!("freehold server-pool show {name}")),
        });
    }
    for (id, days) in store::certificates_ending(&core.store).await? {
        concerns.push(Concern {
            severity: Severity::Medium,
            code: "certificate_ends".into(),
            message: format!(
                "the certificate of server {id} ends in {days} days; an update, which restarts it, makes a new one"
            ),
            next: Some(format!("freehold server update {id} --restart")),
        });
    }
    Ok(concerns)
}

/// Why it has fewer servers than it should, where none is on its way.
pub fn obstacle(view: &PoolView<'_>, short: i64) -> Option<String> {
    let need = view.wish(short).filter(|_| view.growing().is_none())?;
    if let Some(why) = view.resting {
        return Some(format!("{need}, and a server could not be started: {why}"));
    }
    if view.machine_is_full() {
        return Some(format!("{need}, and the disk of its servers' machine is nearly full"));
    }
    let complete = i64::try_from(view.count()).unwrap_or(i64::MAX) >= i64::from(view.pool.maximum_servers);
    complete.then(|| format!("{need}, and it has its {} servers (maximum_servers)", view.pool.maximum_servers))
}
