//! Suspend and resume: `active ⇄ suspended`. Suspending refuses the logins and ends the sessions before it is recorded;
//! resuming admits them again.

use async_trait::async_trait;
use axum::extract::State;
use axum::response::Response;
use freehold_api::id::TenantId;
use freehold_api::operation::Operation as OperationBody;
use freehold_api::tenant::{SuspendTenant, Tenant, TenantState};
use sqlx::PgConnection;

use super::turn::{Step, Turn, Turning};
use super::{change, store};
use crate::http::access::Caller;
use crate::http::extract::{Id, Json, text};
use crate::http::request::Wait;
use crate::plane::{Answer, Plane};

/// Refuse a tenant's logins and end its sessions, at once
#[utoipa::path(post, path = "/v1/tenants/{id}/suspend", tag = "tenants", params(("id" = TenantId, Path, description = "The tenant's id")),
    request_body = Option<SuspendTenant>,
    responses(
        (status = 200, description = "The tenant, suspended", body = Tenant),
        (status = 202, description = "Its server has not confirmed yet; look at the operation", body = OperationBody)))]
pub async fn suspend(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<TenantId>,
    Wait(wait): Wait,
    Json(body): Json<SuspendTenant>,
) -> Answer<Response> {
    if let Some(reason) = &body.reason {
        text("reason", reason, 500)?;
    }
    let mut tx = plane.store.begin().await?;
    let row = change::lock_idle(&mut tx, &id).await?;
    match row.state() {
        TenantState::Active => {}
        TenantState::Suspended => return Ok(change::shown(row)),
        TenantState::Creating | TenantState::Failed | TenantState::Deleted => {
            return Err(change::wrong_state(id.as_str(), &row.state, "suspended", "an active tenant"));
        }
    }
    let step = Step::Refuse { reason: body.reason, grace: 0 };
    let started = Turning::<Suspending>::start(&plane, &mut tx, id.as_str(), step, &caller.actor()).await?;
    tx.commit().await?;
    change::finish(&plane, &id, "suspend", started, wait).await
}

/// Admit a suspended tenant's logins again
#[utoipa::path(post, path = "/v1/tenants/{id}/resume", tag = "tenants", params(("id" = TenantId, Path, description = "The tenant's id")),
    responses(
        (status = 200, description = "The tenant, active", body = Tenant),
        (status = 202, description = "Its server has not confirmed yet; look at the operation", body = OperationBody)))]
pub async fn resume(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<TenantId>,
    Wait(wait): Wait,
) -> Answer<Response> {
    let mut tx = plane.store.begin().await?;
    let row = change::lock_idle(&mut tx, &id).await?;
    match row.state() {
        TenantState::Suspended => {}
        TenantState::Active => return Ok(change::shown(row)),
        TenantState::Creating | TenantState::Failed | TenantState::Deleted => {
            return Err(change::wrong_state(id.as_str(), &row.state, "resumed", "a suspended tenant"));
        }
    }
    let started = Turning::<Resuming>::start(&plane, &mut tx, id.as_str(), Step::Admit, &caller.actor()).await?;
    tx.commit().await?;
    change::finish(&plane, &id, "resume", started, wait).await
}

pub struct Suspending;

#[async_trait]
impl Turn for Suspending {
    const KIND: &'static str = "tenant.suspend";
    const REFUSES: bool = true;

    async fn record(tx: &mut PgConnection, tenant: &str, step: &Step) -> sqlx::Result<()> {
        let reason = match step {
            Step::Refuse { reason, .. } => reason.as_deref(),
            Step::Admit => None,
        };
        store::suspend(tx, tenant, reason).await
    }
}

pub struct Resuming;

#[async_trait]
impl Turn for Resuming {
    const KIND: &'static str = "tenant.resume";
    const REFUSES: bool = false;

    async fn record(tx: &mut PgConnection, tenant: &str, _step: &Step) -> sqlx::Result<()> {
        store::resume(tx, tenant).await
    }
}
