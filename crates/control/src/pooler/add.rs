//! Registers a pooler: its name and the address that tenants connect to. Its agent may come later; an external one, which
//! has none, comes with its files and its console. Without an address Freehold starts it itself.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use freehold_api::operation::Operation;
use freehold_api::pooler::{AddPooler, Pooler, PoolerKind, PoolerManagement};
use freehold_api::problem::Code;
use freehold_drivers::server::sql::SslMode;

use super::external::declare;
use super::list;
use super::managed::add as managed;
use super::store::{self, Declared};
use crate::audit::record::{Actor, Event};
use crate::http::access::Caller;
use crate::http::extract::{Json, text};
use crate::http::problem::Refused;
use crate::http::request::Wait;
use crate::plane::{Answer, Plane};

const CAPACITY_MAX: u32 = 10_000;

/// Register a pooler
#[utoipa::path(post, path = "/v1/poolers", tag = "poolers", request_body = AddPooler,
    responses(
        (status = 201, description = "The pooler; it gets databases at once", body = Pooler),
        (status = 200, description = "It was registered already, with the same values", body = Pooler),
        (status = 202, description = "Freehold is starting it; look at the operation", body = Operation)))]
pub async fn add(
    State(plane): State<Plane>,
    caller: Caller,
    Wait(wait): Wait,
    Json(body): Json<AddPooler>,
) -> Answer<Response> {
    if body.external.is_some() && (body.address.is_none() || body.platform.is_some()) {
        let detail = "an external pooler is one that you run: say the address that tenants connect to, and no platform";
        return Err(Refused::field("address", detail));
    }
    if body.address.is_none() || body.platform.is_some() {
        return managed::add(&plane, &caller.actor(), &body, wait).await;
    }
    let made = ensure(&plane, &caller.actor(), &body).await?;
    let status = if made { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Pooler::from(list::find(&plane.core, &body.id).await?))).into_response())
}

/// True: it is new.
pub(super) async fn ensure(plane: &Plane, actor: &Actor, body: &AddPooler) -> Answer<bool> {
    let address = body.address.as_deref().unwrap_or_default();
    let (host, port) = address_of(address)?;
    let sslmode = body.sslmode.as_deref().unwrap_or("verify-full");
    if sslmode.parse::<SslMode>().is_err() {
        let detail =
            format!("{sslmode:?} is none of libpq's; use one of {}", SslMode::ALL.map(SslMode::as_str).join(", "));
        return Err(Refused::field("sslmode", detail));
    }
    let kind = body.kind.unwrap_or(PoolerKind::Pgbouncer);
    if kind == PoolerKind::Pgcat && body.external.is_none() {
        let detail =
            "PgCat has no agent: register the one that you run as an external pooler, with its file and its console";
        return Err(Refused::field("kind", detail));
    }
    let external = body.external.as_ref().map(|external| declare::parse(&plane.core, kind, external)).transpose()?;
    let capacity = capacity_of(plane, body)?;
    if let Some(pem) = &body.ca_certificate {
        text("ca_certificate", pem, 100_000)?;
    }
    let declared = Declared {
        id: body.id.as_str(),
        kind,
        management: if external.is_some() { PoolerManagement::External } else { PoolerManagement::Agent },
        host: &host,
        port,
        sslmode,
        ca_certificate: body.ca_certificate.as_deref(),
        capacity: i32::try_from(capacity).unwrap_or(i32::MAX),
    };
    let mut tx = plane.store.begin().await?;
    if !store::insert(&mut tx, &declared).await? {
        drop(tx);
        let known = list::find(&plane.core, &body.id).await?;
        let same_address = (known.host.as_str(), known.port) == (declared.host, i32::from(port));
        let certificate = body.ca_certificate.is_none() || body.ca_certificate == known.ca_certificate;
        let same = same_address
            && certificate
            && body.kind.is_none_or(|kind| kind.as_str() == known.kind)
            && body.sslmode.as_ref().is_none_or(|sslmode| *sslmode == known.sslmode)
            && body.capacity.is_none_or(|_| declared.capacity == known.capacity)
            && declared.management.as_str() == known.management;
        let same = same
            && match &external {
                Some(external) => declare::again(&plane.core, actor, &body.id, external).await?,
                None => true,
            };
        let differs = || {
            let detail = format!("pooler {} is registered with other values, and its address never changes", body.id);
            Refused::new(Code::PoolerExists, format!("{detail}; choose another name"))
        };
        return if same { Ok(false) } else { Err(differs()) };
    }
    if let Some(external) = &external {
        declare::insert(&plane.core, &mut tx, &body.id, external).await?;
        plane.engine.wake_in(&mut tx, "pooler_external").await?;
    }
    let details = serde_json::json!({"address": address, "capacity": capacity, "kind": declared.kind.as_str(),
        "file": body.external.as_ref().map(|external| &external.file)});
    Event::done(actor, "pooler.add", format!("pooler:{}", body.id)).with(details).save(&mut *tx).await?;
    plane.engine.wake_in(&mut tx, "pooler").await?;
    tx.commit().await?;
    plane.poolers.poke();
    Ok(true)
}

pub(super) fn capacity_of(plane: &Plane, body: &AddPooler) -> Answer<u32> {
    let capacity = body.capacity.unwrap_or(plane.settings.pooler.capacity);
    match (1..=CAPACITY_MAX).contains(&capacity) {
        true => Ok(capacity),
        false => Err(Refused::field("capacity", format!("{capacity} is out of range; use 1 to {CAPACITY_MAX}"))),
    }
}

fn address_of(text: &str) -> Answer<(String, u16)> {
    let bad =
        || Refused::field("address", "expected one host:port, for example pooler-1.example.com:6432 or [::1]:6432");
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or_else(bad)?;
    let good = match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
            (1..=253).contains(&host.len()) && host.bytes().all(plain)
        }
    };
    if good { Ok((host.trim_matches(['[', ']']).to_owned(), port)) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_host_and_its_port() {
        assert_eq!(address_of("p.example:6432").unwrap(), ("p.example".into(), 6432));
        assert_eq!(address_of("[::1]:6432").unwrap(), ("::1".into(), 6432));
        for bad in ["", "p", "p:", "p:0", ":1", "::1:6432", "a,b:1", "a b:1", "[p]:1", "p:99999"] {
            assert!(address_of(bad).is_err(), "{bad}");
        }
    }
}
