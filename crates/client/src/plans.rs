//! A tenant's plan: another one now or at a time, what that would take, and what is taken back.

use freehold_api::id::TenantId;
use freehold_api::plan_change::{ChangePlan, PlanPreview};
use freehold_api::tenant::Tenant;

use crate::client::{Client, ask};
use crate::error::Error;
use crate::request::Request;

impl Client {
    /// Gives it another plan, and waits until it has it; with a time that is to come, it is kept until then, and the tenant
    /// says so. Where the plan wants another kind of server it moves, which may take longer than this client waits: it goes
    /// on. What it would take is [`Client::plan_preview`]'s to say: `dry_run` is not looked at.
    ///
    /// # Errors
    /// `same_plan`, `quota_exceeded`, `no_room`, `extension_missing`, `wrong_state` in [`Error::Refused`];
    /// [`Error::OperationEnded`] when it came to nothing (it has the plan that it had); as [`Client::settle`] besides.
    pub async fn change_plan(&self, id: &TenantId, wanted: &ChangePlan) -> Result<Tenant, Error> {
        let wanted = ChangePlan { dry_run: None, ..wanted.clone() };
        self.changed_tenant(id, Request::post(&["tenants", id.as_str(), "plan"]).body(&wanted)?).await
    }

    /// What another plan would take, and everything that stands against it.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn plan_preview(&self, id: &TenantId, wanted: &ChangePlan) -> Result<PlanPreview, Error> {
        let wanted = ChangePlan { dry_run: Some(true), ..wanted.clone() };
        ask(self, Request::post(&["tenants", id.as_str(), "plan"]).body(&wanted)?).await
    }

    /// Takes back the change that is kept for its time.
    ///
    /// # Errors
    /// `not_found` where none is, `busy` while it is carried out, in [`Error::Refused`]; as [`Client::send`] besides.
    pub async fn cancel_plan_change(&self, id: &TenantId) -> Result<Tenant, Error> {
        self.changed_tenant(id, Request::delete(&["tenants", id.as_str(), "plan"])).await
    }
}
