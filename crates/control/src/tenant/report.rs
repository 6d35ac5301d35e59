//! Operations that only look: started, waited for, and what they saw read back. Tried once: somebody is waiting.

use std::time::Duration;

use freehold_api::id::TenantId;
use freehold_api::problem::Code;
use freehold_durable::{Class, Failure, Operation, Started, State};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::change;
use crate::audit::record::{Actor, Event};
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};

/// How long somebody waits for a look; it is over in much less, or fails.
const WITHIN: Duration = Duration::from_secs(60);

/// Not about a subject: it must go on while another operation is stuck on the tenant, and while all are frozen.
pub async fn start<O: Operation>(
    plane: &Plane,
    kind: &'static str,
    step: O::Step,
    actor: &Actor,
    event: Option<Event>,
) -> Answer<Started> {
    let mut tx = plane.store.begin().await?;
    let started = start_in::<O>(plane, &mut tx, kind, step, actor).await?;
    if let Some(event) = event {
        event.save(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(started)
}

/// In a transaction of the caller's, who writes down with it what the step must not hold.
pub async fn start_in<O: Operation>(
    plane: &Plane,
    tx: &mut PgConnection,
    kind: &'static str,
    step: O::Step,
    actor: &Actor,
) -> Answer<Started> {
    let new = freehold_durable::New {
        deadline: Some(WITHIN),
        requested_by: Some(actor.reference.clone()),
        request_id: actor.request.clone(),
        urgent: true,
        ..freehold_durable::New::of(kind, step)
    };
    let started = plane.engine.start::<O>(tx, new).await;
    started.map_err(|error| Refused::internal("start a look", &error))
}

/// Waits for what it saw.
pub async fn read<T: DeserializeOwned>(plane: &Plane, doing: &str, id: &TenantId, started: Started) -> Answer<T> {
    read_about(plane, doing, &format!("tenant {id}"), started).await
}

/// The same, about whatever it is.
pub async fn read_about<T: DeserializeOwned>(plane: &Plane, doing: &str, about: &str, started: Started) -> Answer<T> {
    let operation = started.id;
    plane.engine.go(started);
    match plane.engine.wait(operation, WITHIN).await? {
        Some(row) if row.state == State::Succeeded => {
            let sql = "SELECT body FROM report WHERE operation = $1";
            let body: Option<Value> = sqlx::query_scalar(sql).bind(operation).fetch_optional(&plane.store).await?;
            let body = body.ok_or_else(|| Refused::new(Code::NotFound, format!("there is no {about}")))?;
            serde_json::from_value(body).map_err(|error| Refused::internal("read what was seen", &error))
        }
        Some(row) if row.state.is_over() => Err(change::refused_by(&format!("{doing} of {about}"), &row)),
        _ => Err(Refused::new(Code::Timeout, format!("operation {operation} is still at it; ask again in a moment"))),
    }
}

pub async fn save<T: Serialize + Sync>(
    tx: &mut PgConnection,
    operation: Uuid,
    tenant: &str,
    body: &T,
) -> sqlx::Result<()> {
    let sql = "INSERT INTO report (operation, tenant_id, body) VALUES ($1, $2, $3)
        ON CONFLICT (operation) DO UPDATE SET body = excluded.body, at = now()";
    sqlx::query(sql).bind(operation).bind(tenant).bind(Json(body)).execute(tx).await?;
    Ok(())
}

/// Whoever waits hears why at once: no second attempt.
pub fn at_once(failure: Failure) -> Failure {
    match failure.class {
        Class::Transient | Class::Stuck => Failure { class: Class::Permanent, ..failure },
        Class::Permanent | Class::Fenced => failure,
    }
}

/// Nobody asks for what was seen an hour ago.
pub async fn prune(store: &PgPool) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM report WHERE at < now() - interval '1 hour'").execute(store).await?;
    Ok(())
}
