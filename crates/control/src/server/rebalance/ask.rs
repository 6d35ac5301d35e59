//! `/v1/rebalance`: what would even servers out; does it, and says how it stands.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use freehold_api::drain::{AT_ONCE, AT_ONCE_MAX};
use freehold_api::id::OperationId;
use freehold_api::moving::KEEP_MAX_SECONDS;
use freehold_api::operation::Operation as OperationBody;
use freehold_api::problem::Code;
use freehold_api::rebalance::{
    MAX_MOVES, Rebalance as Body, RebalanceMove, RebalanceRun, RebalanceServers, SuggestRebalance, TOLERANCE_PERCENT,
};
use freehold_durable::{New, StartError, State as OpState};
use serde_json::json;

use super::store;
use super::suggest::{Asked, suggest};
use super::{DEADLINE, KIND, Rebalance, SUBJECT, Step, Wanted};
use crate::audit::record::Event;
use crate::http::access::Caller;
use crate::http::extract::{Json, Query, text};
use crate::http::problem::Refused;
use crate::http::request::Wait;
use crate::operation::answer;
use crate::plane::{Answer, Plane};
use crate::tenant::change;

/// Who would move so that servers come to be even, and how the newest rebalance stands
#[utoipa::path(get, path = "/v1/rebalance", tag = "servers", params(SuggestRebalance),
    responses((status = 200, description = "What would be done now; nothing is begun", body = Body)))]
pub async fn show(State(plane): State<Plane>, Query(query): Query<SuggestRebalance>) -> Answer<Json<Body>> {
    let asked = asked(&plane, &query).await?;
    Ok(Json(stands(&plane, &asked).await?))
}

/// Move tenants so that servers come to be even: what `GET` suggests, a few at a time
#[utoipa::path(post, path = "/v1/rebalance", tag = "servers", request_body = RebalanceServers,
    responses(
        (status = 200, description = "They are even, or as even as they can be", body = Body),
        (status = 202, description = "Tenants are on their way; look at the operation", body = OperationBody)))]
pub async fn begin(
    State(plane): State<Plane>,
    caller: Caller,
    Wait(wait): Wait,
    Json(body): Json<RebalanceServers>,
) -> Answer<Response> {
    let asked = asked(&plane, &body.suggestion()).await?;
    let wanted = wanted(&plane, &body)?;
    let suggestion = suggest(&plane.core, &asked).await?;
    if body.confirm != Some(true) {
        let detail = format!(
            "{} tenants would be moved, of {} bytes (GET /v1/rebalance says who, and where to): send \"confirm\": true \
             (freehold server rebalance --apply)",
            suggestion.moves.len(),
            suggestion.bytes
        );
        return Err(Refused::new(Code::ConfirmationRequired, detail));
    }
    let actor = caller.actor();
    let mut tx = plane.store.begin().await?;
    let new = New {
        subject: Some(SUBJECT.to_owned()),
        requested_by: Some(actor.reference.clone()),
        request_id: actor.request.clone(),
        deadline: Some(DEADLINE),
        ..New::of(KIND, Step::Move { wanted })
    };
    let started = plane.engine.start::<Rebalance>(&mut tx, new).await.map_err(|error| match error {
        StartError::Busy { operation, .. } => {
            Refused::new(Code::Busy, format!("operation {operation} is evening servers out: wait for it, or cancel it"))
        }
        StartError::Store(error) => error.into(),
    })?;
    store::begin(&mut tx, started.id, &suggestion.moves).await?;
    let event = Event::done(&actor, "server.rebalance.begin", "fleet");
    let moves: Vec<_> = suggestion.moves.iter().map(|one| json!([one.tenant, one.from, one.to])).collect();
    event.with(json!({"asked": body, "moves": moves})).save(&mut *tx).await?;
    tx.commit().await?;
    let operation = started.id;
    plane.engine.go(started);
    match plane.engine.wait(operation, wait).await? {
        Some(row) if row.state == OpState::Succeeded => Ok(Json(stands(&plane, &asked).await?).into_response()),
        Some(row) if row.state.is_over() => Err(change::refused_by("even servers out", &row)),
        _ => Ok(answer::accepted(answer::find(&plane, OperationId(operation)).await?)),
    }
}

async fn stands(plane: &Plane, asked: &Asked) -> Answer<Body> {
    let suggestion = suggest(&plane.core, asked).await?;
    let newest = match store::operation(&plane.store).await? {
        Some(operation) => {
            let moves: Vec<RebalanceMove> =
                store::rows(&plane.store).await?.iter().filter_map(store::Sent::shown).collect();
            let state = plane.engine.get(operation).await?.map(|row| answer::state(row.state));
            Some(RebalanceRun::of(OperationId(operation), state, moves))
        }
        None => None,
    };
    Ok(Body {
        groups: suggestion.groups,
        moves: suggestion.moves,
        bytes: suggestion.bytes,
        seconds: suggestion.seconds,
        newest,
    })
}

async fn asked(plane: &Plane, of: &SuggestRebalance) -> Answer<Asked> {
    if let Some(pool) = &of.pool
        && !plane.settings.server_pools.iter().any(|known| known.name == *pool)
    {
        return Err(Refused::field("pool", format!("there is no server pool {pool} in the settings")));
    }
    if let Some(region) = &of.region {
        text("region", region, 63)?;
        let fleet = plane.fleet.rows(&plane.store).await?;
        if !fleet.iter().any(|server| server.row.region.as_ref() == Some(region)) {
            let message = format!("no server is in region {}", freehold_api::id::shown(region));
            return Err(Refused::field("region", message));
        }
    }
    let tolerance_percent = of.tolerance_percent.unwrap_or(TOLERANCE_PERCENT);
    if !(1..=100).contains(&tolerance_percent) {
        return Err(Refused::field("tolerance_percent", "use 1 to 100"));
    }
    let max_moves = of.max_moves.unwrap_or(MAX_MOVES);
    if !(1..=MAX_MOVES).contains(&max_moves) {
        return Err(Refused::field("max_moves", format!("use 1 to {MAX_MOVES}")));
    }
    if of.max_bytes.is_some_and(|bytes| i64::try_from(bytes).is_err()) {
        return Err(Refused::field("max_bytes", format!("use at most {} bytes", i64::MAX)));
    }
    Ok(Asked {
        pool: of.pool.as_ref().map(ToString::to_string),
        region: of.region.clone(),
        tolerance_percent,
        max_moves: usize::try_from(max_moves).unwrap_or(1),
        max_bytes: of.max_bytes.unwrap_or(u64::MAX),
        protected: of.protected.unwrap_or(false),
    })
}

fn wanted(plane: &Plane, body: &RebalanceServers) -> Answer<Wanted> {
    let at_once = body.at_once.unwrap_or(AT_ONCE);
    if !(1..=AT_ONCE_MAX).contains(&at_once) {
        return Err(Refused::field("at_once", format!("use 1 to {AT_ONCE_MAX}")));
    }
    let keep_seconds = body.keep_seconds.unwrap_or(plane.settings.tenants.move_grace_seconds);
    if keep_seconds > KEEP_MAX_SECONDS {
        return Err(Refused::field("keep_seconds", format!("use at most {KEEP_MAX_SECONDS} (90 days)")));
    }
    Ok(Wanted { at_once, keep_seconds })
}
