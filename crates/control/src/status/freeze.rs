//! The brake: stops loops and operations, never logins or creates from stock.

use axum::extract::{RawPathParams, State};
use axum::http::StatusCode;
use freehold_api::page::{Page, Paging};
use freehold_api::problem::Code;
use freehold_api::status::{Freeze, SetFreeze};

use crate::audit::record::Event;
use crate::http::access::Caller;
use crate::http::extract::{Json, Query, limit};
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};

pub async fn all(plane: &Plane) -> Answer<Vec<Freeze>> {
    let rows = plane.engine.frozen().await?;
    let shown =
        rows.into_iter().map(|row| Freeze { target: row.target, until: row.until, by: row.by.unwrap_or_default() });
    Ok(shown.collect())
}

/// List what is frozen
#[utoipa::path(get, path = "/v1/freezes", tag = "status", params(Paging),
    responses((status = 200, description = "What does not run now; always one page", body = Page<Freeze>)))]
pub async fn list(State(plane): State<Plane>, Query(query): Query<Paging>) -> Answer<Json<Page<Freeze>>> {
    let limit = usize::try_from(limit(query.limit)?).unwrap_or(usize::MAX);
    if query.cursor.is_some() {
        return Err(Refused::field("cursor", "this list is always one page"));
    }
    Ok(Json(Page { items: all(&plane).await?.into_iter().take(limit).collect(), next_cursor: None }))
}

/// Stop a loop, all operations, or everything
#[utoipa::path(post, path = "/v1/freezes", tag = "status", request_body = SetFreeze,
    responses((status = 201, description = "It is frozen", body = Freeze)))]
pub async fn freeze(
    State(plane): State<Plane>,
    caller: Caller,
    Json(body): Json<SetFreeze>,
) -> Answer<(StatusCode, Json<Freeze>)> {
    let target = known(&plane, &body.target)?;
    if !(1..=31_536_000).contains(&body.for_seconds.unwrap_or(1)) {
        return Err(Refused::field("for_seconds", "use 1 to 31536000 (a year), or leave it out: until thawed"));
    }
    let period = body.for_seconds.map(std::time::Duration::from_secs);
    plane.engine.freeze(&target, period, Some(&caller.name)).await?;
    let details = serde_json::json!({"for_seconds": body.for_seconds});
    Event::done(&caller.actor(), "freeze", format!("loop:{target}")).with(details).save(&plane.store).await?;
    let frozen = all(&plane).await?.into_iter().find(|freeze| freeze.target == target);
    let frozen = frozen.unwrap_or(Freeze { target, until: None, by: caller.name.clone() });
    Ok((StatusCode::CREATED, Json(frozen)))
}

/// Let it run again
#[utoipa::path(delete, path = "/v1/freezes/{target}", tag = "status", params(("target" = String, Path, description = "What was frozen")),
    responses((status = 204, description = "It runs")))]
pub async fn thaw(State(plane): State<Plane>, caller: Caller, params: RawPathParams) -> Answer<StatusCode> {
    let target = params.iter().next().map(|(_, target)| target.to_owned()).unwrap_or_default();
    let target = known(&plane, &target)?;
    plane.engine.thaw(&target).await?;
    Event::done(&caller.actor(), "thaw", format!("loop:{target}")).save(&plane.store).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn known(plane: &Plane, target: &str) -> Answer<String> {
    let mut names = plane.engine.loop_names();
    names.extend(["operations", "all"]);
    if names.contains(&target) {
        return Ok(target.to_owned());
    }
    let detail = format!("{} cannot be frozen; there are: {}", freehold_api::id::shown(target), names.join(", "));
    Err(Refused::new(Code::NotFound, detail))
}
