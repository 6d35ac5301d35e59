//! Allocate and provision-dedicated: an instance's tenant, made or found. Whoever asks again gets the same one.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use freehold_api::id::PlanName;
use freehold_api::plan::Plan;
use freehold_api::problem::Code;
use freehold_api::server::ServerKind;
use freehold_api::tenant::{Connection, CreateTenant, TenantState};
use serde::{Deserialize, Serialize};

use super::super::store::{self, External};
use super::{At, NAME, canonical, first_host};
use crate::http::access::Caller;
use crate::http::extract::Json;
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};
use crate::server::store as servers;
use crate::tenant::create::{self, Ensured};
use crate::tenant::store::{self as tenants, TenantRow};
use crate::tenant::{change, connection};

/// Within which most are ready; whoever waits for a server is told to come again.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY_AFTER_SECONDS: u32 = 30;
/// The contract's, whatever other plans there are.
const TIERS_WITH_A_SERVER: [&str; 2] = ["premium", "enterprise"];

#[derive(Deserialize)]
pub struct Wanted {
    instance_id: String,
    customer_id: String,
    plan_tier: String,
    #[serde(default)]
    require_dedicated: Option<bool>,
}

#[derive(Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Allocated {
    Allocated {
        db_server_id: String,
        db_host: String,
        db_port: u16,
        db_name: String,
        db_user: String,
        db_password: String,
    },
    Provisioning {
        message: String,
        retry_after: u32,
    },
}

#[derive(Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Dedicated {
    Provisioned { db_server_id: String, db_host: String, message: String },
    Provisioning { message: String, retry_after: u32 },
}

pub async fn allocate(
    State(at): State<At>,
    Extension(caller): Extension<Caller>,
    Json(wanted): Json<Wanted>,
) -> Answer<Json<Allocated>> {
    let (row, fresh) = match ensure(&at, &caller, &wanted).await? {
        Standing::Ready(row, fresh) => (row, fresh),
        Standing::OnItsWay(message) => {
            return Ok(Json(Allocated::Provisioning { message, retry_after: RETRY_AFTER_SECONDS }));
        }
    };
    let connection = match fresh {
        Some(connection) => Some(*connection),
        None => connection::read(&at.plane, &caller.actor(), &row.id).await?,
    };
    let gone = || Refused::new(Code::Busy, format!("tenant {} changed meanwhile; send the same request again", row.id));
    let direct = connection.ok_or_else(gone)?.direct;
    Ok(Json(Allocated::Allocated {
        db_server_id: row.server_id.clone().ok_or_else(gone)?,
        db_host: direct.host,
        db_port: direct.port,
        db_name: direct.database,
        db_user: direct.user,
        db_password: direct.password,
    }))
}

pub async fn provision_dedicated(
    State(at): State<At>,
    Extension(caller): Extension<Caller>,
    Json(wanted): Json<Wanted>,
) -> Answer<Json<Dedicated>> {
    if !TIERS_WITH_A_SERVER.contains(&wanted.plan_tier.as_str()) {
        let shown = freehold_api::id::shown(&wanted.plan_tier);
        let detail = format!("plan_tier {shown} has no server of its own; {} have", TIERS_WITH_A_SERVER.join(" and "));
        return Err(Refused::new(Code::BadRequest, detail));
    }
    let wanted = Wanted { require_dedicated: Some(true), ..wanted };
    let row = match ensure(&at, &caller, &wanted).await? {
        Standing::Ready(row, _) => row,
        Standing::OnItsWay(message) => {
            return Ok(Json(Dedicated::Provisioning { message, retry_after: RETRY_AFTER_SECONDS }));
        }
    };
    let server = servers::find(&at.plane.store, row.server_id.as_deref().unwrap_or_default()).await?;
    let server = server.ok_or_else(|| Refused::new(Code::Busy, "its server changed meanwhile; send it again"))?;
    let message = format!("server {} is this instance's alone; allocate answers its credentials", server.id);
    Ok(Json(Dedicated::Provisioned { db_server_id: server.id, db_host: first_host(&server.tenant_host), message }))
}

enum Standing {
    /// With its connection where this very call made it.
    Ready(Box<TenantRow>, Option<Box<Connection>>),
    OnItsWay(String),
}

