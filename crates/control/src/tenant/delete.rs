//! Delete and undelete: `active | suspended | failed → deleted → its former state`. Deleting refuses the logins and begins
//! a grace period; nothing is destroyed until it ends. `?purge=true` destroys now.

use async_trait::async_trait;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use freehold_api::id::{OperationId, TenantId};
use freehold_api::operation::Operation as OperationBody;
use freehold_api::problem::Code;
use freehold_api::tenant::{DeleteTenant, Tenant, TenantState};
use freehold_durable::{Cx, Failure, Operation, OperationRow, Outcome, Resolution, State as OpState, steps};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::purge::{Purge, PurgeStep};
use super::suspend::tenant_of;
use super::{change, fence, store};
use crate::audit::record::{Actor, Event};
use crate::http::access::Caller;
use crate::http::extract::{Id, Json, Query};
use crate::http::problem::Refused;
use crate::http::request::Wait;
use crate::operation::answer;
use crate::plane::{Answer, Core, Plane};

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
    let new = change::new::<Delete>("tenant.delete", id.as_str(), DeleteStep::Refuse { grace }, &caller.actor());
    let started = change::started(id.as_str(), plane.engine.start::<Delete>(&mut tx, new).await)?;
    Event::done(&caller.actor(), "tenant.delete.begin", format!("tenant:{id}")).save(&mut *tx).await?;
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
    let row = store::lock(&mut tx, id.as_str()).await?.ok_or_else(|| change::not_found(&id))?;
    change::require_idle(&mut tx, &row).await?;
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
    let admit = row.state_before.as_deref() == Some("active");
    let new = change::new::<Undelete>("tenant.undelete", id.as_str(), UndeleteStep::Admit { admit }, &caller.actor());
    let started = change::started(id.as_str(), plane.engine.start::<Undelete>(&mut tx, new).await)?;
    Event::done(&caller.actor(), "tenant.undelete.begin", format!("tenant:{id}")).save(&mut *tx).await?;
    tx.commit().await?;
    change::finish(&plane, &id, "undelete", started, wait).await
}

steps! {
    /// What is left of deleting.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum DeleteStep {
        Refuse { grace: u64 },
        /// The way back: the logins of a tenant that was active are admitted again.
        Admit,
    }
}

pub struct Delete {
    pub core: Core,
}

#[async_trait]
impl Operation for Delete {
    type Step = DeleteStep;

    fn kind(&self) -> &'static str {
        "tenant.delete"
    }

    async fn run(&self, cx: &Cx, step: DeleteStep) -> Result<Outcome<DeleteStep>, Failure> {
        let tenant = fence::tenant(cx)?;
        match step {
            DeleteStep::Refuse { grace } => {
                fence::refuse(&self.core, cx, &tenant).await?;
                let actor = Actor::operation(cx.operation, None);
                Ok(Outcome::done().recording(move |tx| {
                    Box::pin(async move {
                        store::delete(tx, &tenant, grace).await?;
                        Ok(Event::done(&actor, "tenant.delete", format!("tenant:{tenant}")).save(tx).await?)
                    })
                }))
            }
            DeleteStep::Admit => {
                let row = store::find(&self.core.store, &tenant).await?;
                if row.is_some_and(|row| row.state() == TenantState::Active) {
                    fence::admit(&self.core, cx, &tenant).await?;
                }
                Ok(Outcome::done())
            }
        }
    }

    fn undo(&self, _failed: &DeleteStep) -> Option<DeleteStep> {
        Some(DeleteStep::Admit)
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        change::record_failure(tx, operation).await
    }

    async fn resolved(
        &self,
        tx: &mut PgConnection,
        step: &DeleteStep,
        operation: Uuid,
        resolution: Resolution,
    ) -> Result<(), sqlx::Error> {
        let tenant = tenant_of(tx, operation).await?;
        match (resolution, step, tenant) {
            (Resolution::Succeeded, DeleteStep::Refuse { grace }, Some(tenant)) => {
                store::delete(tx, &tenant, *grace).await
            }
            _ => Ok(()),
        }
    }
}

steps! {
    /// What is left of undeleting.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum UndeleteStep {
        /// Only a tenant that was active before gets its logins back.
        Admit { admit: bool },
        /// The way back.
        Refuse,
    }
}

pub struct Undelete {
    pub core: Core,
}

#[async_trait]
impl Operation for Undelete {
    type Step = UndeleteStep;

    fn kind(&self) -> &'static str {
        "tenant.undelete"
    }

    async fn run(&self, cx: &Cx, step: UndeleteStep) -> Result<Outcome<UndeleteStep>, Failure> {
        let tenant = fence::tenant(cx)?;
        match step {
            UndeleteStep::Admit { admit } => {
                if admit {
                    fence::admit(&self.core, cx, &tenant).await?;
                }
                let actor = Actor::operation(cx.operation, None);
                Ok(Outcome::done().recording(move |tx| {
                    Box::pin(async move {
                        store::undelete(tx, &tenant).await?;
                        Ok(Event::done(&actor, "tenant.undelete", format!("tenant:{tenant}")).save(tx).await?)
                    })
                }))
            }
            UndeleteStep::Refuse => {
                fence::refuse(&self.core, cx, &tenant).await?;
                Ok(Outcome::done())
            }
        }
    }

    fn undo(&self, _failed: &UndeleteStep) -> Option<UndeleteStep> {
        Some(UndeleteStep::Refuse)
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        change::record_failure(tx, operation).await
    }

    async fn resolved(
        &self,
        tx: &mut PgConnection,
        _step: &UndeleteStep,
        operation: Uuid,
        resolution: Resolution,
    ) -> Result<(), sqlx::Error> {
        match (resolution, tenant_of(tx, operation).await?) {
            (Resolution::Succeeded, Some(tenant)) => store::undelete(tx, &tenant).await,
            _ => Ok(()),
        }
    }
}
