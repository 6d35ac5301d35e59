//! `…/move`: begins a move, its way back, or its end, and says how it stands.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use freehold_api::OperationId;
use freehold_api::id::TenantId;
use freehold_api::movability::{JudgeMovability, MoveMethod, MoveTo};
use freehold_api::moving::{
    FinishMove as Finish, KEEP_MAX_SECONDS, MoveDigests, MoveTenant, STALL_MAX_SECONDS, STALL_SECONDS,
    STOP_MAX_SECONDS, TenantMove,
};
use freehold_api::operation::Operation as OperationBody;
use freehold_api::problem::Code;
use freehold_api::tenant::Tenant;
use freehold_durable::{Engine, New, Started};
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::finish::{self, FinishMove};
use super::rollback::{self, RollBack};
use super::store::{self, MoveRow};
use super::{DEADLINE, How, KIND, Move, Step};
use crate::audit::record::{Actor, Event};
use crate::http::access::Caller;
use crate::http::extract::{Id, Json};
use crate::http::problem::Refused;
use crate::http::request::Wait;
use crate::plane::{Answer, Plane};
use crate::server::store as servers;
use crate::tenant::change;
use crate::tenant::movability::{movability, target};
use crate::tenant::store::TenantRow;

/// For an attempt to reach a server that does not answer, which its connection gives up after 30 s.
const END: Duration = Duration::from_secs(45);

/// Move a tenant to another server, while it is written to or by dump and restore; with dry_run, say what that would take
#[utoipa::path(post, path = "/v1/tenants/{id}/move", tag = "tenants", params(("id" = TenantId, Path, description = "The tenant's id")),
    request_body = MoveTenant,
    responses(
        (status = 200, description = "The tenant, moved (or, with dry_run, its movability)", body = Tenant),
        (status = 202, description = "It is on its way; look at the operation", body = OperationBody)))]
pub async fn begin(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<TenantId>,
    Wait(wait): Wait,
    Json(body): Json<MoveTenant>,
) -> Answer<Response> {
    let how = how(&plane, &body)?;
    if body.dry_run.unwrap_or(false) {
        let judged = movability(State(plane), caller, Id(id), Json(JudgeMovability { to: Some(body.to) })).await?;
        return Ok(judged.into_response());
    }
    if let MoveTo::Plan(plan) = &body.to {
        return Err(to_plan("to.plan", &id, plan.as_str()));
    }
    let row = change::find(&plane, &id).await?;
    let at = match row.server_id.as_deref() {
        Some(server) => servers::find(&plane.store, server).await?,
        None => None,
    };
    let Some(at) = at else {
        let detail = format!("tenant {id} is {} and has no database yet", row.state);
        return Err(Refused::new(Code::WrongState, detail));
    };
    let goal = target::resolve(&plane.core, &row, &at, &body.to).await?;
    if let target::Goal::Plan(plan) = &goal {
        return Err(to_plan("to.name", &id, plan));
    }
    let mut tx = plane.store.begin().await?;
    let details = json!({"to": body.to, "from": at.id, "method": how.method});
    let started = begin_in(&mut tx, &plane.engine, &id, Asked { goal, how, details }, &caller.actor()).await?;
    tx.commit().await?;
    change::finish(&plane, &id, "move", started, wait).await
}

/// A move, as a person or a drain asks for it.
pub struct Asked {
    pub goal: target::Goal,
    pub how: How,
    /// For the audit.
    pub details: Value,
}

/// In the caller's transaction. What is refused has changed nothing in it.
pub async fn begin_in(
    tx: &mut PgConnection,
    engine: &Engine,
    id: &TenantId,
    asked: Asked,
    actor: &Actor,
) -> Answer<Started> {
    let Asked { goal, how, details } = asked;
    let row = change::lock_idle(&mut *tx, id).await?;
    require_here(&row, "moved")?;
    refuse_kept_side(tx, id.as_str()).await?;
    let step = Step::Reserve { goal, how };
    let new = New { deadline: Some(DEADLINE), ..change::new::<Move>(KIND, id.as_str(), step, actor) };
    let started = change::started(id.as_str(), engine.start::<Move>(&mut *tx, new).await)?;
    let event = Event::done(actor, "tenant.move.begin", format!("tenant:{id}"));
    event.with(details).save(tx).await?;
    Ok(started)
}

fn to_plan(field: &str, id: &TenantId, plan: &str) -> Refused {
    let message = format!("{plan} is a plan, and a move leaves the tenant its own: freehold tenant plan {id} {plan}");
    Refused::field(field, message)
}

