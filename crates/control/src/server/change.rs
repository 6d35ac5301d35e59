//! What the verbs that change a server have in common: find it, start the operation, wait, answer.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use freehold_api::id::{OperationId, ServerId};
use freehold_api::problem::Code;
use freehold_durable::{New, StartError, Started, State as OpState};
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::store::ServerRow;
use super::{list, store};
use crate::audit::record::Actor;
use crate::http::extract::Json;
use crate::http::problem::Refused;
use crate::operation::answer;
use crate::plane::{Answer, Plane};
use crate::server_pool::LOOP;

/// Locks its row until the transaction ends, against creates too: nobody is put there meanwhile.
pub async fn lock(tx: &mut PgConnection, id: &ServerId) -> Answer<ServerRow> {
    store::lock(tx, id.as_str()).await?.ok_or_else(|| {
        Refused::new(Code::NotFound, format!("there is no server {id}; `freehold server list` shows them"))
    })
}

/// Refuses while an operation works on it.
pub async fn require_idle(tx: &mut PgConnection, id: &ServerId) -> Answer<()> {
    let sql = "SELECT id, kind FROM operation WHERE subject = $1 AND state NOT IN ('succeeded', 'failed', 'cancelled')";
    let found: Option<(Uuid, String)> = sqlx::query_as(sql).bind(format!("server:{id}")).fetch_optional(tx).await?;
    found.map_or(Ok(()), |(operation, kind)| Err(busy(id, operation, &kind)))
}

fn busy(id: &ServerId, operation: Uuid, kind: &str) -> Refused {
    let detail = format!("operation {operation} ({kind}) is working on server {id}; wait for it, or cancel it");
    Refused::new(Code::Busy, detail)
}

pub fn new<S>(kind: &'static str, id: &ServerId, step: S, actor: &Actor) -> New<S> {
    New {
        subject: Some(format!("server:{id}")),
        requested_by: Some(actor.reference.clone()),
        request_id: actor.request.clone(),
        ..New::of(kind, step)
    }
}

pub fn started(id: &ServerId, result: Result<Started, StartError>) -> Answer<Started> {
    result.map_err(|error| match error {
        StartError::Busy { operation, kind } => busy(id, operation, &kind),
        StartError::Store(error) => error.into(),
    })
}

pub fn wrong_state(id: &ServerId, now: &str, verb: &str, wanted: &str) -> Refused {
    Refused::new(Code::WrongState, format!("server {id} is {now} and cannot be {verb}; only {wanted} can"))
}

/// Commits what changes how many tenants a server takes: whoever waits for a slot looks again, and so does whoever fills
/// servers and adds to them.
pub async fn commit_room(plane: &Plane, mut tx: Transaction<'_, Postgres>) -> Answer<()> {
    freehold_durable::rouse_in(&mut tx, "tenant.create", "Place").await?;
    tx.commit().await?;
    plane.fleet.forget().await;
    plane.engine.wake("stock");
    plane.engine.wake(LOOP);
    Ok(())
}

/// Waits for the operation and answers the server as it then is, or 202.
pub async fn finish(plane: &Plane, id: &ServerId, verb: &str, started: Started, wait: Duration) -> Answer<Response> {
    let operation = started.id;
    plane.engine.go(started);
    match plane.engine.wait(operation, wait).await? {
        Some(row) if row.state == OpState::Succeeded => Ok(Json(list::find(&plane.core, id).await?).into_response()),
        Some(row) if row.state.is_over() => {
            Err(crate::tenant::change::refused_by(&format!("{verb} server {id}"), &row))
        }
        _ => Ok(answer::accepted(answer::find(plane, OperationId(operation)).await?)),
    }
}
