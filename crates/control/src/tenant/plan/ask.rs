//! `…/plan`: gives a tenant another plan, now or at a time; takes back what is kept for one.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use freehold_api::id::TenantId;
use freehold_api::movability::{JudgeMovability, MoveTo};
use freehold_api::operation::Operation as OperationBody;
use freehold_api::plan_change::{ChangePlan, ChangedPlan, PlanObstacle, PlanPreview};
use freehold_api::problem::Code;
use freehold_api::tenant::Tenant;
use freehold_durable::Started;
use serde_json::json;

use super::judge::{Judged, judge};
use super::store::{self, Kept};
use super::{begin, set};
use crate::audit::record::{Actor, Event};
use crate::http::access::Caller;
use crate::http::extract::{Id, Json};
use crate::http::problem::Refused;
use crate::http::request::Wait;
use crate::plane::{Answer, Plane};
use crate::tenant::movability::movability;
use crate::tenant::moving::ask as moving;
use crate::tenant::store::{self as tenants, TenantRow};
use crate::tenant::{change, create};

/// Give a tenant another plan, now or at a time; it moves where the plan wants another kind of server
#[utoipa::path(post, path = "/v1/tenants/{id}/plan", tag = "tenants", params(("id" = TenantId, Path, description = "The tenant's id")),
    request_body = ChangePlan,
    responses(
        (status = 200, description = "The tenant, with the plan, or with the change that is kept (or, with dry_run, what it would take)", body = ChangedPlan),
        (status = 202, description = "It is on its way; look at the operation", body = OperationBody)))]
pub async fn change(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<TenantId>,
    Wait(wait): Wait,
    Json(body): Json<ChangePlan>,
) -> Answer<Response> {
    let to = create::plan_of(&plane.core, Some(&body.plan))?;
    let now = store::now(&plane.store).await?;
    let at = body.at.filter(|at| *at > now);
    let row = change::find(&plane, &id).await?;
    let mut judged = judge(&plane.core, &row, to, body.over_quota.unwrap_or(false)).await?;
    if body.dry_run.unwrap_or(false) {
        let preview = preview(&plane, caller, &id, &row, judged, at).await?;
        return Ok(Json(preview).into_response());
    }
    judged.require(at.is_none())?;
    let actor = caller.actor();
    let Some(at) = at else {
        let started = start(&plane, &id, &row, &judged, &actor).await?;
        let failed = match change::finish(&plane, &id, "change the plan of", started, wait).await {
            Ok(answer) => return Ok(answer),
            Err(refused) => refused,
        };
        // Once the other server serves nothing takes the plan back, whatever becomes of the rest: it is told how it stands.
        let row = change::find(&plane, &id).await?;
        return if row.plan == to.name.as_str() { Ok(change::shown(row)) } else { Err(failed) };
    };
    let mut tx = plane.store.begin().await?;
    let locked = tenants::lock(&mut tx, id.as_str()).await?.ok_or_else(|| change::not_found(&id))?;
    require_as_seen(&row, &locked)?;
    require_no_change_in_flight(&mut tx, &locked).await?;
    let over_quota = body.over_quota.unwrap_or(false);
    let kept = Kept { plan: to.name.as_str(), step: judged.step, at, over_quota, by: &actor.reference };
    store::keep(&mut tx, id.as_str(), &kept).await?;
    let event = Event::done(&actor, "tenant.plan.schedule", format!("tenant:{id}"));
    event.with(json!({"from": row.plan, "to": to.name, "at": at})).save(&mut *tx).await?;
    let row = tenants::find(&mut *tx, id.as_str()).await?.ok_or_else(|| change::not_found(&id))?;
    tx.commit().await?;
    Ok(change::shown(row))
}

