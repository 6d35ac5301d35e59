//! `freehold tenant adopt`: a database that is there already becomes a tenant's, in place.
//!
//! [`inspect`] looks and says everything that stands against it at once (`judge` decides, pure); [`take`] is the
//! operation. Until its end the database can be given back as it was. Absent: copying, and any look at the data.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use freehold_api::adopt::{AdoptDatabase, Adopted, Adoption};
use freehold_api::id::{TemplateName, TenantId};
use freehold_api::key::Scope;
use freehold_api::operation::Operation as OperationBody;
use freehold_api::problem::{Code, Problem};
use freehold_api::tenant::{CreateTenant, TenantState, TenantWithConnection};
use freehold_durable::{Started, State as OpState};
use serde_json::json;
use sqlx::PgConnection;

use self::inspect::Inspect;
use self::judge::Asked;
use self::take::{Adopt, Step};
use super::{change, connection, create, report, store as tenants};
use crate::audit::record::Event;
use crate::http::access::Caller;
use crate::http::extract::{Id, Json, text};
use crate::http::idempotency::Carries;
use crate::http::problem::{Refused, constraint};
use crate::http::request::Wait;
use crate::operation::answer;
use crate::plane::{Answer, Plane};
use crate::server::store as servers;
use crate::stock::declare::{self, Wanted};
use crate::stock::store as databases;

pub mod inspect;
mod judge;
pub mod store;
pub mod take;

/// PostgreSQL's own limit, in bytes.
const NAME_MAX: usize = 63;
const KEPT_MAX: usize = 32;

/// Take over a database that is there already, in place
#[utoipa::path(post, path = "/v1/tenants/{id}/adopt", tag = "tenants", params(("id" = TenantId, Path, description = "The new tenant's id")),
    request_body = AdoptDatabase,
    responses(
        (status = 201, description = "The tenant; with its connection where the key may read credentials", body = TenantWithConnection),
        (status = 200, description = "With `dry_run`: what would be done. Else: the tenant, as it was adopted already", body = inline(Adopted)),
        (status = 202, description = "It is being taken over; look at the operation", body = OperationBody)))]
pub async fn adopt(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<TenantId>,
    Wait(wait): Wait,
    Json(body): Json<AdoptDatabase>,
) -> Answer<Response> {
    check(&body)?;
    let server = servers::find(&plane.store, body.server.as_str()).await?;
    server.ok_or_else(|| Refused::new(Code::NotFound, format!("there is no server {}", body.server)))?;
    if let Some(begun) = existing(&plane, &id, &body).await? {
        return answered(&plane, &caller, &id, begun, wait, StatusCode::OK).await;
    }
    let look = inspect::Step::Look { tenant: id.to_string(), body: Box::new(body.clone()) };
    let look = report::start::<Inspect>(&plane, "tenant.adopt_check", look, &caller.actor(), None).await?;
    let found: Adoption = report::read(&plane, "look at a database", &id, look).await?;
    if body.dry_run {
        return Ok(Json(Adopted::Look(Box::new(found))).into_response());
    }
    if !found.refusals.is_empty() {
        return Err(refused(&found));
    }
    let started = begin(&plane, &caller, &id, &body).await?;
    let operation = started.id;
    plane.engine.go(started);
    answered(&plane, &caller, &id, Some(operation), wait, StatusCode::CREATED).await
}

/// Everything at once: each reason is an error of its own.
fn refused(found: &Adoption) -> Refused {
    let detail = format!(
        "database {} on server {} cannot be adopted: {} reasons, see errors",
        found.database,
        found.server,
        found.refusals.len()
    );
    let problem = Problem::new(Code::Prerequisite, detail);
    let with =
        |problem: Problem, reason: &freehold_api::server::Finding| problem.with_field(&reason.code, &reason.message);
    found.refusals.iter().fold(problem, with).into()
}

fn check(body: &AdoptDatabase) -> Answer<()> {
    let names = body.keep_logins.iter().map(|name| ("keep_logins", name));
    let names = names.chain(body.owner.iter().map(|name| ("owner", name))).chain([("database", &body.database)]);
    for (field, name) in names {
        text(field, name, NAME_MAX)?;
        if name.len() > NAME_MAX {
            return Err(Refused::field(
                field,
                format!("it has {} bytes; PostgreSQL's names have at most 63", name.len()),
            ));
        }
    }
    if body.keep_logins.len() > KEPT_MAX {
        return Err(Refused::field("keep_logins", format!("at most {KEPT_MAX} can be kept")));
    }
    create::check(&as_create(&"x".parse().expect("a slug"), body))
}

fn as_create(id: &TenantId, body: &AdoptDatabase) -> CreateTenant {
    CreateTenant {
        name: body.name.clone(),
        plan: body.plan.clone(),
        template: Some(template(body)),
        labels: body.labels.clone(),
        ..CreateTenant::named(id.clone())
    }
}

fn template(body: &AdoptDatabase) -> TemplateName {
    body.template.clone().unwrap_or_else(|| "default".parse().expect("a slug"))
}

