//! What an agent says: what is in force, what hinders it, how its pauses went, what its databases do.

use axum::extract::State;
use axum::http::StatusCode;
use freehold_api::id::PoolerId;
use freehold_api::pooler::PoolerReport;

use super::pause::store as pauses;
use super::{list, raise, store};
use crate::http::extract::{Id, Json};
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};

/// 2^53 - 1: what JSON holds without loss.
const GENERATION_MAX: u64 = 9_007_199_254_740_991;

/// Say what a pooler serves and how it is
#[utoipa::path(post, path = "/v1/poolers/{id}/report", tag = "poolers", params(("id" = PoolerId, Path, description = "The pooler's name")),
    request_body = PoolerReport, responses((status = 204, description = "It is on record")))]
pub async fn report(
    State(plane): State<Plane>,
    Id(id): Id<PoolerId>,
    Json(told): Json<PoolerReport>,
) -> Answer<StatusCode> {
    if told.generation.is_some_and(|generation| generation > GENERATION_MAX) {
        let detail = format!("it is beyond what anybody counts to; expected at most {GENERATION_MAX}");
        return Err(Refused::field("generation", detail));
    }
    if !store::record(&plane.store, id.as_str(), &told).await? {
        return Err(list::not_found(&id));
    }
    if let Some(generation) = told.generation {
        let generation = i64::try_from(generation).unwrap_or(i64::MAX);
        if store::surpass(&plane.store, id.as_str(), generation).await? {
            tracing::warn!(pooler = %id, generation, "the pooler is ahead of the store, which must be an older one; it gets everything anew");
            raise::raise(&plane.store, id.as_str()).await?;
            plane.poolers.poke();
        } else {
            store::seen(&plane.store, id.as_str(), generation).await?;
        }
    }
    pauses::record(&plane.store, id.as_str(), &told.pauses).await?;
    if !told.databases.is_empty() {
        store::record_stats(&plane.store, id.as_str(), &told).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
