//! `freehold tenant import`: a database of a server that is not Freehold's comes in as a new tenant's, while it is used there.
//!
//! [`check`] looks and says everything that stands against it at once (`judge` decides, pure); [`run`] is the operation. All
//! of it is read by one snapshot, and nothing is changed at the source: what is written there later is not here, and the
//! answers say so. Its connection string is sealed, in a row that goes with the operation.
//!
//! Absent: logical replication, by which writes could go on until the very end, and any trust in the source. What is
//! restored is restored as the tenant's own roles, which are the only ones that could be fooled by it.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use freehold_api::OperationId;
use freehold_api::id::TenantId;
use freehold_api::import::{Import as Found, ImportDatabase, TenantImport};
use freehold_api::key::Scope;
use freehold_api::operation::Operation as OperationBody;
use freehold_api::problem::{Code, Problem};
use freehold_api::tenant::{CreateTenant, TenantState, TenantWithConnection};
use freehold_drivers::server::sql::Dsn;
use freehold_durable::{New, Started, State as OpState};
use serde_json::json;

use self::check::CheckImport;
use self::look::Wanted;
use self::run::Import;
use super::{change, connection, create, report, store as tenants};
use crate::audit::record::Event;
use crate::http::access::Caller;
use crate::http::extract::{Id, Json};
use crate::http::idempotency::Carries;
use crate::http::problem::Refused;
use crate::http::request::Wait;
use crate::operation::answer;
use crate::plane::{Answer, Plane};

mod carry;
pub mod check;
pub mod judge;
pub mod look;
mod place;
pub mod run;
pub mod source;
pub mod store;

/// Import a database from a server that is not Freehold's, as a new tenant's
#[utoipa::path(post, path = "/v1/tenants/{id}/import", tag = "tenants", params(("id" = TenantId, Path, description = "The new tenant's id")),
    request_body = ImportDatabase,
    responses(
        (status = 201, description = "The tenant; with its connection where the key may read credentials", body = TenantWithConnection),
        (status = 200, description = "With `dry_run`: what would be done", body = Found),
        (status = 202, description = "It is being copied; look at the operation", body = OperationBody)))]
pub async fn begin(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<TenantId>,
    Wait(wait): Wait,
    Json(body): Json<ImportDatabase>,
) -> Answer<Response> {
    let dsn = source::parse(&body)?;
    create::check(&as_create(&id, &body))?;
    let plan = create::plan_of(&plane.core, body.plan.as_ref())?;
    let (template, _) = create::template_of(&plane.core, body.template.as_ref()).await?;
    let wanted = Wanted {
        plan: plan.name.to_string(),
        template: template.name.to_string(),
        region: body.region.clone(),
        labels: body.labels.clone().unwrap_or_default(),
    };
    refuse_existing(&plane, &id).await?;
    let found: Found = {
        let mut tx = plane.store.begin().await?;
        let step = check::Step::Look { tenant: id.to_string(), wanted: wanted.clone() };
        let started = report::start_in::<CheckImport>(&plane, &mut tx, check::KIND, step, &caller.actor()).await?;
        source::seal(&plane.core, &mut tx, started.id, &body).await?;
        tx.commit().await?;
        report::read(&plane, "look at the source", &id, started).await?
    };
    if body.dry_run {
        return Ok(Json(found).into_response());
    }
    if !found.refusals.is_empty() {
        return Err(refused(&found));
    }
    let started = start(&plane, &caller, &id, &body, &dsn, &wanted).await?;
    let operation = started.id;
    plane.engine.go(started);
    match plane.engine.wait(operation, wait).await? {
        Some(row) if row.state == OpState::Succeeded => answered(&plane, &caller, &id).await,
        Some(row) if row.state.is_over() => Err(change::refused_by(&format!("import tenant {id}"), &row)),
        _ => Ok(answer::accepted(answer::find(&plane, OperationId(operation)).await?)),
    }
}

/// What a tenant was imported from, and as of when
#[utoipa::path(get, path = "/v1/tenants/{id}/import", tag = "tenants", params(("id" = TenantId, Path, description = "The tenant's id")),
    responses((status = 200, description = "Of a tenant that was imported, or is being imported", body = TenantImport)))]