/// Also what edges call, which have judged it: it begins now.
pub async fn start(
    plane: &Plane,
    id: &TenantId,
    seen: &TenantRow,
    judged: &Judged<'_>,
    actor: &Actor,
) -> Answer<Started> {
    let mut tx = plane.store.begin().await?;
    let row = change::lock_idle(&mut tx, id).await?;
    require_as_seen(seen, &row)?;
    if judged.moves {
        moving::refuse_kept_side(&mut tx, id.as_str()).await?;
    }
    let begun = begin::begin(&plane.core, &plane.engine, &mut tx, &row, judged.to, judged.moves, actor).await;
    let started = change::started(id.as_str(), begun)?;
    tx.commit().await?;
    Ok(started)
}

/// Take back the change of plan that is kept for its time
#[utoipa::path(delete, path = "/v1/tenants/{id}/plan", tag = "tenants", params(("id" = TenantId, Path, description = "The tenant's id")),
    responses((status = 200, description = "The tenant, which keeps its plan", body = Tenant)))]
pub async fn cancel(State(plane): State<Plane>, caller: Caller, Id(id): Id<TenantId>) -> Answer<Response> {
    let mut tx = plane.store.begin().await?;
    let row = tenants::lock(&mut tx, id.as_str()).await?.ok_or_else(|| change::not_found(&id))?;
    let none = || Refused::new(Code::NotFound, format!("no change of plan is kept for tenant {id}"));
    let kept = store::find(&mut tx, id.as_str()).await?.ok_or_else(none)?;
    if let Some(operation) = row.operation.filter(|operation| kept.operation == Some(*operation)) {
        let detail = format!(
            "the change of tenant {id} to plan {} is being carried out: cancel that (freehold operation cancel {operation}), \
             then take it back",
            kept.plan
        );
        return Err(Refused::new(Code::Busy, detail));
    }
    store::forget(&mut tx, id.as_str()).await?;
    let event = Event::done(&caller.actor(), "tenant.plan.cancel", format!("tenant:{id}"));
    event.with(json!({"plan": kept.plan})).save(&mut *tx).await?;
    let row = tenants::find(&mut *tx, id.as_str()).await?.ok_or_else(|| change::not_found(&id))?;
    tx.commit().await?;
    Ok(change::shown(row))
}

/// What was judged is what is locked.
fn require_as_seen(seen: &TenantRow, row: &TenantRow) -> Answer<()> {
    if (&row.plan, &row.server_id, &row.state) == (&seen.plan, &seen.server_id, &seen.state) {
        return Ok(());
    }
    Err(Refused::new(Code::Busy, format!("tenant {} changed meanwhile; send the same request again", row.id)))
}

/// Whatever else works on the tenant leaves its plan as it is.
async fn require_no_change_in_flight(tx: &mut sqlx::PgConnection, row: &TenantRow) -> Answer<()> {
    match change::at_work(tx, row).await? {
        Some((operation, kind)) if kind == set::KIND || store::is_of_plan(&mut *tx, operation, &row.id).await? => {
            Err(change::busy(&row.id, operation, &kind))
        }
        Some(_) | None => Ok(()),
    }
}

async fn preview(
    plane: &Plane,
    caller: Caller,
    id: &TenantId,
    row: &TenantRow,
    judged: Judged<'_>,
    at: Option<jiff::Timestamp>,
) -> Answer<PlanPreview> {
    let Judged { to, step, moves, size_bytes, against, against_now, .. } = judged;
    let against = against.into_iter().chain(against_now.into_iter().filter(|_| at.is_none()));
    let against = against.map(|refused| if caller.tenants.is_some() { refused.without_fleet() } else { refused });
    let against: Vec<PlanObstacle> =
        against.map(|Refused(problem)| PlanObstacle { code: problem.code, message: problem.detail }).collect();
    let movability = match moves && caller.tenants.is_none() {
        true => {
            let body = JudgeMovability { to: Some(MoveTo::Plan(to.name.clone())) };
            let Json(found) = movability(State(plane.clone()), caller, Id(id.clone()), Json(body)).await?;
            Some(found)
        }
        false => None,
    };
    Ok(PlanPreview {
        tenant: id.clone(),
        from: plane.plan(&row.plan).name.clone(),
        to: to.name.clone(),
        step,
        at,
        moves,
        size_bytes,
        storage_quota: to.storage_quota,
        against,
        movability,
    })
}
