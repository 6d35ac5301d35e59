//! SaaSOdoo's database service: its routes and shapes over servers, server pools and tenants. An instance is a tenant, and
//! what SaaSOdoo calls a pool is one server.
//!
//! Better than the original where it was broken: every route but health needs an API key; a repeated allocate answers the
//! same credentials, and they work; what failed is told with its reason; a slot is given once, and given back.

mod allocate;
mod deallocate;
mod grow;
mod pools;
mod upgrade;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Json, Router};
use freehold_api::key::Scope;
use freehold_drivers::server::sql::HostPort;
use serde::Serialize;

use crate::http::access::{Bound, Need, guard};
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};
use crate::settings::Edge;
use crate::status::health as ready;

const NAME: &str = "saasodoo";
const ALLOCATES: &[Scope] = &[Scope::Provision];
const SEES: &[Scope] = &[Scope::Read, Scope::Operate];
const OPERATES: &[Scope] = &[Scope::Operate];

/// What its verbs have at hand.
#[derive(Clone)]
struct At {
    plane: Plane,
    edge: Edge,
}

pub fn router(plane: Plane, edge: &Edge) -> Router {
    let limit = plane.settings.http.body_limit;
    let open = |any: &'static [Scope], bound: Bound, methods: MethodRouter<At>| {
        let guard = from_fn_with_state((plane.clone(), Need { any, bound }), guard);
        methods.layer(DefaultBodyLimit::max(limit)).layer(guard)
    };
    let at = |path: &str| format!("{}/api/database{path}", edge.prefix);
    Router::new()
        .route(&at("/allocate"), open(ALLOCATES, Bound::ByVerb, post(allocate::allocate)))
        .route(&at("/allocate/{instance_id}"), open(ALLOCATES, Bound::ByVerb, delete(deallocate::deallocate)))
        .route(&at("/provision-dedicated"), open(ALLOCATES, Bound::ByVerb, post(allocate::provision_dedicated)))
        .route(&at("/upgrade"), open(ALLOCATES, Bound::ByVerb, post(upgrade::upgrade)))
        .route(&at("/admin/pools"), open(SEES, Bound::Never, get(pools::list)))
        .route(&at("/admin/pools/{id}"), open(SEES, Bound::Never, get(pools::show)))
        .route(&at("/admin/pools/{id}/health-check"), open(OPERATES, Bound::Never, post(pools::check)))
        .route(&at("/admin/stats"), open(SEES, Bound::Never, get(pools::stats)))
        .route(&at("/admin/provision-pool"), open(OPERATES, Bound::Never, post(grow::provision_pool)))
        .route(&at("/health"), get(health))
        .with_state(At { plane: plane.clone(), edge: edge.clone() })
}

#[derive(Serialize)]
struct Health {
    status: String,
    service: &'static str,
}

async fn health(State(at): State<At>) -> (StatusCode, Json<Health>) {
    let (status, found) = ready::health(State(at.plane)).await;
    (status, Json(Health { status: found.0.status, service: "database-service" }))
}

/// The contract has one host where a server may have several: the first of them.
fn first_host(host: &str) -> String {
    let hosts = host.contains(',').then(|| HostPort::parse_list(host, 5432).ok()).flatten();
    hosts.map_or_else(|| host.to_owned(), |hosts| hosts[0].host.clone())
}

/// A UUID is the same however it is written; any other id is what it is.
fn canonical(field: &str, given: &str) -> Answer<String> {
    let given = given.trim();
    // Labels hold it.
    if given.is_empty() || given.len() > 200 {
        return Err(Refused::field(field, format!("it has {} bytes; use 1 to 200, a UUID for example", given.len())));
    }
    Ok(uuid::Uuid::parse_str(given).map_or_else(|_| given.to_owned(), |uuid| uuid.to_string()))
}

#[cfg(test)]
mod tests {
    use super::{canonical, first_host};

    #[test]
    fn of_several_hosts_the_contract_is_told_the_first() {
        for (told, first) in [
            ("db.internal", "db.internal"),
            ("one:5432,two:5433", "one"),
            ("[::1]:5432,two:5432", "::1"),
            ("::1", "::1"),
        ] {
            assert_eq!(first_host(told), first, "{told}");
        }
    }

    #[test]
    fn a_uuid_is_the_same_however_it_is_written() {
        let one = canonical("instance_id", "0198F2A0-1111-7ABC-8DEF-001122334455").unwrap();
        assert_eq!(one, "0198f2a0-1111-7abc-8def-001122334455");
        assert_eq!(canonical("instance_id", " 0198f2a011117abc8def001122334455 ").unwrap(), one);
        assert_eq!(canonical("instance_id", "Shop_1").unwrap(), "Shop_1");
        for bad in ["", "  ", &"a".repeat(201)] {
            assert!(canonical("instance_id", bad).is_err(), "{bad:?}");
        }
    }
}
