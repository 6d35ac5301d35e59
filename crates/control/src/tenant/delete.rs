//! Delete and undelete: `active | suspended | failed → deleted → its former state`. Deleting refuses the logins and begins
//! a grace period; nothing is destroyed until it ends. `?purge=true` destroys now.

use async_trait::async_trait;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use freehold_api::id::{OperationId, TenantId};
use freehold_api::operation::Operation as OperationBody;
use freehold_api::problem::Code;
use freehold_api::tenant::{DeleteTenant, Tenant, TenantState};
use freehold_durable::State as OpState;
use sqlx::PgConnection;

use super::purge::{Purge, PurgeStep};
use super::turn::{Step, Turn, Turning};
use super::{change, moving, store};
use crate::audit::record::Event;
use crate::http::access::Caller;
use crate::http::extract::{Id, Json, Query};
use crate::http::problem::Refused;
use crate::http::request::Wait;
use crate::operation::answer;
use crate::plane::{Answer, Plane};

/// Delete a tenant, or destroy it with ?purge=true
#[utoipa::path(delete, path = "/v1/tenants/{id}", tag = "tenants",
    params(("id" = TenantId, Path, description = "The tenant's id"), DeleteTenant),
    responses(
        (status = 200, description = "The tenant, deleted (or, with purge, the operation that destroyed it)", body = serde_json::Value),
        (status = 202, description = "It is on its way; look at the operation", body = OperationBody)))]
pub async fn delete(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<TenantId>,
    Query(query): Query<DeleteTenant>,
    Wait(wait): Wait,
) -> Answer<Response> {
    let purge = query.purge.unwrap_or(false);
    let mut tx = plane.store.begin().await?;
    let row = store::lock(&mut tx, id.as_str()).await?.ok_or_else(|| change::not_found(&id))?;
    if query.confirm.as_deref() != Some(id.as_str()) {
        let verb =
            if purge { "purging destroys its database, roles and secrets" } else { "deleting refuses its logins" };
        return Err(Refused::new(
            Code::ConfirmationRequired,
            format!("{verb}: name it again with ?confirm={id} (--confirm {id})"),
        ));
    }
    if row.deletion_protection {
        let detail = format!("tenant {id} is protected; first PATCH it with {{\"deletion_protection\": false}}");
        return Err(Refused::new(Code::DeletionProtected, detail));
    }
    change::require_idle(&mut tx, &row).await?;
    moving::ask::refuse_kept(&mut tx, &id, if purge { "purged" } else { "deleted" }).await?;
    match row.state() {
        TenantState::Active | TenantState::Suspended | TenantState::Failed => {}
        TenantState::Deleted if purge => {}
        TenantState::Deleted => return Ok(change::shown(row)),
        TenantState::Creating => {
            return Err(change::wrong_state(id.as_str(), &row.state, "deleted", "a tenant that is not being created"));
        }
    }
    if purge {
        store::delete(&mut tx, id.as_str(), 0).await?;
        let new = change::new::<Purge>("tenant.purge", id.as_str(), PurgeStep::Remove, &caller.actor());
        let started = change::started(id.as_str(), plane.engine.start::<Purge>(&mut tx, new).await)?;
        Event::done(&caller.actor(), "tenant.purge.begin", format!("tenant:{id}")).save(&mut *tx).await?;
        tx.commit().await?;
        let operation = started.id;
        plane.engine.go(started);
        let over = plane.engine.wait(operation, wait).await?.filter(|row| row.state.is_over());
        return match over {
            Some(row) if row.state == OpState::Succeeded => Ok(Json(answer::show(row)).into_response()),
            Some(row) => Err(change::refused_by(&format!("purge tenant {id}"), &row)),
            None => Ok(answer::accepted(answer::find(&plane, OperationId(operation)).await?)),
        };
    }
    let grace = plane.settings.tenants.deletion_grace_seconds;
    let step = Step::Refuse { reason: None, grace };
    let started = Turning::<Deleting>::start(&plane, &mut tx, id.as_str(), step, &caller.actor()).await?;
    tx.commit().await?;
    change::finish(&plane, &id, "delete", started, wait).await
}

/// Take a deleted tenant back, as it was
#[utoipa::path(post, path = "/v1/tenants/{id}/undelete", tag = "tenants", params(("id" = TenantId, Path, description = "The tenant's id")),
    responses(
        (status = 200, description = "The tenant, in its former state", body = Tenant),
        (status = 202, description = "Its server has not confirmed yet; look at the operation", body = OperationBody)))]
pub async fn undelete(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<TenantId>,
    Wait(wait): Wait,
) -> Answer<Response> {
    let mut tx = plane.store.begin().await?;
    let row = change::lock_idle(&mut tx, &id).await?;
    if row.purge_began_at.is_some() {
        let detail =
            format!("tenant {id} is being purged: its database may be gone already, so there is nothing to take back");
        return Err(Refused::new(Code::WrongState, detail));
    }
    match row.state() {
        TenantState::Deleted => {}
        TenantState::Active | TenantState::Suspended => return Ok(change::shown(row)),
        TenantState::Creating | TenantState::Failed => {
            return Err(change::wrong_state(id.as_str(), &row.state, "undeleted", "a deleted tenant"));
        }
    }
    let started = Turning::<Undeleting>::start(&plane, &mut tx, id.as_str(), Step::Admit, &caller.actor()).await?;
    tx.commit().await?;
    change::finish(&plane, &id, "undelete", started, wait).await
}

pub struct Deleting;

#[async_trait]
impl Turn for Deleting {
    const KIND: &'static str = "tenant.delete";
    const REFUSES: bool = true;

    async fn record(tx: &mut PgConnection, tenant: &str, step: &Step) -> sqlx::Result<()> {
        let grace = match step {
            Step::Refuse { grace, .. } => *grace,
            Step::Admit => 0,
        };
        store::delete(tx, tenant, grace).await
    }
}

pub struct Undeleting;

#[async_trait]
impl Turn for Undeleting {
    const KIND: &'static str = "tenant.undelete";
    const REFUSES: bool = false;

    async fn record(tx: &mut PgConnection, tenant: &str, _step: &Step) -> sqlx::Result<()> {
        store::undelete(tx, tenant).await
    }
}
