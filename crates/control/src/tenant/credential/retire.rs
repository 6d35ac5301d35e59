//! `tenant.retire_login`: the login that was handed out before is refused, gives up what it has, and goes.
//!
//! refuse → disown → drop. There is no way back and no undo: the tenant has had the other one since. Begun by
//! `due.rs` when the grace is over, or by somebody who does not want to wait for that; a rotation that is immediate
//! takes the same three steps itself.

use async_trait::async_trait;
use axum::extract::State;
use axum::response::Response;
use freehold_api::id::TenantId;
use freehold_api::operation::Operation as OperationBody;
use freehold_api::tenant::{Tenant, TenantState};
use freehold_drivers::server::sql::Admin;
use freehold_durable::{Cx, Failure, Operation, OperationRow, Outcome, Resolution, steps};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::store;
use crate::audit::record::{Actor, Event};
use crate::http::access::Caller;
use crate::http::extract::Id;
use crate::http::request::Wait;
use crate::plane::{Answer, Core, Plane};
use crate::pooler::follow;
use crate::server::{forget, hands};
use crate::stock::declare::RETIRING;
use crate::stock::store::{self as databases, DatabaseRow, LoginRow};
use crate::tenant::turn::tenant_of;
use crate::tenant::{change, fence};

/// Refuse the credential of before at once, without waiting for the end of its grace
#[utoipa::path(post, path = "/v1/tenants/{id}/credentials/retire", tag = "tenants", params(("id" = TenantId, Path, description = "The tenant's id")),
    responses(
        (status = 200, description = "The tenant, with one login", body = Tenant),
        (status = 202, description = "Its server has not confirmed yet; look at the operation", body = OperationBody)))]
pub async fn retire(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<TenantId>,
    Wait(wait): Wait,
) -> Answer<Response> {
    let mut tx = plane.store.begin().await?;
    let row = change::lock_idle(&mut tx, &id).await?;
    match row.state() {
        TenantState::Active | TenantState::Suspended if row.retiring.is_none() => return Ok(change::shown(row)),
        TenantState::Active | TenantState::Suspended => {}
        TenantState::Creating | TenantState::Failed | TenantState::Deleted => {
            let verb = "relieved of a credential";
            return Err(change::wrong_state(id.as_str(), &row.state, verb, "an active or suspended tenant"));
        }
    }
    let actor = caller.actor();
    let new = change::new::<RetireLogin>(KIND, id.as_str(), Step::Refuse, &actor);
    let started = change::started(id.as_str(), plane.engine.start::<RetireLogin>(&mut tx, new).await)?;
    Event::done(&actor, "tenant.retire_login.begin", format!("tenant:{id}")).save(&mut *tx).await?;
    tx.commit().await?;
    change::finish(&plane, &id, "retire the credential of", started, wait).await
}

pub const KIND: &str = "tenant.retire_login";

steps! {
    /// What is left to do.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        /// NOLOGIN, and no session is left.
        Refuse,
        /// What it made after SET ROLE NONE becomes the owner's.
        Disown,
        /// The role, then its row.
        Drop,
    }
}

pub struct RetireLogin {
    pub core: Core,
}

#[async_trait]
impl Operation for RetireLogin {
    type Step = Step;

    fn kind(&self) -> &'static str {
        KIND
    }
    fn concurrency(&self) -> usize {
        4
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let Some(retiring) = Retiring::find(&self.core, cx).await? else { return Ok(Outcome::done()) };
        match step {
            Step::Refuse => {
                retiring.refuse(&self.core, cx).await?;
                Ok(Outcome::step(Step::Disown))
            }
            Step::Disown => match retiring.disown(&self.core, cx).await? {
                true => Ok(Outcome::step(Step::Drop)),
                false => Ok(Outcome::again(follow::LOOK, Step::Disown)),
            },
            Step::Drop => {
                let gone = retiring.drop_role(&self.core, cx).await?;
                Ok(Outcome::done().recording(move |tx| Box::pin(async move { Ok(gone.record(tx).await?) })))
            }
        }
    }

    fn undo(&self, _failed: &Step) -> Option<Step> {
        None
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        change::record_failure(tx, operation).await
    }

    async fn resolved(
        &self,
        tx: &mut PgConnection,
        _step: &Step,
        operation: Uuid,
        resolution: Resolution,
    ) -> Result<(), sqlx::Error> {
        match (resolution, tenant_of(tx, operation).await?) {
            (Resolution::Succeeded, Some(tenant)) => store::forget_retired(tx, &tenant).await,
            _ => Ok(()),
        }
    }
}

