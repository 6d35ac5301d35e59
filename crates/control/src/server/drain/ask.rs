//! `…/drain`: begins a drain, or says what one would do, and how it stands.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use freehold_api::drain::{AT_ONCE, AT_ONCE_MAX, DrainOrder, DrainServer, DrainTenant, ServerDrain};
use freehold_api::id::{OperationId, ServerId};
use freehold_api::moving::KEEP_MAX_SECONDS;
use freehold_api::operation::Operation as OperationBody;
use freehold_api::problem::Code;
use freehold_durable::{New, StartError, State as OpState};
use serde_json::json;

use super::check::{self, CheckDrain};
use super::store;
use super::{DEADLINE, Drain, KIND, Step, Wanted, subject};
use crate::audit::record::Event;
use crate::http::access::Caller;
use crate::http::extract::{Id, Json};
use crate::http::problem::Refused;
use crate::http::request::Wait;
use crate::operation::answer;
use crate::plane::{Answer, Plane};
use crate::server::store::{self as servers, ServerRow};
use crate::server::{change, list};
use crate::tenant::movability::target::{self, Goal};
use crate::tenant::{change as tenants, report};

/// Cordon a server and move all its tenants elsewhere; with dry_run, say who would go where, and who could not
#[utoipa::path(post, path = "/v1/servers/{id}/drain", tag = "servers", params(("id" = ServerId, Path, description = "The server's name")),
    request_body = Option<DrainServer>,
    responses(
        (status = 200, description = "It is empty (or, with dry_run, what would be done)", body = ServerDrain),
        (status = 202, description = "Its tenants are on their way; look at the operation", body = OperationBody)))]
pub async fn begin(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<ServerId>,
    Wait(wait): Wait,
    Json(body): Json<DrainServer>,
) -> Answer<Response> {
    let at = list::row(&plane.core, &id).await?;
    require_drainable(&id, &at)?;
    let wanted = wanted(&plane, &at, &body).await?;
    let actor = caller.actor();
    if body.dry_run.unwrap_or(false) {
        let step = check::Step::Look { server: id.clone(), wanted };
        let started = report::start::<CheckDrain>(&plane, "server.drain_check", step, &actor, None).await?;
        let found: ServerDrain =
            report::read_about(&plane, "look at the drain", &format!("server {id}"), started).await?;
        return Ok(Json(found).into_response());
    }
    let mut tx = plane.store.begin().await?;
    require_drainable(&id, &change::lock(&mut tx, &id).await?)?;
    if servers::set_state(&mut tx, id.as_str(), &["active"], "cordoned", None).await? {
        Event::done(&actor, "server.cordon", format!("server:{id}")).save(&mut *tx).await?;
    }
    let new = change::new(KIND, &id, Step::Move { wanted }, &actor);
    let new = New { deadline: Some(DEADLINE), subject: Some(subject(id.as_str())), ..new };
    let started = plane.engine.start::<Drain>(&mut tx, new).await.map_err(|error| match error {
        StartError::Busy { operation, .. } => Refused::new(
            Code::Busy,
            format!("operation {operation} is draining server {id}: wait for it, or cancel it"),
        ),
        StartError::Store(error) => error.into(),
    })?;
    store::begin(&mut tx, id.as_str(), started.id).await?;
    let event = Event::done(&actor, "server.drain.begin", format!("server:{id}"));
    event.with(json!(body)).save(&mut *tx).await?;
    change::commit_room(&plane, tx).await?;
    let operation = started.id;
    plane.engine.go(started);
    match plane.engine.wait(operation, wait).await? {
        Some(row) if row.state == OpState::Succeeded => Ok(Json(stands(&plane, &id).await?).into_response()),
        Some(row) if row.state.is_over() => Err(tenants::refused_by(&format!("drain server {id}"), &row)),
        _ => Ok(answer::accepted(answer::find(&plane, OperationId(operation)).await?)),
    }
}

/// How a server's drain stands: who is elsewhere, who is on the way, and who is left with what reason
#[utoipa::path(get, path = "/v1/servers/{id}/drain", tag = "servers", params(("id" = ServerId, Path, description = "The server's name")),
    responses((status = 200, description = "The newest drain of the server", body = ServerDrain)))]
pub async fn show(State(plane): State<Plane>, Id(id): Id<ServerId>) -> Answer<Json<ServerDrain>> {
    Ok(Json(stands(&plane, &id).await?))
}

async fn stands(plane: &Plane, id: &ServerId) -> Answer<ServerDrain> {
    list::row(&plane.core, id).await?;
    let none = || Refused::new(Code::NotFound, format!("server {id} was not drained: freehold server drain {id}"));
    let operation = store::operation(&plane.store, id.as_str()).await?.ok_or_else(none)?;
    let rows = store::rows(&plane.store, id.as_str(), DrainOrder::Largest).await?;
    let tenants: Vec<DrainTenant> = rows.iter().filter_map(|row| row.shown(id)).collect();
    let stock = store::stock(&plane.store, id.as_str()).await?;
    let state = plane.engine.get(operation).await?.map(|row| answer::state(row.state));
    Ok(ServerDrain {
        operation: Some(OperationId(operation)),
        state,
        stock: u32::try_from(stock).unwrap_or(u32::MAX),
        ..ServerDrain::of(id.clone(), tenants)
    })
}

fn require_drainable(id: &ServerId, row: &ServerRow) -> Answer<()> {
    match row.state.as_str() {
        "active" | "cordoned" => Ok(()),
        state => Err(change::wrong_state(id, state, "drained", "an active or a cordoned server")),
    }
}

async fn wanted(plane: &Plane, at: &ServerRow, body: &DrainServer) -> Answer<Wanted> {
    let at_once = body.at_once.unwrap_or(AT_ONCE);
    if !(1..=AT_ONCE_MAX).contains(&at_once) {
        return Err(Refused::field("at_once", format!("use 1 to {AT_ONCE_MAX}")));
    }
    let keep_seconds = body.keep_seconds.unwrap_or(plane.settings.tenants.move_grace_seconds);
    if keep_seconds > KEEP_MAX_SECONDS {
        return Err(Refused::field("keep_seconds", format!("use at most {KEEP_MAX_SECONDS} (90 days)")));
    }
    let goal = match &body.to {
        None => Goal::Elsewhere,
        Some(to) => {
            let (goal, field) = target::find(&plane.core, to).await?;
            match &goal {
                Goal::Plan(plan) => {
                    let message =
                        format!("{plan} is a plan, and tenants keep theirs: name a server, a pool or a region");
                    return Err(Refused::field(field, message));
                }
                Goal::Server(id) if *id == at.id => {
                    return Err(Refused::field(field, format!("server {id} is the one that is drained: name another")));
                }
                // The others of its own pool or region are meant.
                Goal::Server(_) | Goal::ServerPool(_) | Goal::Region(_) | Goal::Elsewhere => goal,
            }
        }
    };
    Ok(Wanted { goal, at_once, order: body.order.unwrap_or_default(), keep_seconds })
}
