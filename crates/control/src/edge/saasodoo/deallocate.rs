//! Deallocate: the instance's tenant is deleted. Its data outlives it by the grace period, and its slot with it; where
//! nothing was ever made, nothing outlives it.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use freehold_api::OperationId;
use freehold_api::problem::Code;
use freehold_api::tenant::{DeleteTenant, TenantState};
use serde::Serialize;

use super::super::store::{self, External};
use super::{At, NAME, canonical};
use crate::http::access::Caller;
use crate::http::extract::{Id, Json, Query};
use crate::http::problem::Refused;
use crate::http::request::Wait;
use crate::operation::steer;
use crate::plane::Answer;
use crate::stock::store as databases;
use crate::tenant::delete;
use crate::tenant::store as tenants;

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Serialize)]
pub struct Deallocated {
    status: &'static str,
}

pub async fn deallocate(
    State(at): State<At>,
    Extension(caller): Extension<Caller>,
    Id(instance): Id<String>,
) -> Answer<Json<Deallocated>> {
    let plane = at.plane;
    let instance = canonical("instance_id", &instance)?;
    store::slug("instance_id", &instance)?;
    let unknown =
        || Refused::new(Code::NotFound, format!("there is no instance {}", freehold_api::id::shown(&instance)));
    let id = store::find(&plane.store, &External { edge: NAME, id: &instance }).await?.ok_or_else(unknown)?;
    caller.require_tenant(&id)?;
    let row = tenants::find(&plane.store, id.as_str()).await?.ok_or_else(unknown)?;
    let deallocated = Ok(Json(Deallocated { status: "deallocated" }));
    if row.state() == TenantState::Deleted {
        return deallocated;
    }
    if let Some(operation) = row.operation {
        // One that waits for a server would wait on for nobody.
        if row.state() == TenantState::Creating {
            let cancelled = steer::cancel(State(plane.clone()), caller.clone(), Id(OperationId(operation))).await;
            match cancelled {
                // Over a moment ago: then it is deleted like any other.
                Err(refused) if refused.code() != Code::WrongState => return Err(refused),
                Ok(_) | Err(_) => {}
            }
        }
        plane.engine.wait(operation, PATIENCE).await?;
    }
    let never_made =
        tenants::find(&plane.store, id.as_str()).await?.is_some_and(|row| row.state() == TenantState::Failed)
            && databases::find_of_tenant(&plane.store, id.as_str()).await?.is_none();
    let query = DeleteTenant { confirm: Some(id.to_string()), purge: never_made.then_some(true) };
    let answer = delete::delete(State(plane), caller, Id(id), Query(query), Wait(PATIENCE)).await?;
    if answer.status() == StatusCode::OK {
        return deallocated;
    }
    let detail = format!("instance {instance} is being deallocated, and its server has not confirmed; send it again");
    Err(Refused::new(Code::Timeout, detail))
}
