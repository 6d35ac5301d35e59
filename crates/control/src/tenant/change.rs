//! What the verbs that change a tenant have in common: find it, start the operation, wait, answer.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use freehold_api::id::{OperationId, TenantId};
use freehold_api::movability::TenantMovability;
use freehold_api::problem::Code;
use freehold_api::stats::TenantUsage;
use freehold_api::tenant::Tenant;
use freehold_durable::{
    Failure, LoopCx, New, Operation as Durable, OperationRow, StartError, Started, State as OpState,
};
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::store::{self, TenantRow};
use crate::audit::record::{Actor, Event};
use crate::http::extract::{Json, text};
use crate::http::problem::Refused;
use crate::operation::answer;
use crate::plane::{Answer, Plane};

pub fn not_found(id: &TenantId) -> Refused {
    Refused::new(Code::NotFound, format!("there is no tenant {id}"))
}

pub fn busy(id: &str, operation: Uuid, kind: &str) -> Refused {
    Refused::new(
        Code::Busy,
        format!("operation {operation} ({kind}) is working on tenant {id}; wait for it, or cancel it"),
    )
}

pub fn wrong_state(id: &str, now: &str, verb: &str, wanted: &str) -> Refused {
    Refused::new(Code::WrongState, format!("tenant {id} is {now} and cannot be {verb}; only {wanted} can"))
}

pub async fn find(plane: &Plane, id: &TenantId) -> Answer<TenantRow> {
    store::find(&plane.store, id.as_str()).await?.ok_or_else(|| not_found(id))
}

/// The tenant, until the transaction ends nobody else's to change, and with no operation that works on it.
pub async fn lock_idle(tx: &mut PgConnection, id: &TenantId) -> Answer<TenantRow> {
    let row = store::lock(&mut *tx, id.as_str()).await?.ok_or_else(|| not_found(id))?;
    require_idle(tx, &row).await?;
    Ok(row)
}

/// What a loop found to be due, in the transaction that looked under a lock. Whoever is at work on the tenant goes first: the
/// loop comes again.
pub async fn begin_due<O: Durable>(
    cx: &LoopCx,
    mut tx: Transaction<'_, Postgres>,
    new: New<O::Step>,
    actor: &Actor,
) -> Result<(), Failure> {
    let event = Event::done(actor, &format!("{}.begin", new.kind), new.subject.clone().unwrap_or_default());
    match cx.engine().start::<O>(&mut tx, new).await {
        Ok(started) => {
            event.save(&mut *tx).await?;
            tx.commit().await?;
            cx.engine().go(started);
            Ok(())
        }
        Err(StartError::Busy { .. }) => Ok(()),
        Err(StartError::Store(error)) => Err(error.into()),
    }
}

/// Refuses while an operation works on the tenant: what its state says now may not be true in a moment.
pub async fn require_idle(tx: &mut PgConnection, row: &TenantRow) -> Answer<()> {
    match at_work(tx, row).await? {
        None => Ok(()),
        Some((operation, kind)) => Err(busy(&row.id, operation, &kind)),
    }
}

/// The operation that works on the tenant, with its kind.
pub async fn at_work(tx: &mut PgConnection, row: &TenantRow) -> Answer<Option<(Uuid, String)>> {
    let Some(operation) = row.operation else { return Ok(None) };
    let sql = "SELECT kind FROM operation WHERE id = $1";
    let kind: Option<String> = sqlx::query_scalar(sql).bind(operation).fetch_optional(tx).await?;
    Ok(Some((operation, kind.unwrap_or_default())))
}

pub fn started(id: &str, result: Result<Started, StartError>) -> Answer<Started> {
    result.map_err(|error| match error {
        StartError::Busy { operation, kind } => busy(id, operation, &kind),
        StartError::Store(error) => error.into(),
    })
}

/// A new operation about a tenant.
pub fn new<O: Durable>(
    kind: &'static str,
    id: &str,
    step: O::Step,
    actor: &crate::audit::record::Actor,
) -> freehold_durable::New<O::Step> {
    freehold_durable::New {
        subject: Some(format!("tenant:{id}")),
        requested_by: Some(actor.reference.clone()),
        request_id: actor.request.clone(),
        ..freehold_durable::New::of(kind, step)
    }
}

/// Waits for the operation and answers the tenant as it then is, or 202.
pub async fn finish(plane: &Plane, id: &TenantId, verb: &str, started: Started, wait: Duration) -> Answer<Response> {
    let operation = started.id;
    plane.engine.go(started);
    match plane.engine.wait(operation, wait).await? {
        Some(row) if row.state == OpState::Succeeded => Ok(shown(find(plane, id).await?)),
        Some(row) if row.state.is_over() => Err(refused_by(&format!("{verb} tenant {id}"), &row)),
        _ => Ok(answer::accepted(answer::find(plane, OperationId(operation)).await?)),
    }
}

/// The tenant with its ETag.
pub fn shown(row: TenantRow) -> Response {
    shown_with(row, None, None)
}

pub fn shown_with(row: TenantRow, usage: Option<TenantUsage>, movability: Option<TenantMovability>) -> Response {
    let etag = row.etag();
    ([(axum::http::header::ETAG, etag)], Json(Tenant { usage, movability, ..Tenant::from(row) })).into_response()
}

/// An operation that failed, as the problem that its caller gets.
pub fn refused_by(doing: &str, row: &OperationRow) -> Refused {
    let (code, message) = answer::failure_of(row);
    let known = match code.as_str() {
        "timed_out" => Some(Code::Timeout),
        code => Code::ALL.iter().copied().find(|known| known.as_str() == code),
    };
    Refused::new(known.unwrap_or(Code::Prerequisite), format!("{doing}: {message} ({code}; operation {})", row.id))
}

/// At most 32 labels; keys of 1 to 63 characters without `=`, values of at most 200.
pub fn check_labels<'a>(labels: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Answer<()> {
    let mut count = 0;
    for (key, value) in labels {
        count += 1;
        text("labels", key, 63)?;
        if key.contains('=') {
            return Err(Refused::field("labels", "a label's key may not hold '='"));
        }
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            text("labels", value, 200)?;
        }
    }
    if count > 32 {
        return Err(Refused::field("labels", format!("there are {count}; at most 32 are kept")));
    }
    Ok(())
}

/// Whom an operation is about.
pub fn tenant_of(operation: &OperationRow) -> &str {
    operation.subject.as_deref().and_then(|subject| subject.strip_prefix("tenant:")).unwrap_or_default()
}

/// For operations that make a tenant: it failed, and says why.
pub async fn record_not_made(tx: &mut PgConnection, operation: &OperationRow) -> sqlx::Result<()> {
    let (code, message) = answer::failure_of(operation);
    store::fail(tx, tenant_of(operation), &format!("{message} ({code})")).await?;
    record_failure(tx, operation).await
}

/// For operations whose end in failure nobody else writes down.
pub async fn record_failure(tx: &mut PgConnection, operation: &OperationRow) -> sqlx::Result<()> {
    let (code, _) = answer::failure_of(operation);
    let actor = Actor::operation(operation.id, operation.request_id.clone());
    let subject = operation.subject.clone().unwrap_or_default();
    Event::failed(&actor, &operation.kind, subject, &code).save(tx).await
}
