//! TansuCloud's database service: `POST /db/api/provisioning/tenants` and `GET /api/audit`, in camelCase.
//!
//! Better than the original where it was broken: ids that collide after normalisation are refused, never share a
//! database; calls at the same time agree; keys are API keys with scopes; what is audited is kept, and its pages have an end.

mod audit;
mod csv;
mod provision;
mod store;

use axum::Router;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use freehold_api::key::Scope;
use freehold_api::problem::Code;

use crate::audit::record::Event;
use crate::http::access::{self, Caller};
use crate::http::problem::Refused;
use crate::plane::Plane;
use crate::settings::Edge;

const NAME: &str = "tansucloud";

pub fn router(plane: Plane, edge: &Edge) -> Router {
    let at = |path: &str| format!("{}{path}", edge.prefix);
    let mut router = Router::new().route(&at("/db/api/provisioning/tenants"), post(provision::provision));
    // As its gateway shows it, and as it is behind that.
    for audit in ["/db/api/audit", "/api/audit"] {
        router =
            router.route(&at(audit), get(audit::list)).route(&at(&format!("{audit}/export/csv")), get(csv::export));
    }
    router.with_state((plane, edge.clone()))
}

/// What one of its routes asks of a key.
struct Need {
    any: &'static [Scope],
    /// In the audit, where it is refused.
    action: &'static str,
    /// Of the refusal, where the original has one of its own.
    title: Option<&'static str>,
}

/// `X-Provision-Key`, or a bearer token; a bad bearer is told so as RFC 6750 wants.
async fn admit(plane: &Plane, parts: &mut Parts, need: &Need) -> Result<Caller, Box<Response>> {
    let refuse = |refused: Refused| Box::new(refused.into_response());
    let scopes = need.any.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" or ");
    let key = parts.headers.get("x-provision-key").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = authorization.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
    let Some(token) = key.clone().or_else(|| bearer.clone()) else {
        let detail = format!("send X-Provision-Key with an API key of the scope {scopes}");
        return Err(refuse(Refused::new(Code::Unauthenticated, detail)));
    };
    let caller = access::authenticate(plane, token.trim(), parts).await.map_err(|refused| {
        let mut response = refused.into_response();
        if key.is_none() && response.status() == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        Box::new(response)
    })?;
    if need.any.iter().any(|scope| caller.has(*scope)) {
        return Ok(caller);
    }
    let event = Event::denied(&caller.actor(), need.action, Code::Denied.as_str());
    event.save(&plane.store).await.map_err(|error| refuse(error.into()))?;
    let mut refused = Refused::new(Code::Denied, format!("this needs a key with the scope {scopes}"));
    if let Some(title) = need.title {
        refused.0.title = title.into();
    }
    Err(refuse(refused))
}
