//! `freehold tenant diagnose`: walks the way in that a tenant's application takes, and names the first link that is
//! broken. It looks, and mends nothing: what it finds is the truth loop's to repair, or a person's.
//!
//! `walk` goes and measures, `judge` says what the facts mean. As an operation about no subject, so that it works
//! while another is stuck on the tenant, and while everything is frozen.

use std::time::Duration;

use async_trait::async_trait;
use axum::extract::State;
use freehold_api::diagnosis::Diagnosis;
use freehold_api::id::TenantId;
use freehold_durable::{Cx, Failure, Operation, Outcome, steps};
use serde::{Deserialize, Serialize};

use super::{change, report};
use crate::http::access::Caller;
use crate::http::extract::{Id, Json};
use crate::plane::{Answer, Core, Plane};

mod judge;
mod walk;

/// Above what all links together may take.
const WITHIN: Duration = Duration::from_secs(55);

/// Find out why a tenant does not get in, or not on
#[utoipa::path(post, path = "/v1/tenants/{id}/diagnose", tag = "tenants", params(("id" = TenantId, Path, description = "The tenant's id")),
    responses((status = 200, description = "Each link of the way in, and the first that is broken", body = Diagnosis)))]
pub async fn diagnose(State(plane): State<Plane>, caller: Caller, Id(id): Id<TenantId>) -> Answer<Json<Diagnosis>> {
    change::find(&plane, &id).await?;
    let step = Step::Walk { tenant: id.to_string() };
    let started = report::start::<Diagnose>(&plane, "tenant.diagnose", step, &caller.actor(), None).await?;
    Ok(Json(report::read(&plane, "diagnose", &id, started).await?))
}

steps! {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        Walk { tenant: String },
    }
}

pub struct Diagnose {
    pub core: Core,
}

#[async_trait]
impl Operation for Diagnose {
    type Step = Step;

    fn kind(&self) -> &'static str {
        "tenant.diagnose"
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let Step::Walk { tenant } = step;
        let walked = tokio::time::timeout(WITHIN, walk::walk(&self.core, cx, &tenant)).await;
        let too_long = |_| Failure::permanent("timeout", format!("not done within {} s", WITHIN.as_secs()));
        let diagnosis = walked.map_err(too_long)?.map_err(report::at_once)?;
        let operation = cx.operation;
        Ok(Outcome::done()
            .recording(move |tx| Box::pin(async move { Ok(report::save(tx, operation, &tenant, &diagnosis).await?) })))
    }

    fn undo(&self, _failed: &Step) -> Option<Step> {
        None
    }
}
