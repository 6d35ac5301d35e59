//! `freehold tenant movability`: whether a tenant could be moved, by which methods, how long that takes, and what is in the
//! way. Looks, and changes nothing; it is what a move begins with.
//!
//! `target` says which server is meant, `look` goes and reads catalogs, `judge` says what the facts mean; `nightly` does it for
//! everybody in turn. As an operation
//! about no subject, like a diagnosis: it works while another is stuck on the tenant, and while everything is frozen.

use std::time::Duration;

use async_trait::async_trait;
use axum::extract::State;
use freehold_api::id::TenantId;
use freehold_api::movability::{JudgeMovability, Movability};
use freehold_api::problem::Code;
use freehold_api::tenant::TenantState;
use freehold_durable::{Cx, Failure, Operation, Outcome, steps};
use serde::{Deserialize, Serialize};

use super::{change, report};
use crate::http::access::Caller;
use crate::http::extract::{Id, Json};
use crate::http::problem::Refused;
use crate::plane::{Answer, Core, Plane};
use crate::server::store as servers;
use crate::stock::store as databases;
use look::Watch;
use target::Goal;

pub mod judge;
pub mod look;
pub mod nightly;
pub mod store;
pub mod target;

/// Above what all of it may take.
const WITHIN: Duration = Duration::from_secs(57);

/// Whether a tenant can be moved, how, and what is in the way
#[utoipa::path(post, path = "/v1/tenants/{id}/movability", tag = "tenants", params(("id" = TenantId, Path, description = "The tenant's id")),
    request_body = Option<JudgeMovability>,
    responses((status = 200, description = "What was found; nothing was changed", body = Movability)))]
pub async fn movability(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<TenantId>,
    Json(body): Json<JudgeMovability>,
) -> Answer<Json<Movability>> {
    if body.to.is_some() && caller.tenants.is_some() {
        let detail =
            "where a tenant could go is the fleet's business: a key that is bound to tenants may ask without `to`";
        return Err(Refused::new(Code::Denied, detail));
    }
    let row = change::find(&plane, &id).await?;
    match row.state() {
        TenantState::Active | TenantState::Suspended => {}
        TenantState::Creating | TenantState::Failed | TenantState::Deleted => {
            return Err(change::wrong_state(id.as_str(), &row.state, "moved", "an active or a suspended tenant"));
        }
    }
    let database = databases::find_of_tenant(&plane.store, id.as_str()).await?.filter(|found| found.state == "claimed");
    let none = || Refused::new(Code::WrongState, format!("tenant {id} is {} and has no database yet", row.state));
    let database = database.ok_or_else(none)?;
    let goal = match &body.to {
        None => None,
        Some(to) => {
            let server = servers::find(&plane.store, &database.server_id).await?.ok_or_else(none)?;
            Some(target::resolve(&plane.core, &row, &server, to).await?)
        }
    };
    let step = Step::Look { tenant: id.to_string(), goal };
    let started = report::start::<JudgeMove>(&plane, "tenant.movability", step, &caller.actor(), None).await?;
    Ok(Json(report::read(&plane, "judge the movability", &id, started).await?))
}

steps! {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        Look { tenant: String, goal: Option<Goal> },
    }
}

pub struct JudgeMove {
    pub core: Core,
}

#[async_trait]
impl Operation for JudgeMove {
    type Step = Step;

    fn kind(&self) -> &'static str {
        "tenant.movability"
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let Step::Look { tenant, goal } = step;
        let looked =
            tokio::time::timeout(WITHIN, look::look(&self.core, cx, &tenant, goal.as_ref(), Watch::Writes)).await;
        let too_long = |_| Failure::permanent("timeout", format!("not done within {} s", WITHIN.as_secs()));
        let found = looked.map_err(too_long)?.map_err(report::at_once)?;
        let operation = cx.operation;
        Ok(Outcome::done()
            .recording(move |tx| Box::pin(async move { Ok(report::save(tx, operation, &tenant, &found).await?) })))
    }

    fn undo(&self, _failed: &Step) -> Option<Step> {
        None
    }
}
