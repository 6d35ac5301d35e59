//! What an agent says: what is in force, what hinders it, how its pauses went, what its databases do.

use axum::extract::State;
use axum::http::StatusCode;
use freehold_api::id::PoolerId;
use freehold_api::pooler::PoolerReport;

use super::pause::store as pauses;
use super::{agent, counts, list, raise, store};
use crate::http::access::Caller;
use crate::http::extract::{Id, Json};
use crate::http::problem::Refused;
use crate::plane::{Answer, Core, Plane};

/// 2^53 - 1: what JSON holds without loss. Beyond it nobody counts.
const COUNT_MAX: u64 = 9_007_199_254_740_991;
/// What is beyond it is not believed to be of an older store: there must be room to count on.
const GENERATION_MAX: u64 = COUNT_MAX / 2;
const CONNECTIONS_MAX: u64 = 2_147_483_647;

/// Say what a pooler serves and how it is
#[utoipa::path(post, path = "/v1/poolers/{id}/report", tag = "poolers", params(("id" = PoolerId, Path, description = "The pooler's name")),
    request_body = PoolerReport, responses((status = 204, description = "It is on record")))]
pub async fn report(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<PoolerId>,
    Json(told): Json<PoolerReport>,
) -> Answer<StatusCode> {
    agent::require(&plane.core, &caller, &id).await?;
    countable(&told)?;
    if let Some(generation) = told.generation.filter(|generation| *generation > GENERATION_MAX) {
        let wanted = list::find(&plane.core, &id).await?.generation;
        if i64::try_from(generation).is_ok_and(|generation| generation > wanted) {
            let detail = format!("{generation} was never wanted, nor by an older store: nobody counts so far");
            return Err(Refused::field("generation", detail));
        }
    }
    take(&plane.core, &id, &told).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Of whoever keeps a pooler.
pub(super) async fn take(core: &Core, id: &PoolerId, told: &PoolerReport) -> Answer<()> {
    // First: everybody of a tenant waits for whoever waits for this.
    if pauses::record(&core.store, id.as_str(), &told.pauses).await? {
        core.poolers.poke();
    }
    let wanted = store::record(&core.store, id.as_str(), told).await?.ok_or_else(|| list::not_found(id))?;
    if let Some(generation) = told.generation {
        let generation = i64::try_from(generation).unwrap_or(i64::MAX);
        if generation > wanted && store::surpass(&core.store, id.as_str(), generation).await? {
            tracing::warn!(pooler = %id, generation, "the pooler is ahead of the store, which must be an older one; it gets everything anew");
            raise::raise(&core.store, id.as_str()).await?;
            core.poolers.poke();
        } else {
            store::seen(&core.store, id.as_str(), generation).await?;
        }
    }
    if told.databases.is_some() {
        counts::store::record(&core.store, id.as_str(), told).await?;
    }
    Ok(())
}

fn countable(told: &PoolerReport) -> Answer<()> {
    let own = [
        ("generation", told.generation.unwrap_or(0)),
        ("reloads", told.reloads),
        ("deaths", told.deaths),
        ("repaired", told.repaired),
    ];
    let of_databases = told.databases.iter().flatten().flat_map(|found| {
        [
            ("databases.longest_wait_ms", found.longest_wait_ms),
            ("databases.transactions", found.transactions),
            ("databases.queries", found.queries),
            ("databases.received_bytes", found.received_bytes),
            ("databases.sent_bytes", found.sent_bytes),
        ]
    });
    let connections = told.databases.iter().flatten().flat_map(|found| {
        [
            ("databases.clients_active", found.clients_active),
            ("databases.clients_waiting", found.clients_waiting),
            ("databases.servers_active", found.servers_active),
            ("databases.servers_idle", found.servers_idle),
        ]
    });
    let counts = own.into_iter().chain(of_databases).map(|(field, count)| (field, count, COUNT_MAX));
    let connections = connections.map(|(field, count)| (field, count.into(), CONNECTIONS_MAX));
    match counts.chain(connections).find(|(_, count, most)| count > most) {
        Some((field, count, most)) => {
            Err(Refused::field(field, format!("{count} is too much; expected at most {most}")))
        }
        None => Ok(()),
    }
}
