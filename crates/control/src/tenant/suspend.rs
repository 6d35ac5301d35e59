//! Suspend and resume: `active ⇄ suspended`. Suspending refuses the logins and ends the sessions before it is recorded;
//! resuming admits them again.

use async_trait::async_trait;
use axum::extract::State;
use axum::response::Response;
use freehold_api::id::TenantId;
use freehold_api::operation::Operation as OperationBody;
use freehold_api::tenant::{SuspendTenant, Tenant, TenantState};
use freehold_durable::{Cx, Failure, Operation, OperationRow, Outcome, Resolution, steps};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{change, fence, store};
use crate::audit::record::{Actor, Event};
use crate::http::access::Caller;
use crate::http::extract::{Id, Json, text};
use crate::http::request::Wait;
use crate::plane::{Answer, Core, Plane};

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
    let row = store::lock(&mut tx, id.as_str()).await?.ok_or_else(|| change::not_found(&id))?;
    change::require_idle(&mut tx, &row).await?;
    match row.state() {
        TenantState::Active => {}
        TenantState::Suspended => return Ok(change::shown(row)),
        TenantState::Creating | TenantState::Failed | TenantState::Deleted => {
            return Err(change::wrong_state(id.as_str(), &row.state, "suspended", "an active tenant"));
        }
    }
    let new = change::new::<Suspend>(
        "tenant.suspend",
        id.as_str(),
        SuspendStep::Refuse { reason: body.reason },
        &caller.actor(),
    );
    let started = change::started(id.as_str(), plane.engine.start::<Suspend>(&mut tx, new).await)?;
    Event::done(&caller.actor(), "tenant.suspend.begin", format!("tenant:{id}")).save(&mut *tx).await?;
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
    let row = store::lock(&mut tx, id.as_str()).await?.ok_or_else(|| change::not_found(&id))?;
    change::require_idle(&mut tx, &row).await?;
    match row.state() {
        TenantState::Suspended => {}
        TenantState::Active => return Ok(change::shown(row)),
        TenantState::Creating | TenantState::Failed | TenantState::Deleted => {
            return Err(change::wrong_state(id.as_str(), &row.state, "resumed", "a suspended tenant"));
        }
    }
    let new = change::new::<Resume>("tenant.resume", id.as_str(), ResumeStep::Admit, &caller.actor());
    let started = change::started(id.as_str(), plane.engine.start::<Resume>(&mut tx, new).await)?;
    Event::done(&caller.actor(), "tenant.resume.begin", format!("tenant:{id}")).save(&mut *tx).await?;
    tx.commit().await?;
    change::finish(&plane, &id, "resume", started, wait).await
}

steps! {
    /// What is left of suspending.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum SuspendStep {
        Refuse { reason: Option<String> },
        /// The way back: logins are admitted again.
        Admit,
    }
}

pub struct Suspend {
    pub core: Core,
}

#[async_trait]
impl Operation for Suspend {
    type Step = SuspendStep;

    fn kind(&self) -> &'static str {
        "tenant.suspend"
    }

    async fn run(&self, cx: &Cx, step: SuspendStep) -> Result<Outcome<SuspendStep>, Failure> {
        let tenant = fence::tenant(cx)?;
        match step {
            SuspendStep::Refuse { reason } => {
                fence::refuse(&self.core, cx, &tenant).await?;
                let actor = Actor::operation(cx.operation, None);
                Ok(Outcome::done().recording(move |tx| {
                    Box::pin(async move {
                        store::suspend(tx, &tenant, reason.as_deref()).await?;
                        Ok(Event::done(&actor, "tenant.suspend", format!("tenant:{tenant}")).save(tx).await?)
                    })
                }))
            }
            SuspendStep::Admit => {
                fence::admit(&self.core, cx, &tenant).await?;
                Ok(Outcome::done())
            }
        }
    }

    fn undo(&self, _failed: &SuspendStep) -> Option<SuspendStep> {
        Some(SuspendStep::Admit)
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        change::record_failure(tx, operation).await
    }

    async fn resolved(
        &self,
        tx: &mut PgConnection,
        step: &SuspendStep,
        operation: Uuid,
        resolution: Resolution,
    ) -> Result<(), sqlx::Error> {
        let reason = match step {
            SuspendStep::Refuse { reason } => reason.as_deref(),
            SuspendStep::Admit => None,
        };
        match resolution {
            Resolution::Succeeded => match tenant_of(tx, operation).await? {
                Some(tenant) => store::suspend(tx, &tenant, reason).await,
                None => Ok(()),
            },
            Resolution::Failed | Resolution::Cancelled => Ok(()),
        }
    }
}

steps! {
    /// What is left of resuming.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum ResumeStep {
        Admit,
        /// The way back: logins are refused again.
        Refuse,
    }
}

pub struct Resume {
    pub core: Core,
}

#[async_trait]
impl Operation for Resume {
    type Step = ResumeStep;

    fn kind(&self) -> &'static str {
        "tenant.resume"
    }

    async fn run(&self, cx: &Cx, step: ResumeStep) -> Result<Outcome<ResumeStep>, Failure> {
        let tenant = fence::tenant(cx)?;
        match step {
            ResumeStep::Admit => {
                fence::admit(&self.core, cx, &tenant).await?;
                let actor = Actor::operation(cx.operation, None);
                Ok(Outcome::done().recording(move |tx| {
                    Box::pin(async move {
                        store::resume(tx, &tenant).await?;
                        Ok(Event::done(&actor, "tenant.resume", format!("tenant:{tenant}")).save(tx).await?)
                    })
                }))
            }
            ResumeStep::Refuse => {
                fence::refuse(&self.core, cx, &tenant).await?;
                Ok(Outcome::done())
            }
        }
    }

    fn undo(&self, _failed: &ResumeStep) -> Option<ResumeStep> {
        Some(ResumeStep::Refuse)
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        change::record_failure(tx, operation).await
    }

    async fn resolved(
        &self,
        tx: &mut PgConnection,
        _step: &ResumeStep,
        operation: Uuid,
        resolution: Resolution,
    ) -> Result<(), sqlx::Error> {
        match (resolution, tenant_of(tx, operation).await?) {
            (Resolution::Succeeded, Some(tenant)) => store::resume(tx, &tenant).await,
            _ => Ok(()),
        }
    }
}

/// The tenant that an operation is about, by its row.
pub async fn tenant_of(tx: &mut PgConnection, operation: Uuid) -> Result<Option<String>, sqlx::Error> {
    let sql = "SELECT substr(subject, 8) FROM operation WHERE id = $1 AND subject LIKE 'tenant:%'";
    sqlx::query_scalar(sql).bind(operation).fetch_optional(tx).await
}
