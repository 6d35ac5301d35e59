//! Freehold's own login in the database of a suspended tenant. It is refused there with the tenant's, comes in for the time of
//! one step of a move (`Moving::both`), and is refused again with the step's end, whichever it is: whoever waits, parks or
//! is over leaves nobody who could log in. A suspension refuses it where a former side is kept, too.
//!
//! Killed in between, the step runs again, and this with it. Whatever is left of one that does not, because it is resolved or
//! is past its deadline, the truth loop bends back on both sides.

use std::time::Duration;

use freehold_api::tenant::TenantState;
use freehold_durable::{Class, Cx, Failure, Outcome};
use tokio::time::timeout;

use super::sides::Moving;
use super::store;
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
    let ((serves, other), logins) = (moving.serving(), [moving.tenant.maintenance.name.as_str()]);
    // Each for itself: one that is away leaves nobody in at the other.
    let (here, there) = tokio::join!(refuse_at(core, cx, serves, &logins), refuse_if_there(core, cx, other, &logins));
    here.and(there)
}

/// With the tenant's suspension: these have been refused where it is served.
pub async fn refuse_where_kept(core: &Core, cx: &Cx, tenant: &str, logins: &[&str]) -> Result<(), Failure> {
    let Some(server) = store::kept_on(&core.store, tenant).await? else { return Ok(()) };
    refuse_if_there(core, cx, &hands::server(core, &server).await?, logins).await
}

async fn refuse_if_there(core: &Core, cx: &Cx, server: &ServerRow, logins: &[&str]) -> Result<(), Failure> {
    match timeout(OTHER, refuse_at(core, cx, server, logins)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(failure)) if failure.class == Class::Fenced => Err(failure),
        Ok(Err(_)) | Err(_) => {
            tracing::warn!(server = server.id, ?logins, "it does not answer: they are not refused there");
            Ok(())
        }
    }
}

async fn refuse_at(core: &Core, cx: &Cx, server: &ServerRow, logins: &[&str]) -> Result<(), Failure> {
    let admin = hands::admin(core, cx, server, None).await?;
    admin.refuse_logins(logins).await.map_err(hands::failure)
}
