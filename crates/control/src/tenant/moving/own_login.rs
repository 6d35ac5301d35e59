//! Freehold's own login in the database of a suspended tenant. It is refused there with the tenant's, comes in for the time of
//! one step of a move ([`Moving::both`]), and is refused again with the step's end, whichever it is: whoever waits, parks or
//! is over leaves nobody who could log in.
//!
//! Killed in between, the step runs again, and this with it; of one that was resolved meanwhile the truth loop bends it back.

use std::time::Duration;

use freehold_api::tenant::TenantState;
use freehold_durable::{Class, Cx, Failure, Outcome};
use tokio::time::timeout;

use super::sides::Moving;
use crate::plane::Core;
use crate::server::hands;
use crate::server::store::ServerRow;
use crate::tenant::{fence, store as tenants};

/// The side that does not serve may be lost for good: it is not waited for.
const OTHER: Duration = Duration::from_secs(5);

/// After a step, with what it answered.
pub async fn leave<S>(core: &Core, cx: &Cx, ended: Result<Outcome<S>, Failure>) -> Result<Outcome<S>, Failure> {
    if ended.as_ref().is_err_and(|failure| failure.class == Class::Fenced) {
        // Whoever has the operation now may be in the middle of a step.
        return ended;
    }
    match (refuse(core, cx).await, ended) {
        // The step is not done before: it runs again.
        (Err(failure), Ok(_)) => Err(failure),
        (Ok(()) | Err(_), ended) => ended,
    }
}

async fn refuse(core: &Core, cx: &Cx) -> Result<(), Failure> {
    let Some(row) = tenants::find(&core.store, &fence::tenant(cx)?).await? else { return Ok(()) };
    match row.state() {
        TenantState::Active => return Ok(()),
        TenantState::Creating | TenantState::Failed | TenantState::Suspended | TenantState::Deleted => {}
    }
    let Some(moving) = Moving::look(core, cx).await? else { return Ok(()) };
    let (serves, other) = moving.serving();
    refuse_at(core, cx, &moving, serves).await?;
    match timeout(OTHER, refuse_at(core, cx, &moving, other)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(failure)) if failure.class == Class::Fenced => Err(failure),
        Ok(Err(_)) | Err(_) => {
            tracing::debug!(tenant = row.id, server = other.id, "it does not answer: nobody is refused there");
            Ok(())
        }
    }
}

async fn refuse_at(core: &Core, cx: &Cx, moving: &Moving, server: &ServerRow) -> Result<(), Failure> {
    let admin = hands::admin(core, cx, server, None).await?;
    admin.refuse_logins(&[&moving.tenant.maintenance.name]).await.map_err(hands::failure)
}