/// How a tenant's move stands
#[utoipa::path(get, path = "/v1/tenants/{id}/move", tag = "tenants", params(("id" = TenantId, Path, description = "The tenant's id")),
    responses((status = 200, description = "The move that is going on, or whose former side is kept", body = TenantMove)))]
pub async fn show(State(plane): State<Plane>, Id(id): Id<TenantId>) -> Answer<Json<TenantMove>> {
    let tenant = change::find(&plane, &id).await?;
    let row = store::find(&plane.store, id.as_str()).await?.ok_or_else(|| none(&id))?;
    let bad = |_| Refused::new(Code::Internal, "an id in the store is no id");
    let serves = if row.is_flipped() { &row.to_server } else { &row.from_server };
    Ok(Json(TenantMove {
        serves: serves.parse().map_err(bad)?,
        from: row.from_server.parse().map_err(bad)?,
        to: row.to_server.parse().map_err(bad)?,
        moved_at: row.flipped_at.map(jiff_sqlx::Timestamp::to_jiff),
        stall_ms: row.stall_ms.and_then(|millis| u32::try_from(millis).ok()),
        digests: row.digests.as_deref().and_then(MoveDigests::called),
        follows: row.follows,
        method: MoveMethod::called(&row.method).unwrap_or_default(),
        keep_until: row.keep_until.map(jiff_sqlx::Timestamp::to_jiff),
        operation: tenant.operation.map(OperationId),
        tenant: id,
    }))
}

/// Move a tenant back to where it came from, with all that it wrote since
#[utoipa::path(post, path = "/v1/tenants/{id}/move/rollback", tag = "tenants", params(("id" = TenantId, Path, description = "The tenant's id")),
    responses(
        (status = 200, description = "The tenant, back", body = Tenant),
        (status = 202, description = "It is on its way; look at the operation", body = OperationBody)))]
pub async fn roll_back(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<TenantId>,
    Wait(wait): Wait,
) -> Answer<Response> {
    let actor = caller.actor();
    let mut tx = plane.store.begin().await?;
    let kept = kept(&mut tx, &id).await?;
    if !kept.follows {
        let (why, how) = match kept.is_dump() {
            true => ("it was moved by dump and restore, which nothing follows", " --method dump"),
            false => ("it does not follow any more", ""),
        };
        let detail = format!(
            "server {from} does not have what tenant {id} wrote since it was moved ({why}), so there is no way back: end this \
             move (freehold tenant move {id} --finish), then move it there anew (freehold tenant move {id} --to server:{from}{how})",
            from = kept.from_server
        );
        return Err(Refused::new(Code::WrongState, detail));
    }
    let keep_seconds = plane.settings.tenants.move_grace_seconds;
    let how = How { stall_ms: STALL_SECONDS * 1000, keep_seconds, method: MoveMethod::Logical };
    let step = rollback::Step::Sync { how };
    let new = change::new::<RollBack>(rollback::KIND, id.as_str(), step, &actor);
    let new = New { deadline: Some(rollback::DEADLINE), ..new };
    let started = change::started(id.as_str(), plane.engine.start::<RollBack>(&mut tx, new).await)?;
    Event::done(&actor, "tenant.roll_back_move.begin", format!("tenant:{id}")).save(&mut *tx).await?;
    tx.commit().await?;
    change::finish(&plane, &id, "move back", started, wait).await
}

/// End a move's grace now: what the tenant had on its former server is dropped, and with it the way back
#[utoipa::path(post, path = "/v1/tenants/{id}/move/finish", tag = "tenants", params(("id" = TenantId, Path, description = "The tenant's id")),
    request_body = Option<Finish>,
    responses(
        (status = 200, description = "The tenant, on one server alone", body = Tenant),
        (status = 202, description = "It is on its way; look at the operation", body = OperationBody)))]
pub async fn finish(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<TenantId>,
    Wait(wait): Wait,
    Json(body): Json<Finish>,
) -> Answer<Response> {
    let abandon = body.abandon.unwrap_or(false);
    if abandon {
        let named_twice = body.confirm.as_deref() == Some(id.as_str());
        if !named_twice {
            let detail = format!(
                "abandoning leaves on the former server what tenant {id} had there: name it again with \"confirm\": \"{id}\" (--confirm {id})"
            );
            return Err(Refused::new(Code::ConfirmationRequired, detail));
        }
        change::find(&plane, &id).await?;
        end_waiting(&plane, &id).await?;
    }
    let step = if abandon { finish::Step::Sever } else { finish::Step::Unlink };
    let actor = caller.actor();
    let mut tx = plane.store.begin().await?;
    kept(&mut tx, &id).await?;
    let new = change::new::<FinishMove>(finish::KIND, id.as_str(), step, &actor);
    let new = New { deadline: Some(finish::DEADLINE), ..new };
    let started = change::started(id.as_str(), plane.engine.start::<FinishMove>(&mut tx, new).await)?;
    let event = Event::done(&actor, "tenant.finish_move.begin", format!("tenant:{id}"));
    event.with(json!({"abandon": abandon})).save(&mut *tx).await?;
    tx.commit().await?;
    change::finish(&plane, &id, "end the move of", started, wait).await
}

