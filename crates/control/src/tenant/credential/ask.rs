//! `POST /v1/tenants/{id}/credentials/rotate`: checks what is asked for, begins the rotation, and answers the new connection.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use freehold_api::id::{OperationId, TenantId};
use freehold_api::key::Scope;
use freehold_api::operation::Operation as OperationBody;
use freehold_api::problem::Code;
use freehold_api::tenant::{GRACE_MAX_SECONDS, RotateCredentials, TenantState, TenantWithConnection};
use freehold_durable::State as OpState;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::name;
use super::rotate::{self, How, Rotate, Step};
use super::store;
use crate::audit::record::Event;
use crate::http::access::Caller;
use crate::http::extract::{Id, Json};
use crate::http::idempotency::{Carries, Once};
use crate::http::problem::Refused;
use crate::http::request::Wait;
use crate::operation::answer;
use crate::plane::{Answer, Plane};
use crate::stock::declare::TENANT;
use crate::stock::store as databases;
use crate::tenant::store::{self as tenants, TenantRow};
use crate::tenant::{change, connection};

/// Give a tenant another credential; the old one is in force until its grace is over
#[utoipa::path(post, path = "/v1/tenants/{id}/credentials/rotate", tag = "tenants", params(("id" = TenantId, Path, description = "The tenant's id")),
    request_body = Option<RotateCredentials>,
    responses(
        (status = 200, description = "The tenant and its new connection", body = TenantWithConnection),
        (status = 202, description = "Its server has not confirmed yet; look at the operation", body = OperationBody)))]
pub async fn rotate(
    State(plane): State<Plane>,
    caller: Caller,
    once: Once,
    Id(id): Id<TenantId>,
    Wait(wait): Wait,
    Json(body): Json<RotateCredentials>,
) -> Answer<Response> {
    let grace = grace(&plane, &body)?;
    let operation = match begin(&plane, &caller, &once, &id, &body, grace).await? {
        Some(operation) => operation,
        None => return handed_out(&plane, &caller, &id).await,
    };
    match plane.engine.wait(operation, wait).await? {
        Some(row) if row.state == OpState::Succeeded => handed_out(&plane, &caller, &id).await,
        Some(row) if row.state.is_over() => {
            Err(change::refused_by(&format!("rotate the credential of tenant {id}"), &row))
        }
        _ => {
            let mut response = answer::accepted(answer::find(&plane, OperationId(operation)).await?);
            response.extensions_mut().insert(Carries::Unfinished);
            Ok(response)
        }
    }
}

/// In seconds; 0 is at once.
fn grace(plane: &Plane, body: &RotateCredentials) -> Answer<u64> {
    match (body.immediate.unwrap_or(false), body.grace_seconds) {
        (true, None) => Ok(0),
        (true, Some(_)) => Err(Refused::field("grace_seconds", "immediate leaves no grace: say one of both")),
        (false, None) => Ok(plane.settings.tenants.rotation_grace_seconds),
        (false, Some(seconds)) if (1..=GRACE_MAX_SECONDS).contains(&seconds) => Ok(seconds),
        (false, Some(_)) => {
            let message = format!("use 1 to {GRACE_MAX_SECONDS} (90 days); immediate refuses the old one at once");
            Err(Refused::field("grace_seconds", message))
        }
    }
}

/// The operation; None: this very request was carried out before, and its answer was lost.
async fn begin(
    plane: &Plane,
    caller: &Caller,
    once: &Once,
    id: &TenantId,
    body: &RotateCredentials,
    grace: u64,
) -> Answer<Option<Uuid>> {
    let actor = caller.actor();
    let template = change::find(plane, id).await?.template;
    // Before the transaction: it may read the store on a connection of its own.
    let replaces = rotate::replaces(plane, &template).await?;
    let mut tx = plane.store.begin().await?;
    let row = tenants::lock(&mut tx, id.as_str()).await?.ok_or_else(|| change::not_found(id))?;
    if once.repeated
        && let Some(key) = &once.key
    {
        if let Some(operation) = row.operation
            && store::in_flight(&mut tx, operation, &actor.reference).await?
        {
            return Ok(Some(operation));
        }
        if row.operation.is_none() && store::was_made_by(&mut tx, id.as_str(), caller.key.0, key).await? {
            return Ok(None);
        }
    }
    change::require_idle(&mut tx, &row).await?;
    check(&mut tx, &row, body, grace, replaces).await?;
    let how = How { grace, replaces, key: Some(caller.key.0), once: once.key.clone() };
    let first = Step::first(how, row.retiring.is_some());
    let new = rotate::new(&actor, id.as_str(), first);
    let started = change::started(id.as_str(), plane.engine.start::<Rotate>(&mut tx, new).await)?;
    let event = Event::done(&actor, "tenant.rotate.begin", format!("tenant:{id}"));
    event.with(json!({"grace_seconds": grace, "in_place": replaces})).save(&mut *tx).await?;
    tx.commit().await?;
    let operation = started.id;
    plane.engine.go(started);
    Ok(Some(operation))
}

async fn check(
    tx: &mut PgConnection,
    row: &TenantRow,
    body: &RotateCredentials,
    grace: u64,
    replaces: bool,
) -> Answer<()> {
    let id = &row.id;
    match row.state() {
        TenantState::Active | TenantState::Suspended => {}
        TenantState::Creating | TenantState::Failed | TenantState::Deleted => {
            let verb = "given another credential";
            return Err(change::wrong_state(id, &row.state, verb, "an active or suspended tenant"));
        }
    }
    if let (Some(retiring), true) = (&row.retiring, grace > 0) {
        let detail = format!(
            "tenant {id} was given another credential already: login {} is in force until {}; wait for that, retire it \
             (freehold credentials retire {id}), or rotate with --immediate, which refuses both",
            retiring.user, retiring.until
        );
        return Err(Refused::new(Code::WrongState, detail));
    }
    if replaces {
        return match body.grace_seconds {
            None => Ok(()),
            Some(_) => {
                let message = format!(
                    "template {} says rotate = \"replace\": the old password is refused when the new one is in force",
                    row.template
                );
                Err(Refused::field("grace_seconds", message))
            }
        };
    }
    let Some(database) = databases::find_of_tenant(&mut *tx, id).await? else {
        return Err(Refused::new(Code::WrongState, format!("tenant {id} is {} and has no database", row.state)));
    };
    let logins = databases::logins(&mut *tx, database.id).await?;
    let Some(login) = logins.iter().find(|login| login.purpose == TENANT) else { return Ok(()) };
    match name::next(&login.role, login.second_of.as_deref(), &database.owner) {
        Ok(_) => Ok(()),
        Err(long) => Err(Refused::new(Code::Prerequisite, long.to_string())),
    }
}

/// The tenant with its connection, which only those see who may read it: each of these reads is on record.
async fn handed_out(plane: &Plane, caller: &Caller, id: &TenantId) -> Answer<Response> {
    let tenant = change::find(plane, id).await?;
    let connection = match caller.has(Scope::Credentials) {
        true => connection::read(plane, &caller.actor(), &tenant.id).await?,
        false => None,
    };
    let carries = connection.is_some().then(|| Carries::Connection(id.clone()));
    let etag = tenant.etag();
    let body = TenantWithConnection { tenant: tenant.into(), connection };
    let mut response = ([(header::ETAG, etag)], Json(body)).into_response();
    if let Some(carries) = carries {
        response.extensions_mut().insert(carries);
    }
    Ok(response)
}
