//! What the loop found, as it is in the store. Touches no server.

use std::time::Duration;

use axum::extract::State;
use freehold_api::id::TenantId;
use freehold_api::page::Page;
use freehold_api::server::Server;
use freehold_api::stats::{
    Activity, FleetStats, ListTenantStats, QuotaCounts, ServerStats, Stats, TenantStats, TenantUsage,
};
use jiff_sqlx::Timestamp;

use super::rate;
use super::store::{self, ServerRound, TenantRow};
use crate::http::access::Caller;
use crate::http::extract::{Id, Json, Query, limit, text};
use crate::plane::{Answer, Core, Plane};
use crate::tenant::change;

/// How old the counts of tenants may be: to count them, every database's row is read.
const FRESH: Duration = Duration::from_secs(3);

/// How much there is and how much goes on, in all and on each server
#[utoipa::path(get, path = "/v1/stats", tag = "stats",
    responses((status = 200, description = "As of the last round, a minute ago at most", body = Stats)))]
pub async fn fleet(State(plane): State<Plane>) -> Answer<Json<Stats>> {
    let mut rounds = store::rounds(&plane.store).await?;
    let mut fleet = FleetStats { quota: quota(&plane.core).await?, ..FleetStats::default() };
    let (mut hit, mut read) = (0, 0);
    let mut servers = Vec::new();
    for server in plane.fleet.no_older_than(&plane.store, FRESH).await?.iter().cloned().map(Server::from) {
        let round = rounds.remove(server.id.as_str());
        fleet.servers += 1;
        fleet.tenants += u64::from(server.tenants);
        if let Some(observed) = &server.observed {
            fleet.databases += u64::from(observed.databases.unwrap_or(0));
            fleet.size_bytes += observed.size_bytes.unwrap_or(0);
            fleet.connections += u64::from(observed.connections.unwrap_or(0));
            fleet.connections_max += u64::from(observed.connections_max.unwrap_or(0));
        }
        if let Some(round) = &round {
            fleet.transactions_per_second += round.transactions_per_second.unwrap_or(0.0);
            (hit, read) = (hit + round.last_blocks_hit, read + round.last_blocks_read);
        }
        servers.push(ServerStats {
            server: server.id,
            state: server.state,
            health: server.health,
            tenants: server.tenants,
            capacity: server.capacity,
            observed: server.observed,
            activity: round.map(activity),
        });
    }
    fleet.cache_hit_ratio = rate::hit_ratio(hit, read);
    Ok(Json(Stats { fleet, servers }))
}

/// The largest tenants, by size, connections or transactions
#[utoipa::path(get, path = "/v1/stats/tenants", tag = "stats", params(ListTenantStats),
    responses((status = 200, description = "Largest first; always one page", body = Page<TenantStats>)))]
pub async fn tenants(
    State(plane): State<Plane>,
    caller: Caller,
    Query(query): Query<ListTenantStats>,
) -> Answer<Json<Page<TenantStats>>> {
    let limit = limit(query.limit)?;
    if let Some(server) = &query.server {
        text("server", server, 200)?;
    }
    let bound: Option<Vec<String>> = caller.tenants.map(|ids| ids.iter().map(TenantId::to_string).collect());
    let order = query.order.unwrap_or_default().as_str();
    let rows = store::largest(&plane.store, order, query.server.as_deref(), bound.as_deref(), limit).await?;
    let items = rows.into_iter().filter_map(|row| told(&plane.core, row)).collect();
    Ok(Json(Page { items, next_cursor: None }))
}

/// What one tenant uses and does
#[utoipa::path(get, path = "/v1/tenants/{id}/stats", tag = "stats", params(("id" = TenantId, Path, description = "The tenant's id")),
    responses((status = 200, description = "As of the last round; nulls and zeros before the first", body = TenantStats)))]
pub async fn tenant(State(plane): State<Plane>, Id(id): Id<TenantId>) -> Answer<Json<TenantStats>> {
    let row = change::find(&plane, &id).await?;
    if let Some(found) = store::of_tenant(&plane.store, &row.id).await?.and_then(|found| told(&plane.core, found)) {
        return Ok(Json(found));
    }
    let plan = plane.plan(&row.plan);
    let usage = TenantUsage {
        size_bytes: None,
        size_at: None,
        storage_quota: plan.storage_quota,
        connections: 0,
        connection_limit: plan.connection_limit,
        storage_level: None,
        connections_level: None,
    };
    Ok(Json(TenantStats {
        tenant: id,
        server: row.server_id.and_then(|server| server.parse().ok()),
        plan: plan.name.clone(),
        usage,
        transactions: 0,
        transactions_per_second: None,
        cache_hit_ratio: None,
        deadlocks: 0,
        temp_bytes: 0,
    }))
}

/// For the tenant's own answer; None while its database was not looked at.
pub async fn usage(core: &Core, tenant: &str) -> sqlx::Result<Option<TenantUsage>> {
    let found = store::of_tenant(&core.store, tenant).await?;
    Ok(found.map(|row| used(core, &row)))
}

fn told(core: &Core, row: TenantRow) -> Option<TenantStats> {
    Some(TenantStats {
        tenant: row.tenant.parse().ok()?,
        server: row.server_id.parse().ok(),
        plan: row.plan.parse().ok()?,
        usage: used(core, &row),
        transactions: count(row.stats.transactions),
        transactions_per_second: row.stats.transactions_per_second,
        cache_hit_ratio: row.stats.cache_hit_ratio,
        deadlocks: count(row.stats.deadlocks),
        temp_bytes: count(row.stats.temp_bytes),
    })
}

fn used(core: &Core, row: &TenantRow) -> TenantUsage {
    let plan = core.plan(&row.plan);
    let level = |level: Option<i32>| level.and_then(|level| u32::try_from(level).ok());
    TenantUsage {
        size_bytes: row.stats.size_bytes.map(count),
        size_at: row.size_at.map(Timestamp::to_jiff),
        storage_quota: plan.storage_quota,
        connections: u32::try_from(row.stats.connections).unwrap_or(0),
        connection_limit: plan.connection_limit,
        storage_level: level(row.storage_level),
        connections_level: level(row.connections_level),
    }
}

fn activity(round: ServerRound) -> Activity {
    Activity {
        at: round.at.to_jiff(),
        transactions: count(round.transactions),
        transactions_per_second: round.transactions_per_second,
        cache_hit_ratio: rate::hit_ratio(round.last_blocks_hit, round.last_blocks_read),
        deadlocks: count(round.deadlocks),
        temp_bytes: count(round.temp_bytes),
    }
}

/// As of each server's last round, those that are not removed.
pub async fn rounds(core: &Core) -> sqlx::Result<Vec<ServerRound>> {
    let mut rounds: Vec<ServerRound> = store::rounds(&core.store).await?.into_values().collect();
    rounds.sort_by(|a, b| a.server_id.cmp(&b.server_id));
    Ok(rounds)
}

/// Those at 100 percent are at 80 as well.
pub async fn quota(core: &Core) -> sqlx::Result<QuotaCounts> {
    let mut counts = QuotaCounts::default();
    for (resource, level, tenants) in store::quota_counts(&core.store).await? {
        let tenants = count(tenants);
        let (at_80, at_100) = match resource.as_str() {
            "storage" => (&mut counts.storage_80, &mut counts.storage_100),
            _ => (&mut counts.connections_80, &mut counts.connections_100),
        };
        *at_80 += tenants;
        if level == 100 {
            *at_100 += tenants;
        }
    }
    Ok(counts)
}

fn count(counter: i64) -> u64 {
    u64::try_from(counter).unwrap_or(0)
}
