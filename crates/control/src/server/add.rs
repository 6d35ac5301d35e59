//! Registers an external server by its admin's connection string.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use freehold_api::id::OperationId;
use freehold_api::operation::Operation;
use freehold_api::problem::Code;
use freehold_api::server::{AddServer, Server, ServerKind};
use freehold_drivers::server::sql::{Dsn, HostPort};
use freehold_durable::{New, Started};
use sqlx::PgConnection;
use uuid::Uuid;

use super::register::{Register, Step};
use super::store::Declared;
use super::{again, change, hands, list, store};
use crate::audit::record::{Actor, Event};
use crate::http::access::Caller;
use crate::http::extract::{Json, text};
use crate::http::problem::Refused;
use crate::http::request::Wait;
use crate::operation::answer;
use crate::plane::{Answer, Plane};

const CAPACITY_DEFAULT: u32 = 500;
const REGISTER_DEADLINE: Duration = Duration::from_secs(300);
const CAPACITY_MAX: u32 = 100_000;

/// Register a server
#[utoipa::path(post, path = "/v1/servers", tag = "servers", request_body = AddServer,
    responses(
        (status = 201, description = "The server, ready for tenants", body = Server),
        (status = 200, description = "It was registered already; what is new was proven and is kept", body = Server),
        (status = 202, description = "It is still being looked at", body = Operation)))]
pub async fn add(
    State(plane): State<Plane>,
    caller: Caller,
    Wait(wait): Wait,
    Json(body): Json<AddServer>,
) -> Answer<Response> {
    let (operation, made) = match start(&plane, &caller.actor(), &body).await? {
        Added::Same => return Ok(Json(list::find(&plane.core, &body.id).await?).into_response()),
        Added::Started(operation) => (operation, StatusCode::CREATED),
        Added::InFlight(operation) => (operation, StatusCode::OK),
    };
    let row = plane.engine.wait(operation.0, wait).await?;
    match row {
        Some(row) if row.state == freehold_durable::State::Succeeded => {
            plane.engine.wake("stock");
            Ok((made, Json(list::find(&plane.core, &body.id).await?)).into_response())
        }
        Some(row) if row.state.is_over() => {
            let (code, message) = answer::failure_of(&row);
            Err(Refused::new(Code::Prerequisite, format!("server {} cannot be used ({code}): {message}", body.id)))
        }
        _ => {
            let location = format!("/v1/operations/{operation}");
            let body = answer::find(&plane, operation).await?;
            Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(body)).into_response())
        }
    }
}

pub enum Added {
    Same,
    Started(OperationId),
    InFlight(OperationId),
}

pub async fn start(plane: &Plane, actor: &Actor, body: &AddServer) -> Answer<Added> {
    let dsn = Dsn::parse(&body.dsn).map_err(|error| Refused::field("dsn", error.to_string()))?;
    let kind = body.kind.unwrap_or(ServerKind::Shared);
    let capacity = body.capacity.unwrap_or(if kind == ServerKind::Dedicated { 1 } else { CAPACITY_DEFAULT });
    if kind == ServerKind::Dedicated && capacity != 1 {
        return Err(Refused::field("capacity", "a dedicated server has one tenant; leave capacity out"));
    }
    if !(1..=CAPACITY_MAX).contains(&capacity) {
        return Err(Refused::field("capacity", format!("{capacity} is out of range; use 1 to {CAPACITY_MAX}")));
    }
    if let Some(region) = &body.region {
        text("region", region, 63)?;
    }
    let (tenant_host, tenant_port) = match &body.tenant_address {
        Some(address) => address_of(address)?,
        None if dsn.hosts().iter().any(|at| at.host.starts_with('/')) => {
            let detail = "the dsn is a local socket, which tenants cannot reach; say where they can: tenant_address = \"host:port\"";
            return Err(Refused::field("tenant_address", detail));
        }
        None => address(dsn.hosts()),
    };
    let seal_id = Uuid::now_v7();
    let sealed = plane.sealer.seal(&hands::dsn_context(seal_id, 1), body.dsn.as_bytes());
    let declared = Declared {
        id: body.id.as_str(),
        kind: kind.as_str(),
        capacity: i32::try_from(capacity).unwrap_or(i32::MAX),
        region: body.region.as_deref(),
        dsn: &dsn.public(),
        dsn_sealed: &sealed,
        dsn_seal_id: seal_id,
        tenant_host: &tenant_host,
        tenant_port: i32::from(tenant_port),
        tenant_sslmode: dsn.sslmode().as_str(),
        ca_certificate: body.ca_certificate.as_deref(),
    };
    let mut tx = plane.store.begin().await?;
    if !store::declare(&mut tx, &declared).await? {
        drop(tx);
        return again::add(plane, actor, body, &declared).await;
    }
    let started = look(plane, actor, &mut tx, body, Step::Probe).await?;
    let details = serde_json::json!({"dsn": declared.dsn, "capacity": capacity, "kind": declared.kind});
    Event::done(actor, "server.add", format!("server:{}", body.id)).with(details).save(&mut *tx).await?;
    tx.commit().await?;
    plane.fleet.forget().await;
    let id = OperationId(started.id);
    plane.engine.go(started);
    Ok(Added::Started(id))
}

pub(super) async fn look(
    plane: &Plane,
    actor: &Actor,
    tx: &mut PgConnection,
    body: &AddServer,
    step: Step,
) -> Answer<Started> {
    // A mistyped host is not tried for ever.
    let new = New { deadline: Some(REGISTER_DEADLINE), ..change::new("server.register", &body.id, step, actor) };
    change::started(&body.id, plane.engine.start::<Register>(tx, new).await)
}

/// One host, or several with their ports as one text.
pub(super) fn address(hosts: &[HostPort]) -> (String, u16) {
    match hosts {
        [one] => (one.host.clone(), one.port),
        several => (HostPort::list(several), several[0].port),
    }
}

fn address_of(text: &str) -> Answer<(String, u16)> {
    let bad = || {
        let detail =
            "expected host:port, or several as one:5432,two:5432; for example db.example.com:5432 or [::1]:5432";
        Refused::field("tenant_address", detail)
    };
    // A port is not guessed: 5432 would be right often enough to be missed when it is not.
    if text.split(',').any(|host| host.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err())) {
        return Err(bad());
    }
    let hosts = HostPort::parse_list(text, 5432).map_err(|_| bad())?;
    let is_name = |host: &str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    if !hosts.iter().all(|at| is_name(&at.host) || at.host.parse::<IpAddr>().is_ok()) {
        return Err(bad());
    }
    Ok(address(&hosts))
}
