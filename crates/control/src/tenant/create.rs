//! Creates a tenant: one transaction when there is stock; else the operation `tenant.create` makes what is missing.
//! Every create is idempotent: what exists is answered, when every field that the caller gave agrees.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use freehold_api::key::Scope;
use freehold_api::operation::Operation;
use freehold_api::problem::Code;
use freehold_api::tenant::{Connection, CreateTenant, TenantState, TenantWithConnection};
use freehold_durable::{New, StartError, Started};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::instant::{self, Instant};
use super::placement::{self, Want};
use super::provision::{self, Provision};
use super::store::{self, TenantRow};
use super::{change, connection};
use crate::audit::record::{Actor, Event};
use crate::edge::store::{self as edges, External};
use crate::http::access::Caller;
use crate::http::extract::{Json, text};
use crate::http::idempotency::Carries;
use crate::http::problem::Refused;
use crate::http::request::Wait;
use crate::operation::answer;
use crate::plane::{Answer, Plane};
use crate::stock::claim;

/// Create a tenant
#[utoipa::path(post, path = "/v1/tenants", tag = "tenants", request_body = CreateTenant,
    responses(
        (status = 201, description = "The tenant and its connection; exactly one caller sees this", body = TenantWithConnection),
        (status = 200, description = "It existed, with the same values", body = TenantWithConnection),
        (status = 202, description = "It is being made; look at the operation", body = Operation)))]
pub async fn create(
    State(plane): State<Plane>,
    caller: Caller,
    Wait(wait): Wait,
    Json(body): Json<CreateTenant>,
) -> Answer<Response> {
    caller.require_tenant(&body.id)?;
    let ensured = ensure(&plane, &caller.actor(), Some(caller.key.0), &body, wait, None).await?;
    match ensured {
        Ensured::There { tenant, created, connection } => {
            let connection = match connection {
                None if caller.has(Scope::Credentials) => connection::read(&plane, &caller.actor(), &tenant.id).await?,
                handed_out => handed_out.map(|connection| *connection),
            };
            let carries = connection.is_some().then(|| Carries::Connection(body.id.clone()));
            let status = if created { StatusCode::CREATED } else { StatusCode::OK };
            let location = format!("/v1/tenants/{}", tenant.id);
            let etag = HeaderValue::from_str(&tenant.etag()).unwrap_or(HeaderValue::from_static("\"0\""));
            let body_out = TenantWithConnection { tenant: (*tenant).into(), connection };
            let mut response = (status, [(header::LOCATION, location)], Json(body_out)).into_response();
            response.headers_mut().insert(header::ETAG, etag);
            if let Some(carries) = carries {
                response.extensions_mut().insert(carries);
            }
            Ok(response)
        }
        Ensured::OnItsWay { operation } => Ok(answer::accepted(*operation)),
    }
}

pub enum Ensured {
    /// With its connection when this very call created it: that is on record as the create.
    There {
        tenant: Box<TenantRow>,
        created: bool,
        connection: Option<Box<Connection>>,
    },
    OnItsWay {
        operation: Box<Operation>,
    },
}

/// Also what the edges call.
pub async fn ensure(
    plane: &Plane,
    actor: &Actor,
    key: Option<Uuid>,
    body: &CreateTenant,
    wait: Duration,
    via: Option<&External<'_>>,
) -> Answer<Ensured> {
    check(body)?;
    let (operation, created) = match begin(plane, actor, key, body, via).await? {
        Begun::Ready(tenant, connection) => return Ok(Ensured::There { tenant, created: true, connection }),
        Begun::Started(started) => {
            let id = started.id;
            plane.engine.go(started);
            (id, true)
        }
        Begun::Exists(tenant) => match (tenant.state(), tenant.operation) {
            (TenantState::Creating, Some(operation)) => (operation, false),
            _ => return Ok(Ensured::There { tenant, created: false, connection: None }),
        },
    };
    let row = plane.engine.wait(operation, wait).await?;
    match row {
        Some(row) if row.state == freehold_durable::State::Succeeded => {
            let tenant = store::find(&plane.store, body.id.as_str()).await?;
            let tenant = tenant.ok_or_else(|| Refused::new(Code::NotFound, "the tenant was purged meanwhile"))?;
            let connection = if created { connection::find(&plane.core, &body.id).await?.map(Box::new) } else { None };
            Ok(Ensured::There { tenant: Box::new(tenant), created, connection })
        }
        Some(row) if row.state.is_over() => Err(change::refused_by(&format!("create tenant {}", body.id), &row)),
        _ => {
            let operation = Box::new(answer::find(plane, freehold_api::OperationId(operation)).await?);
            Ok(Ensured::OnItsWay { operation })
        }
    }
}