async fn ensure(At { plane, edge }: &At, caller: &Caller, wanted: &Wanted) -> Answer<Standing> {
    let instance = canonical("instance_id", &wanted.instance_id)?;
    let customer = canonical("customer_id", &wanted.customer_id)?;
    let plan = plan_of(plane, &wanted.plan_tier)?;
    if wanted.require_dedicated == Some(true) {
        require_dedicated(plane, plan).await?;
    }
    let slug = store::slug("instance_id", &instance)?;
    let via = External { edge: NAME, id: &instance };
    let known = store::find(&plane.store, &via).await?;
    let id = known.clone().unwrap_or(slug);
    caller.require_tenant(&id)?;
    let existing = match &known {
        Some(id) => tenants::find(&plane.store, id.as_str()).await?,
        None => None,
    };
    match existing {
        Some(row) if row.state() != TenantState::Failed => {
            agrees(&row, &customer, plan)?;
            return standing(plane, &via, row).await;
        }
        Some(row) if store::tell_failure(&plane.store, &via).await? => return Err(reason(plane, &row).await?),
        Some(_) | None => {}
    }
    let labels = [("customer", &customer), ("instance", &instance), ("plan_tier", &wanted.plan_tier)];
    let body = CreateTenant {
        id,
        name: None,
        plan: Some(plan.name.clone()),
        region: None,
        template: Some(edge.template.clone().unwrap_or_else(|| NAME.parse().expect("a slug"))),
        labels: Some(labels.map(|(key, value)| (key.to_owned(), value.clone())).into()),
        deletion_protection: None,
    };
    match create::ensure(plane, &caller.actor(), &caller.by(), &body, PATIENCE, Some(&via)).await {
        Ok(Ensured::There { tenant, connection: Some(connection), .. }) => {
            Ok(Standing::Ready(tenant, Some(connection)))
        }
        Ok(Ensured::There { tenant, .. }) => standing(plane, &via, *tenant).await,
        Ok(Ensured::OnItsWay { .. }) => {
            let row = tenants::find(&plane.store, body.id.as_str()).await?;
            Ok(Standing::OnItsWay(message(row.as_ref())))
        }
        // What has just failed has just been told.
        Err(refused) => {
            store::tell_failure(&plane.store, &via).await?;
            Err(refused)
        }
    }
}

/// The plan that is called like the tier.
pub fn plan_of<'a>(plane: &'a Plane, tier: &str) -> Answer<&'a Plan> {
    let name: PlanName = tier.parse().map_err(|error| Refused::field("plan_tier", format!("{error}")))?;
    create::plan_of(&plane.core, Some(&name))
}

async fn require_dedicated(plane: &Plane, plan: &Plan) -> Answer<()> {
    let refused = |detail| Err(Refused::new(Code::BadRequest, detail));
    if plan.server != ServerKind::Dedicated {
        return refused(format!(
            "plan {0} puts its tenants on shared servers; declare it with server = \"dedicated\" ([[plan]]), or leave require_dedicated out",
            plan.name
        ));
    }
    let declared = plane.settings.server_pools.iter().any(|pool| pool.kind == ServerKind::Dedicated);
    let fleet = plane.fleet.servers(&plane.store).await?;
    if declared || fleet.iter().any(|server| server.row.kind() == ServerKind::Dedicated) {
        return Ok(());
    }
    refused(
        "there is no dedicated server and nothing that makes one; declare a [[server_pool]] with kind = \"dedicated\""
            .into(),
    )
}

/// Nobody is handed another customer's credentials.
fn agrees(row: &TenantRow, customer: &str, plan: &Plan) -> Answer<()> {
    require_customer(row, customer)?;
    match row.plan == plan.name.as_str() {
        true => Ok(()),
        false => Err(Refused::new(Code::TenantExists, format!("instance {} has another plan_tier", row.id))),
    }
}

pub fn require_customer(row: &TenantRow, customer: &str) -> Answer<()> {
    match row.labels.get("customer").is_some_and(|found| found == customer) {
        true => Ok(()),
        false => Err(Refused::new(Code::TenantExists, format!("instance {} belongs to another customer", row.id))),
    }
}

/// What is there of it, once what is at work on it is over or has had its time.
async fn standing(plane: &Plane, via: &External<'_>, row: TenantRow) -> Answer<Standing> {
    let row = match (row.state(), row.operation) {
        (TenantState::Creating, Some(operation)) => {
            plane.engine.wait(operation, PATIENCE).await?;
            let purged = || Refused::new(Code::NotFound, format!("tenant {} was purged meanwhile", row.id));
            tenants::find(&plane.store, &row.id).await?.ok_or_else(purged)?
        }
        _ => row,
    };
    let id = &row.id;
    match row.state() {
        TenantState::Active => Ok(Standing::Ready(Box::new(row), None)),
        TenantState::Creating => Ok(Standing::OnItsWay(message(Some(&row)))),
        TenantState::Suspended => {
            let why = row.state_reason.as_deref().unwrap_or("no reason recorded");
            let detail = format!(
                "instance {id} is suspended ({why}) and its login refused; resume it first (POST /v1/tenants/{id}/resume)"
            );
            Err(Refused::new(Code::WrongState, detail))
        }
        TenantState::Deleted => {
            let detail = format!(
                "instance {id} was deallocated and is in its grace period; take it back (POST /v1/tenants/{id}/undelete) or purge it"
            );
            Err(Refused::new(Code::TenantDeleted, detail))
        }
        TenantState::Failed => {
            store::tell_failure(&plane.store, via).await?;
            Err(reason(plane, &row).await?)
        }
    }
}

fn message(row: Option<&TenantRow>) -> String {
    let waits = row.and_then(|row| row.state_reason.clone());
    let waits = waits.unwrap_or_else(|| "its database is being made".into());
    format!("{waits}; send the same request again after {RETRY_AFTER_SECONDS} s")
}

/// Why it could not be made.
async fn reason(plane: &Plane, row: &TenantRow) -> Answer<Refused> {
    let doing = format!("allocate instance {}", row.id);
    let last = match store::last_create(&plane.store, &row.id).await? {
        Some(operation) => plane.engine.get(operation).await?,
        None => None,
    };
    Ok(match last {
        Some(operation) if operation.state.is_over() => change::refused_by(&doing, &operation),
        _ => {
            let why = row.state_reason.as_deref().unwrap_or("no reason recorded");
            Refused::new(Code::Prerequisite, format!("{doing}: {why}"))
        }
    })
}