pub async fn show(State(plane): State<Plane>, Id(id): Id<TenantId>) -> Answer<Json<TenantImport>> {
    let tenant = change::find(&plane, &id).await?;
    let none = || Refused::new(Code::NotFound, format!("tenant {id} was not imported"));
    let row = store::came(&plane.store, id.as_str()).await?.ok_or_else(none)?;
    Ok(Json(TenantImport {
        from: row.source,
        postgres: look::major(row.version_num),
        as_of: row.as_of.map(jiff_sqlx::Timestamp::to_jiff),
        notes: row.notes.0,
        operation: tenant.operation.map(OperationId),
        tenant: id,
    }))
}

/// Everything at once: each reason is an error of its own.
fn refused(found: &Found) -> Refused {
    let detail = format!("{} cannot be imported: {} reasons, see errors", found.from, found.refusals.len());
    let problem = Problem::new(Code::Prerequisite, detail);
    let with =
        |problem: Problem, reason: &freehold_api::server::Finding| problem.with_field(&reason.code, &reason.message);
    found.refusals.iter().fold(problem, with).into()
}

fn as_create(id: &TenantId, body: &ImportDatabase) -> CreateTenant {
    CreateTenant {
        name: body.name.clone(),
        plan: body.plan.clone(),
        region: body.region.clone(),
        template: body.template.clone(),
        labels: body.labels.clone(),
        ..CreateTenant::named(id.clone())
    }
}

/// Nothing is put into what is there.
async fn refuse_existing(plane: &Plane, id: &TenantId) -> Answer<()> {
    let Some(row) = tenants::find(&plane.store, id.as_str()).await? else { return Ok(()) };
    if let Some(operation) = row.operation {
        let kind = plane.engine.get(operation).await?.map_or_else(String::new, |row| row.kind);
        return Err(change::busy(id.as_str(), operation, &kind));
    }
    match row.state() {
        TenantState::Failed => Ok(()),
        TenantState::Deleted => {
            let detail = format!("tenant {id} was deleted and is in its grace period; purge it, or choose another id");
            Err(Refused::new(Code::TenantDeleted, detail))
        }
        TenantState::Creating | TenantState::Active | TenantState::Suspended => {
            let detail =
                format!("tenant {id} exists and has a database: an import makes a new tenant; choose another id");
            Err(Refused::new(Code::TenantExists, detail))
        }
    }
}

async fn start(
    plane: &Plane,
    caller: &Caller,
    id: &TenantId,
    body: &ImportDatabase,
    dsn: &Dsn,
    wanted: &Wanted,
) -> Answer<Started> {
    let create = as_create(id, body);
    let mut tx = plane.store.begin().await?;
    if !tenants::insert(&mut tx, &create, &wanted.plan, &wanted.template, &caller.by()).await? {
        let row = tenants::lock(&mut tx, id.as_str()).await?;
        let again = row.is_some_and(|row| row.state() == TenantState::Failed && row.operation.is_none());
        if !again {
            return Err(Refused::new(Code::Busy, format!("somebody else is making tenant {id}; try again")));
        }
        tenants::begin_again(&mut tx, &create, &wanted.plan, &wanted.template, &caller.by()).await?;
    }
    let new = New {
        deadline: Some(run::DEADLINE),
        ..change::new::<Import>(run::KIND, id.as_str(), run::Step::Place, &caller.actor())
    };
    let started = change::started(id.as_str(), plane.engine.start::<Import>(&mut tx, new).await)?;
    source::seal(&plane.core, &mut tx, started.id, body).await?;
    let details = json!({"from": dsn.public(), "plan": wanted.plan, "template": wanted.template});
    let event = Event::done(&caller.actor(), "tenant.import.begin", format!("tenant:{id}"));
    event.with(details).save(&mut *tx).await?;
    tx.commit().await?;
    Ok(started)
}

async fn answered(plane: &Plane, caller: &Caller, id: &TenantId) -> Answer<Response> {
    let row = change::find(plane, id).await?;
    let etag = HeaderValue::from_str(&row.etag()).unwrap_or(HeaderValue::from_static("\"0\""));
    let connection = match caller.has(Scope::Credentials) {
        true => connection::read(plane, &caller.actor(), id.as_str()).await?,
        false => None,
    };
    let carries = connection.is_some().then(|| Carries::Connection(id.clone()));
    let body = TenantWithConnection { tenant: row.into(), connection };
    let location = [(header::LOCATION, format!("/v1/tenants/{id}"))];
    let mut response = (StatusCode::CREATED, location, Json(body)).into_response();
    response.headers_mut().insert(header::ETAG, etag);
    if let Some(carries) = carries {
        response.extensions_mut().insert(carries);
    }
    Ok(response)
}
