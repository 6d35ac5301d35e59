//! `POST /db/api/provisioning/tenants`: idempotent, always 200.

use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use freehold_api::TenantId;
use freehold_api::key::Scope;
use freehold_api::problem::Code;
use freehold_api::tenant::{CreateTenant, TenantState};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{NAME, Need, admit};
use crate::edge::store::{self, External};
use crate::http::access::Caller;
use crate::http::extract::Json as Body;
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};
use crate::settings::Edge;
use crate::stock::store as databases;
use crate::tenant::create::{self, Ensured};
use crate::tenant::store::{self as tenants, TenantRow};

const NEED: Need = Need { any: &[Scope::Provision], action: "edge.tansucloud.provision", title: None };
/// The original answers when the work is done; so does this, up to a minute.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    #[serde(default)]
    tenant_id: Option<String>,
    #[serde(default)]
    display_name: Option<String>,
    #[serde(default)]
    region: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Provisioned {
    tenant_id: String,
    database: String,
    created: bool,
    message: &'static str,
}

pub(super) async fn provision(State((plane, edge)): State<(Plane, Edge)>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let caller = match admit(&plane, &mut parts, &NEED).await {
        Ok(caller) => caller,
        Err(response) => return *response,
    };
    let request = Request::from_parts(parts, body);
    let answer = async {
        let Body(wanted) = Body::<Wanted>::from_request(request, &()).await?;
        ensure(&plane, &edge, &caller, wanted).await
    };
    match answer.await {
        Ok(provisioned) => Json(provisioned).into_response(),
        Err(refused) => refused.into_response(),
    }
}

async fn ensure(plane: &Plane, edge: &Edge, caller: &Caller, wanted: Wanted) -> Answer<Provisioned> {
    let external = wanted.tenant_id.unwrap_or_default();
    if external.trim().is_empty() {
        let mut refused = Refused::new(Code::BadRequest, "send {\"tenantId\": \"…\"}");
        refused.0.title = "tenantId is required".into();
        return Err(refused);
    }
    if external.len() > 256 {
        return Err(Refused::field("tenantId", format!("it has {} bytes; the contract allows 256", external.len())));
    }
    let via = External { edge: NAME, id: &external };
    // First: what cannot become an id cannot be looked up either (a NUL).
    let slug = store::slug("tenantId", &external)?;
    let known = store::find(&plane.store, &via).await?;
    let id = known.clone().unwrap_or(slug);
    caller.require_tenant(&id)?;
    let until = Instant::now() + PATIENCE;
    // What exists is answered whatever name and region say this time, as the original does.
    let is_there = known.is_some() && is_there(plane, &id, until).await?;
    let wanted = Asked { name: wanted.display_name, region: wanted.region, until };
    let created = !is_there && make(plane, edge, caller, &id, &via, wanted).await?;
    let database = databases::find_of_tenant(&plane.store, id.as_str()).await?;
    let database =
        database.ok_or_else(|| Refused::new(Code::NotFound, format!("tenant {id} was purged meanwhile")))?.database;
    let message = if created { "Created" } else { "Already existed" };
    Ok(Provisioned { tenant_id: external, database, created, message })
}

/// Whether it is ready. Whoever finds it on its way waits for it, as its maker does.
async fn is_there(plane: &Plane, id: &TenantId, until: Instant) -> Answer<bool> {
    let find = || tenants::find(&plane.store, id.as_str());
    let mut found = find().await?;
    let unready = |row: &&TenantRow| matches!(row.state(), TenantState::Creating | TenantState::Failed);
    let at_work = found.as_ref().filter(unready).and_then(|row| row.operation);
    if let Some(operation) = at_work {
        plane.engine.wait(operation, until.saturating_duration_since(Instant::now())).await?;
        found = find().await?;
    }
    match found.as_ref().map(TenantRow::state) {
        Some(TenantState::Active | TenantState::Suspended) => Ok(true),
        Some(TenantState::Creating) => {
            let operation = at_work.map_or(String::new(), |operation| format!(" (operation {operation})"));
            Err(still_being_made(id, &operation))
        }
        Some(TenantState::Failed | TenantState::Deleted) | None => Ok(false),
    }
}

fn still_being_made(id: &TenantId, operation: &str) -> Refused {
    Refused::new(Code::Timeout, format!("tenant {id} is still being made{operation}; send the same request again"))
}

/// What only a tenant that is new is asked for.
struct Asked {
    name: Option<String>,
    region: Option<String>,
    until: Instant,
}

/// True when this very call made it.
async fn make(
    plane: &Plane,
    edge: &Edge,
    caller: &Caller,
    id: &TenantId,
    via: &External<'_>,
    asked: Asked,
) -> Answer<bool> {
    let text = |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let body = CreateTenant {
        id: id.clone(),
        name: text(asked.name),
        plan: edge.plan.clone(),
        region: text(asked.region),
        template: Some(edge.template.clone().unwrap_or_else(|| NAME.parse().expect("a slug"))),
        labels: Some([("external_id".to_owned(), via.id.to_owned())].into()),
        deletion_protection: None,
    };
    loop {
        let patience = asked.until.saturating_duration_since(Instant::now());
        match create::ensure(plane, &caller.actor(), &caller.by(), &body, patience, Some(via)).await {
            Ok(Ensured::There { created, .. }) => return Ok(created),
            Ok(Ensured::OnItsWay { operation }) => {
                return Err(still_being_made(id, &format!(" (operation {})", operation.id)));
            }
            // Begun for this very external id (anything else is `name_taken`), a moment ago, under another display name.
            Err(refused) if refused.code() == Code::TenantExists => {
                if is_there(plane, id, asked.until).await? {
                    return Ok(false);
                }
                // It failed, or was purged: then this call makes it, unless others go on beginning before it.
                if Instant::now() >= asked.until {
                    return Err(refused);
                }
            }
            Err(refused) => return Err(refused),
        }
    }
}