/// None: there is no such tenant. Else it is this very database's, and perhaps still being taken over.
async fn existing(plane: &Plane, id: &TenantId, body: &AdoptDatabase) -> Answer<Option<Option<uuid::Uuid>>> {
    let Some(row) = tenants::find(&plane.store, id.as_str()).await? else { return Ok(None) };
    if row.state() == TenantState::Failed && row.operation.is_none() {
        return Ok(None);
    }
    let found = databases::find_of_tenant(&plane.store, id.as_str()).await?;
    let same = found.is_some_and(|found| found.server_id == body.server.as_str() && found.database == body.database);
    match (same, row.state()) {
        (true, TenantState::Creating) => Ok(Some(row.operation)),
        (true, TenantState::Active | TenantState::Suspended) => Ok(Some(None)),
        _ => Err(Refused::new(Code::TenantExists, format!("tenant {id} is {} and has another database", row.state))),
    }
}

async fn begin(plane: &Plane, caller: &Caller, id: &TenantId, body: &AdoptDatabase) -> Answer<Started> {
    let plan = create::plan_of(&plane.core, body.plan.as_ref())?;
    let (template, _) = create::template_of(&plane.core, Some(&template(body))).await?;
    // Verifiers take milliseconds of CPU: made before the transaction.
    let minted = declare::mint(&plane.core, template.manifest.password.length).await;
    let (plan_name, template_name) = (plan.name.as_str(), template.name.as_str());
    let create = as_create(id, body);
    let mut tx = plane.store.begin().await?;
    if !tenants::insert(&mut tx, &create, plan_name, template_name, &caller.by()).await? {
        let row = tenants::lock(&mut tx, id.as_str()).await?;
        let again = row.is_some_and(|row| row.state() == TenantState::Failed && row.operation.is_none());
        if !again {
            return Err(Refused::new(Code::Busy, format!("somebody else is making tenant {id}; try again")));
        }
        tenants::begin_again(&mut tx, &create, plan_name, template_name, &caller.by()).await?;
    }
    room(&mut tx, body).await?;
    tenants::place(&mut tx, id.as_str(), body.server.as_str(), &template.version, &[], false).await?;
    let wanted = Wanted {
        server: body.server.as_str(),
        template: &template,
        plan: plan_name,
        tenant: Some(id.as_str()),
        names: None,
    };
    let row = declare::declare_existing(&mut tx, &wanted, &body.database, minted).await;
    let row = row.map_err(|error| match constraint(&error) {
        Some("tenant_database_server_id_database_key") => {
            Refused::new(Code::NameTaken, format!("database {} is a tenant's already", body.database))
        }
        _ => error.into(),
    })?;
    store::keep_logins(&mut tx, row.id, &body.keep_logins).await?;
    let step = Step::Record { database: row.id, asked: Asked::of(body) };
    let new = freehold_durable::New {
        deadline: Some(std::time::Duration::from_secs(plane.settings.tenants.create_deadline_seconds)),
        ..change::new::<Adopt>("tenant.adopt", id.as_str(), step, &caller.actor())
    };
    let started = change::started(id.as_str(), plane.engine.start::<Adopt>(&mut tx, new).await)?;
    let details = json!({"server": body.server, "database": body.database, "keep_logins": body.keep_logins,
        "end_sessions": body.end_sessions, "disable_event_triggers": body.disable_event_triggers});
    let event = Event::done(&caller.actor(), "tenant.adopt.begin", format!("tenant:{id}"));
    event.with(details).save(&mut *tx).await?;
    tx.commit().await?;
    plane.fleet.forget().await;
    Ok(started)
}

async fn room(tx: &mut PgConnection, body: &AdoptDatabase) -> Answer<()> {
    match store::has_room(tx, body.server.as_str()).await? {
        Some(true) => Ok(()),
        Some(false) => {
            Err(Refused::new(Code::NoRoom, format!("server {} has no slot left; raise its capacity", body.server)))
        }
        None => {
            let detail =
                format!("server {} takes no tenants now; only one that is active or cordoned does", body.server);
            Err(Refused::new(Code::WrongState, detail))
        }
    }
}

/// None: it is done.
async fn answered(
    plane: &Plane,
    caller: &Caller,
    id: &TenantId,
    operation: Option<uuid::Uuid>,
    wait: std::time::Duration,
    made: StatusCode,
) -> Answer<Response> {
    if let Some(operation) = operation {
        match plane.engine.wait(operation, wait).await? {
            Some(row) if row.state == OpState::Succeeded => {}
            Some(row) if row.state.is_over() => return Err(change::refused_by(&format!("adopt tenant {id}"), &row)),
            _ => return Ok(answer::accepted(answer::find(plane, freehold_api::OperationId(operation)).await?)),
        }
    }
    let row = change::find(plane, id).await?;
    let etag = HeaderValue::from_str(&row.etag()).unwrap_or(HeaderValue::from_static("\"0\""));
    let connection = match caller.has(Scope::Credentials) {
        true => connection::read(plane, &caller.actor(), id.as_str()).await?,
        false => None,
    };
    let carries = connection.is_some().then(|| Carries::Connection(id.clone()));
    let body = TenantWithConnection { tenant: row.into(), connection };
    let mut response = (made, [(header::LOCATION, format!("/v1/tenants/{id}"))], Json(body)).into_response();
    response.headers_mut().insert(header::ETAG, etag);
    if let Some(carries) = carries {
        response.extensions_mut().insert(carries);
    }
    Ok(response)
}