/// What is at work on it waits for the very server that is given up, and for nothing else: its end, or that of a way back that
/// was taken.
async fn end_waiting(plane: &Plane, id: &TenantId) -> Answer<()> {
    let Some(operation) = change::find(plane, id).await?.operation else { return Ok(()) };
    let Some(at_work) = plane.engine.get(operation).await? else { return Ok(()) };
    let waits = match at_work.kind.as_str() {
        finish::KIND => at_work.step_name != "Sever",
        rollback::KIND => ["Unlink", "Drop"].contains(&at_work.step_name.as_str()),
        _ => false,
    };
    if waits && plane.engine.cancel(operation).await.is_ok() {
        plane.engine.wait(operation, END).await?;
    }
    Ok(())
}

/// The move whose former side is kept, of a tenant that nobody is at work on.
async fn kept(tx: &mut PgConnection, id: &TenantId) -> Answer<MoveRow> {
    let row = change::lock_idle(tx, id).await?;
    require_here(&row, "moved back, nor its move ended")?;
    store::find(tx, id.as_str()).await?.ok_or_else(|| none(id))
}

fn none(id: &TenantId) -> Refused {
    Refused::new(Code::NotFound, format!("tenant {id} is not being moved, and nothing of a move of it is kept"))
}

/// In this state. What is deleted may be purged at any time.
pub fn can_move(state: &str) -> bool {
    ["active", "suspended"].contains(&state)
}

fn require_here(row: &TenantRow, verb: &str) -> Answer<()> {
    match can_move(&row.state) {
        true => Ok(()),
        false => Err(change::wrong_state(&row.id, &row.state, verb, "an active or a suspended tenant")),
    }
}

/// Where the side is that does not serve.
fn other(row: &MoveRow) -> &str {
    if row.is_flipped() { &row.from_server } else { &row.to_server }
}

/// One move at a time, its grace included.
pub async fn refuse_kept_side(store: &mut PgConnection, id: &str) -> Answer<()> {
    let Some(kept) = store::find(store, id).await? else { return Ok(()) };
    let detail = format!(
        "tenant {id} was moved, and what it has on server {} is still kept: end that first (freehold tenant move {id} --finish)",
        other(&kept)
    );
    Err(Refused::new(Code::WrongState, detail))
}

/// What is deleted may be purged, and nothing may be left of it anywhere.
pub async fn refuse_kept(tx: &mut PgConnection, id: &TenantId, verb: &str) -> Answer<()> {
    let Some(kept) = store::find(tx, id.as_str()).await? else { return Ok(()) };
    let detail = format!(
        "tenant {id} cannot be {verb} while what it had on server {} is kept: first freehold tenant move {id} --finish",
        other(&kept)
    );
    Err(Refused::new(Code::WrongState, detail))
}

fn how(plane: &Plane, body: &MoveTenant) -> Answer<How> {
    let method = body.method.unwrap_or_default();
    let (usual, most, why) = match method {
        MoveMethod::Logical => (STALL_SECONDS, STALL_MAX_SECONDS, "everybody waits for so long"),
        // By what it is judged to take.
        MoveMethod::Dump => (0, STOP_MAX_SECONDS, "nobody can write for so long"),
    };
    if body.deadline_seconds.is_some_and(|seconds| !(1..=most).contains(&seconds)) {
        return Err(Refused::field("deadline_seconds", format!("use 1 to {most}: {why}")));
    }
    let stall = body.deadline_seconds.unwrap_or(usual);
    let keep_seconds = body.keep_seconds.unwrap_or(plane.settings.tenants.move_grace_seconds);
    if keep_seconds > KEEP_MAX_SECONDS {
        return Err(Refused::field("keep_seconds", format!("use at most {KEEP_MAX_SECONDS} (90 days)")));
    }
    Ok(How { stall_ms: stall * 1000, keep_seconds, method })
}
