//! What an agent asks for: everything that its pooler is to serve. It waits here until that changes.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use freehold_api::id::PoolerId;
use freehold_api::pooler::{Assignment, AwaitAssignment, PauseWanted};
use tokio::time::Instant;

use super::mind::Wanted;
use super::pause::store as pauses;
use super::{agent, list, raise, render, store};
use crate::http::access::Caller;
use crate::http::extract::{Id, Json, Query};
use crate::http::problem::Refused;
use crate::plane::{Answer, Core, Plane};

const WAIT_MAX: u32 = 30;
/// What other processes changed is seen this late at most.
const LOOK: Duration = Duration::from_millis(250);

/// What a pooler is to serve; waits until it is another than `after`
#[utoipa::path(get, path = "/v1/poolers/{id}/assignment", tag = "poolers",
    params(("id" = PoolerId, Path, description = "The pooler's name"), AwaitAssignment),
    responses(
        (status = 200, description = "All that it is to serve", body = Assignment),
        (status = 204, description = "Still what `after` was, and the time is over")))]
pub async fn assignment(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<PoolerId>,
    Query(query): Query<AwaitAssignment>,
) -> Answer<Response> {
    let wait = query.wait.unwrap_or(0);
    if wait > WAIT_MAX {
        return Err(Refused::field("wait", format!("{wait} is too long; use at most {WAIT_MAX} seconds")));
    }
    agent::require(&plane.core, &caller, &id).await?;
    let end = Instant::now() + Duration::from_secs(wait.into());
    let mut awake = plane.poolers.listen();
    loop {
        // Looked at before it is waited for: what is poked meanwhile is not missed.
        if let Some(revision) = look(&plane.core, &id).await?.filter(|now| Some(now) != query.after.as_ref()) {
            return Ok(Json(read(&plane.core, &id, revision).await?).into_response());
        }
        if Instant::now() >= end || plane.poolers.is_closed() {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        tokio::select! {
            () = awake.poked() => {}
            () = tokio::time::sleep_until(end.min(Instant::now() + LOOK)) => {}
        }
    }
}

/// The revision as of now, once what was marked is in a generation.
pub(super) async fn look(core: &Core, id: &PoolerId) -> Answer<Option<String>> {
    let mut now = store::look(&core.store, id.as_str()).await?.ok_or_else(|| list::not_found(id))?;
    if now.marked && raise::raise(&core.store, id.as_str()).await? {
        core.poolers.poke();
        now = store::look(&core.store, id.as_str()).await?.ok_or_else(|| list::not_found(id))?;
    }
    Ok(Some(match now.pauses {
        Some(pauses) => format!("{}-{pauses}", now.generation),
        None => now.generation.to_string(),
    }))
}

async fn read(core: &Core, id: &PoolerId, revision: String) -> Answer<Assignment> {
    let (Wanted { generation, served }, pauses) = wanted(core, id).await?;
    let served = serde_json::to_value(served);
    let served = served.map_err(|error| Refused::internal("write what a pooler serves", &error))?;
    Ok(Assignment { revision, generation, served, pauses })
}

/// All that is wanted of it now.
pub(super) async fn wanted(core: &Core, id: &PoolerId) -> Answer<(Wanted, Vec<PauseWanted>)> {
    let (generation, rows) = store::entries(&core.store, id.as_str()).await?.ok_or_else(|| list::not_found(id))?;
    let generation = u64::try_from(generation).unwrap_or(0);
    let wanted = Wanted { generation, served: render::served(&core.settings, &rows) };
    Ok((wanted, pauses::wanted(&core.store, id.as_str()).await?))
}