enum Begun {
    Ready(Box<TenantRow>, Option<Box<Connection>>),
    Started(Started),
    Exists(Box<TenantRow>),
}

async fn begin(
    plane: &Plane,
    actor: &Actor,
    key: Option<Uuid>,
    body: &CreateTenant,
    via: Option<&External<'_>>,
) -> Answer<Begun> {
    let settings = &plane.settings;
    let plan = match &body.plan {
        Some(name) => settings.plan(name.as_str()).ok_or_else(|| {
            let known: Vec<_> = settings.plans.iter().map(|plan| plan.name.as_str()).collect();
            Refused::new(Code::UnknownPlan, format!("there is no plan {name}; there are: {}", known.join(", ")))
        })?,
        None => settings.default_plan(),
    };
    let template_name = body.template.as_ref().unwrap_or(&settings.tenants.default_template);
    let templates = plane.catalog.all(&plane.store).await?;
    let (template, stocked) = templates.get(template_name.as_str()).ok_or_else(|| {
        Refused::new(
            Code::UnknownTemplate,
            format!("there is no template {template_name}; `freehold template list` shows them"),
        )
    })?;
    let id = body.id.as_str();
    // Before the transaction, which holds a connection: whoever waits for a second one while holding a first may wait for ever.
    let fleet = plane.fleet.servers(&plane.store).await?;
    let labels = body.labels.clone().unwrap_or_default();
    let names = template.names_for(&body.id, &labels).map_err(|error| Refused::field("id", error.to_string()))?;
    let want = Want { kind: plan.server, region: body.region.as_deref(), template };
    let subject = format!("tenant:{id}");
    let mut tx = plane.store.begin().await?;
    if names.is_none() && template.claim.is_none() && via.is_none() {
        let wanted = Instant {
            body,
            plan: plan.name.as_str(),
            template: template.name.as_str(),
            version: &template.version,
            servers: &placement::rank(&want, &fleet),
            created_by: key,
        };
        if let Some((tenant, access)) = instant::create(&mut tx, &wanted).await? {
            let connection = Box::new(connection::open(&plane.core, &access)?);
            let details = json!({"plan": plan.name, "template": template.name, "server": tenant.server_id});
            finished(plane, &mut tx, actor, &subject, details).await?;
            tx.commit().await?;
            plane.engine.wake("stock");
            begin_stocking(plane, template.name.as_str(), *stocked).await?;
            return Ok(Begun::Ready(Box::new(tenant), Some(connection)));
        }
    }
    if !store::insert(&mut tx, body, plan.name.as_str(), template.name.as_str(), key).await? {
        let existing = store::lock(&mut tx, id).await?;
        // Purged between the two statements: the caller's next try finds the id free.
        let existing =
            existing.ok_or_else(|| Refused::new(Code::Busy, format!("tenant {id} was being purged; try again")))?;
        if let Some(external) = via {
            edges::require(&mut tx, external, &body.id).await?;
        }
        if existing.state() != TenantState::Failed || existing.operation.is_some() {
            return agrees(body, existing);
        }
        store::begin_again(&mut tx, body, plan.name.as_str(), template.name.as_str()).await?;
    }
    if let Some(external) = via {
        edges::bind(&mut tx, external, &body.id).await?;
    }
    let wanted = claim::Claim {
        tenant: id,
        region: body.region.as_deref(),
        plan,
        template,
        names: names.as_ref(),
        fleet: &fleet,
    };
    let given = claim::claim(&plane.core, &mut tx, &wanted).await?;
    let first = provision::first_step(&given, template.claim.is_some());
    let placed = store::place(&mut tx, id, &given.server, &template.version, &given.missing, first.is_none()).await?;
    let details = json!({"plan": plan.name, "template": template.name, "server": given.server});
    let begun = match first {
        None => {
            finished(plane, &mut tx, actor, &subject, details).await?;
            let tenant = TenantRow { labels: sqlx::types::Json(labels), ..placed };
            let connection = given.access.map(|access| connection::open(&plane.core, &access)).transpose()?;
            Begun::Ready(Box::new(tenant), connection.map(Box::new))
        }
        Some(step) => {
            let new = New {
                subject: Some(subject.clone()),
                deadline: Some(Duration::from_secs(settings.tenants.create_deadline_seconds)),
                requested_by: Some(actor.reference.clone()),
                request_id: actor.request.clone(),
                ..New::of("tenant.create", step)
            };
            let started = plane.engine.start::<Provision>(&mut tx, new).await.map_err(|error| match error {
                StartError::Busy { operation, kind } => change::busy(id, operation, &kind),
                StartError::Store(error) => error.into(),
            })?;
            Event::done(actor, "tenant.create.begin", subject).with(details).save(&mut *tx).await?;
            Begun::Started(started)
        }
    };
    tx.commit().await?;
    // One was taken from stock, or there was none.
    plane.engine.wake("stock");
    begin_stocking(plane, template.name.as_str(), *stocked).await?;
    Ok(begun)
}

