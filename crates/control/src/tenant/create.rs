//! Creates a tenant: one transaction when there is stock; else the operation `tenant.create` makes what is missing.
//! Every create is idempotent: what exists is answered, when every field that the caller gave agrees.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use freehold_api::id::{PlanName, TemplateName};
use freehold_api::key::Scope;
use freehold_api::operation::Operation;
use freehold_api::plan::Plan;
use freehold_api::problem::Code;
use freehold_api::template::{Names, Template};
use freehold_api::tenant::{Connection, CreateTenant, Labels, TenantState, TenantWithConnection};
use freehold_durable::{New, Started};
use serde_json::json;
use sqlx::PgConnection;

use super::instant::{self, Instant};
use super::placement::{self, Want};
use super::provision::{self, Provision};
use super::store::{self, By, TenantRow};
use super::{change, connection};
use crate::audit::record::{Actor, Event};
use crate::edge::store::{self as edges, External};
use crate::http::access::Caller;
use crate::http::extract::{Json, text};
use crate::http::idempotency::{Carries, Once};
use crate::http::problem::Refused;
use crate::http::request::Wait;
use crate::operation::answer;
use crate::plane::{Answer, Core, Plane};
use crate::server::store::ServerWithUse;
use crate::server_pool;
use crate::server_pool::wait::{self, Asking, Awaited};
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
    once: Once,
    Wait(wait): Wait,
    Json(body): Json<CreateTenant>,
) -> Answer<Response> {
    caller.require_tenant(&body.id)?;
    let by = By { once, ..caller.by() };
    let ensured = ensure(&plane, &caller.actor(), &by, &body, wait, None).await?;
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
        Ensured::OnItsWay { operation } => {
            let mut response = answer::accepted(*operation);
            response.extensions_mut().insert(Carries::Unfinished);
            Ok(response)
        }
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
    by: &By,
    body: &CreateTenant,
    wait: Duration,
    via: Option<&External<'_>>,
) -> Answer<Ensured> {
    check(body)?;
    let (operation, created) = match begin(plane, actor, by, body, via).await? {
        Begun::Ready(tenant, connection) => return Ok(Ensured::There { tenant, created: true, connection }),
        Begun::Started(started) => {
            let id = started.id;
            plane.engine.go(started);
            (id, true)
        }
        Begun::Exists(tenant) => match (tenant.state(), tenant.operation, by.made(&tenant)) {
            (TenantState::Creating, Some(operation), mine) => (operation, mine),
            (_, _, false) => return Ok(Ensured::There { tenant, created: false, connection: None }),
            (_, _, true) => {
                // Handed out a second time: a read like any other.
                let connection = connection::read(plane, actor, &tenant.id).await?.map(Box::new);
                return Ok(Ensured::There { tenant, created: true, connection });
            }
        },
    };
    let row = plane.engine.wait(operation, wait).await?;
    match row {
        Some(row) if row.state == freehold_durable::State::Succeeded => {
            let tenant = store::find(&plane.store, body.id.as_str()).await?;
            let tenant = tenant.ok_or_else(|| Refused::new(Code::NotFound, "the tenant was purged meanwhile"))?;
            let connection = match (created, by.once.repeated) {
                (false, _) => None,
                (true, false) => connection::find(&plane.core, &body.id).await?,
                (true, true) => connection::read(plane, actor, &tenant.id).await?,
            };
            let connection = connection.map(Box::new);
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
    by: &By,
    body: &CreateTenant,
    via: Option<&External<'_>>,
) -> Answer<Begun> {
    let plan = plan_of(&plane.core, body.plan.as_ref())?;
    let (template, stocked) = template_of(&plane.core, body.template.as_ref()).await?;
    let template = &*template;
    // Before the transaction, which holds a connection: whoever waits for a second one while holding a first may wait for ever.
    let fleet = plane.fleet.servers(&plane.store).await?;
    let labels = body.labels.clone().unwrap_or_default();
    let names = template.names_for(&body.id, &labels).map_err(|error| Refused::field("id", error.to_string()))?;
    let want = Want {
        kind: plan.server,
        region: body.region.as_deref(),
        labels: &labels,
        template,
        extensions: &plan.extensions,
        rules: &plane.settings.placement,
    };
    if names.is_none() && template.claim.is_none() && via.is_none() {
        let wanted = Instant {
            body,
            plan: plan.name.as_str(),
            template: template.name.as_str(),
            version: &template.version,
            servers: &placement::candidates(&placement::rank(&want, &fleet)),
            by,
            actor,
        };
        let turn = plane.instants.turn().await?;
        let made = instant::create(&plane.quick, &wanted).await?;
        drop(turn);
        if let Some((tenant, access)) = made {
            plane.engine.wake("stock");
            plane.fleet.placed(tenant.server_id.as_deref().unwrap_or_default()).await;
            begin_stocking(plane, template.name.as_str(), stocked).await?;
            let connection = Box::new(connection::open(&plane.core, &access)?);
            return Ok(Begun::Ready(Box::new(tenant), Some(connection)));
        }
    }
    let chosen = Chosen { plan, template, stocked, labels: &labels, names: names.as_ref() };
    if let Some(begun) = begin_at(plane, actor, by, body, via, &chosen, &fleet, None).await? {
        return Ok(begun);
    }
    // Nobody had a slot a moment ago: a server may have come or emptied since, or comes when it is asked for.
    let fleet = plane.fleet.no_older_than(&plane.store, wait::SURE).await?;
    let otherwise = wait::decide(&plane.core, &want, &fleet, Asking::Anew).await;
    let begun = begin_at(plane, actor, by, body, via, &chosen, &fleet, Some(otherwise)).await?;
    begun.ok_or_else(|| Refused::new(Code::NoRoom, "no server can take the tenant"))
}

/// What a tenant is going to be.
struct Chosen<'a> {
    plan: &'a Plan,
    template: &'a Template,
    stocked: bool,
    labels: &'a Labels,
    names: Option<&'a Names>,
}

/// None, and nothing done, where no server of this look at the fleet has a slot and it is not said what happens then.
#[expect(clippy::too_many_arguments, reason = "one caller, which says it twice")]
async fn begin_at(
    plane: &Plane,
    actor: &Actor,
    by: &By,
    body: &CreateTenant,
    via: Option<&External<'_>>,
    chosen: &Chosen<'_>,
    fleet: &[ServerWithUse],
    otherwise: Option<Answer<Awaited>>,
) -> Answer<Option<Begun>> {
    let Chosen { plan, template, stocked, labels, names } = *chosen;
    let id = body.id.as_str();
    let subject = format!("tenant:{id}");
    let turn = plane.creates.turn().await?;
    let mut tx = plane.store.begin().await?;
    if !store::insert(&mut tx, body, plan.name.as_str(), template.name.as_str(), by).await? {
        let existing = store::lock(&mut tx, id).await?;
        // Purged between the two statements: the caller's next try finds the id free.
        let existing =
            existing.ok_or_else(|| Refused::new(Code::Busy, format!("tenant {id} was being purged; try again")))?;
        if let Some(external) = via {
            edges::require(&mut tx, external, &body.id).await?;
        }
        if existing.state() != TenantState::Failed || existing.operation.is_some() {
            return agrees(body, existing).map(Some);
        }
        store::begin_again(&mut tx, body, plan.name.as_str(), template.name.as_str(), by).await?;
    }
    if let Some(external) = via {
        edges::bind(&mut tx, external, &body.id).await?;
    }
    let wanted = claim::Claim { tenant: id, region: body.region.as_deref(), labels, plan, template, names, fleet };
    let given = match (claim::claim(&plane.core, &mut tx, &wanted).await?, otherwise) {
        (Some(given), _) => given,
        (None, None) => return Ok(None),
        (None, Some(otherwise)) => {
            let awaited = otherwise?;
            store::wait_for(&mut tx, id, &awaited).await?;
            let new = provision::new(&plane.core, actor, id, provision::Step::Place);
            let started = change::started(id, plane.engine.start::<Provision>(&mut tx, new).await)?;
            let details = json!({"plan": plan.name, "template": template.name, "server_pool": awaited.pool});
            Event::done(actor, "tenant.create.begin", subject).with(details).save(&mut *tx).await?;
            plane.engine.wake_in(&mut tx, server_pool::LOOP).await?;
            tx.commit().await?;
            begin_stocking(plane, template.name.as_str(), stocked).await?;
            return Ok(Some(Begun::Started(started)));
        }
    };
    let first = provision::first_step(&given, template.claim.is_some());
    let placed = store::place(&mut tx, id, &given.server, &template.version, &given.missing, first.is_none()).await?;
    let details = json!({"plan": plan.name, "template": template.name, "server": given.server});
    let begun = match first {
        None => {
            finished(plane, &mut tx, actor, &subject, details).await?;
            let tenant = TenantRow { labels: sqlx::types::Json(labels.clone()), ..placed };
            let connection = given.access.as_ref().map(|access| connection::open(&plane.core, access)).transpose()?;
            Begun::Ready(Box::new(tenant), connection.map(Box::new))
        }
        Some(step) => {
            // From stock: the brake never stops these.
            let new = New { urgent: !given.to_make, ..provision::new(&plane.core, actor, id, step) };
            let started = change::started(id, plane.engine.start::<Provision>(&mut tx, new).await)?;
            Event::done(actor, "tenant.create.begin", subject).with(details).save(&mut *tx).await?;
            Begun::Started(started)
        }
    };
    tx.commit().await?;
    drop(turn);
    plane.fleet.placed(&given.server).await;
    // One was taken from stock, or there was none.
    plane.engine.wake("stock");
    begin_stocking(plane, template.name.as_str(), stocked).await?;
    Ok(Some(begun))
}

/// The plan of this name, or the default one.
pub fn plan_of<'a>(core: &'a Core, name: Option<&PlanName>) -> Answer<&'a Plan> {
    let settings = &core.settings;
    let Some(name) = name else { return Ok(settings.default_plan()) };
    settings.plan(name.as_str()).ok_or_else(|| {
        let known: Vec<_> = settings.plans.iter().map(|plan| plan.name.as_str()).collect();
        Refused::new(Code::UnknownPlan, format!("there is no plan {name}; there are: {}", known.join(", ")))
    })
}

/// The current template of this name, or the default one; and whether stock of it is kept.
pub async fn template_of(core: &Core, name: Option<&TemplateName>) -> Answer<(Arc<Template>, bool)> {
    let name = name.unwrap_or(&core.settings.tenants.default_template);
    core.catalog.all(&core.store).await?.get(name.as_str()).cloned().ok_or_else(|| {
        Refused::new(Code::UnknownTemplate, format!("there is no template {name}; `freehold template list` shows them"))
    })
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