/// A tenant's login of before.
pub struct Retiring {
    tenant: String,
    row: DatabaseRow,
    login: LoginRow,
}

impl Retiring {
    /// None: it has none (any more).
    pub async fn find(core: &Core, cx: &Cx) -> Result<Option<Self>, Failure> {
        let tenant = fence::tenant(cx)?;
        let Some(row) = databases::find_of_tenant(&core.store, &tenant).await? else { return Ok(None) };
        let logins = databases::logins(&core.store, row.id).await?;
        let login = logins.into_iter().find(|login| login.purpose == RETIRING);
        Ok(login.map(|login| Self { tenant, row, login }))
    }

    /// On record first, so that nobody who bends things back admits it again.
    pub async fn refuse(&self, core: &Core, cx: &Cx) -> Result<(), Failure> {
        store::refuse(&core.store, self.row.id).await?;
        cx.fault("refused")?;
        let server = hands::server(core, &self.row.server_id).await?;
        let admin = hands::admin(core, cx, &server, None).await?;
        require_ours(&admin, &self.login.role, &self.row.owner).await?;
        admin.refuse_logins(&[&self.login.role]).await.map_err(hands::failure)
    }

    /// False: its pooler is not told yet, and would go on asking for who is not there any more.
    pub async fn disown(&self, core: &Core, cx: &Cx) -> Result<bool, Failure> {
        if !follow::knows(core, self.row.id, RETIRING).await? {
            return Ok(false);
        }
        let server = hands::server(core, &self.row.server_id).await?;
        let inside = hands::admin(core, cx, &server, Some(&self.row.database)).await?;
        inside.disown_login(&self.login.role, &self.row.owner).await.map_err(hands::failure)?;
        Ok(true)
    }

    pub async fn drop_role(self, core: &Core, cx: &Cx) -> Result<Gone, Failure> {
        let server = hands::server(core, &self.row.server_id).await?;
        let admin = hands::admin(core, cx, &server, None).await?;
        require_ours(&admin, &self.login.role, &self.row.owner).await?;
        forget::drop_roles(core, cx, &server, &admin, &[&self.login.role]).await?;
        cx.fault("role_dropped")?;
        Ok(Gone { tenant: self.tenant, role: self.login.role, actor: Actor::operation(cx.operation, None) })
    }
}

/// A role of this name that is there, and no member of the tenant's owner role, is somebody else's.
async fn require_ours(admin: &Admin, role: &str, owner: &str) -> Result<(), Failure> {
    match is_foreign(admin, role, owner).await? {
        false => Ok(()),
        true => {
            let message = format!("role {role:?} is not this tenant's any more; look before it is dropped");
            Err(Failure::stuck("not_ours", message))
        }
    }
}

pub async fn is_foreign(admin: &Admin, role: &str, owner: &str) -> Result<bool, Failure> {
    let seen = admin.observe(&[role], &[]).await.map_err(hands::failure)?;
    Ok(seen.roles.iter().any(|found| !found.member_of.iter().any(|of| of == owner)))
}

/// A login whose role is dropped.
pub struct Gone {
    tenant: String,
    role: String,
    actor: Actor,
}

impl Gone {
    pub async fn record(self, tx: &mut PgConnection) -> sqlx::Result<()> {
        store::forget_retired(tx, &self.tenant).await?;
        let event = Event::done(&self.actor, KIND, format!("tenant:{}", self.tenant));
        event.with(json!({"login": self.role})).save(tx).await
    }
}