/// The record of a create that was one transaction: an operation that is over, and the audit.
async fn finished(
    plane: &Plane,
    tx: &mut PgConnection,
    actor: &Actor,
    subject: &str,
    details: serde_json::Value,
) -> Answer<()> {
    let (by, request) = (Some(actor.reference.as_str()), actor.request.as_deref());
    plane.engine.start_finished(tx, "tenant.create", Some(subject), "Activate", by, request).await?;
    Ok(Event::done(actor, "tenant.create", subject).with(details).save(tx).await?)
}

/// From its first use on, servers keep stock of a template.
async fn begin_stocking(plane: &Plane, template: &str, stocked: bool) -> Answer<()> {
    if !stocked && crate::schema::store::begin_stocking(&plane.store, template).await? {
        plane.catalog.forget().await;
        plane.engine.wake("stock");
    }
    Ok(())
}

/// Fields that the caller gave must agree with the tenant that is there.
fn agrees(body: &CreateTenant, existing: TenantRow) -> Answer<Begun> {
    if existing.state() == TenantState::Deleted {
        let detail = format!(
            "tenant {0} was deleted and is in its grace period; undelete it (POST /v1/tenants/{0}/undelete) or purge it",
            body.id
        );
        return Err(Refused::new(Code::TenantDeleted, detail));
    }
    let differs = [
        ("name", body.name.as_ref().is_some_and(|name| *name != existing.name)),
        ("plan", body.plan.as_ref().is_some_and(|plan| plan.as_str() != existing.plan)),
        ("region", body.region.is_some() && body.region != existing.region),
        ("template", body.template.as_ref().is_some_and(|template| template.as_str() != existing.template)),
        ("labels", body.labels.as_ref().is_some_and(|labels| *labels != existing.labels.0)),
        (
            "deletion_protection",
            body.deletion_protection.is_some_and(|protected| protected != existing.deletion_protection),
        ),
    ];
    match differs.into_iter().find(|(_, differs)| *differs) {
        Some((field, _)) => Err(Refused::new(
            Code::TenantExists,
            format!("tenant {} exists with another {field}; PATCH changes name and labels", body.id),
        )),
        None => Ok(Begun::Exists(Box::new(existing))),
    }
}

/// What can be refused without looking at anything else.
pub fn check(body: &CreateTenant) -> Answer<()> {
    if let Some(name) = &body.name {
        text("name", name, 512)?;
    }
    if let Some(region) = &body.region {
        text("region", region, 63)?;
    }
    if let Some(labels) = &body.labels {
        change::check_labels(labels.iter().map(|(key, value)| (key.as_str(), Some(value.as_str()))))?;
    }
    Ok(())
}
