//! Who may do what: every route names the scopes that open it, here nothing is open by default.
//!
//! Absent: passwords and sessions. A caller is an API key, looked up by its hash.

use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use freehold_api::id::{KeyId, TenantId};
use freehold_api::key::Scope;
use freehold_api::problem::Code;

use super::problem::Refused;
use super::request::{self, Client};
use crate::audit::record::{Actor, Event};
use crate::key;
use crate::plane::Plane;
use crate::tenant::store::By;

/// The key that a request came with.
#[derive(Debug, Clone)]
pub struct Caller {
    pub key: KeyId,
    pub name: String,
    pub scopes: Vec<Scope>,
    /// The only tenants it may touch; none is all.
    pub tenants: Option<Vec<TenantId>>,
    pub client: Option<String>,
    pub request: Option<String>,
}

impl Caller {
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&Scope::Admin) || self.scopes.contains(&scope)
    }

    pub fn may_touch(&self, tenant: &str) -> bool {
        self.tenants.as_ref().is_none_or(|tenants| tenants.iter().any(|bound| bound.as_str() == tenant))
    }

    pub fn require_tenant(&self, tenant: &TenantId) -> Result<(), Refused> {
        if self.may_touch(tenant.as_str()) {
            return Ok(());
        }
        Err(Refused::new(Code::Denied, format!("this key is bound to other tenants than {tenant}")))
    }

    /// What an operation row keeps of who asked for it.
    pub fn reference(&self) -> String {
        format!("key:{}", self.key)
    }

    /// As the maker of a tenant, by a request that nobody repeats.
    pub fn by(&self) -> By {
        By { key: Some(self.key.0), ..By::default() }
    }

    pub fn actor(&self) -> Actor {
        Actor {
            reference: self.reference(),
            name: Some(self.name.clone()),
            request: self.request.clone(),
            client: self.client.clone(),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let caller = parts.extensions.get::<Caller>().cloned();
        // Only a route outside `routes.rs` could get here without a caller; it stays shut.
        caller.ok_or_else(|| Refused::new(Code::Unauthenticated, "this route needs an API key"))
    }
}

/// What a route asks of a key.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// One of these opens it (and `admin` always).
    pub any: &'static [Scope],
    /// Whether a key that is bound to tenants may use it at all; the `{id}` of `/v1/tenants/{id}` is checked against them.
    pub bound: Bound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The path names a tenant: the key must be bound to it.
    ToPath,
    /// The verb itself looks at the tenant.
    ByVerb,
    /// Not for keys that are bound to tenants.
    Never,
}

/// The middleware in front of every route of `routes.rs`.
pub async fn guard(State((plane, need)): State<(Plane, Need)>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match admit(&plane, need, &mut parts).await {
        Ok(caller) => {
            let bound = caller.tenants.is_some();
            parts.extensions.insert(caller);
            let mut response = next.run(Request::from_parts(parts, body)).await;
            match response.extensions_mut().remove::<Refused>() {
                Some(refused) if bound => refused.without_fleet().into_response(),
                Some(_) | None => response,
            }
        }
        Err(refused) => refused.into_response(),
    }
}

async fn admit(plane: &Plane, need: Need, parts: &mut Parts) -> Result<Caller, Refused> {
    let Some(token) = bearer(parts) else {
        return Err(Refused::new(Code::Unauthenticated, "send an API key: Authorization: Bearer fh_…"));
    };
    let caller = authenticate(plane, &token, parts).await?;
    let allowed = need.any.iter().any(|scope| caller.has(*scope));
    let bound = match (&caller.tenants, need.bound) {
        (None, _) | (Some(_), Bound::ByVerb) => true,
        (Some(_), Bound::Never) => false,
        (Some(_), Bound::ToPath) => {
            let params = RawPathParams::from_request_parts(parts, plane).await;
            params.ok().and_then(|params| params.iter().next().map(|(_, id)| caller.may_touch(id))).unwrap_or(false)
        }
    };
    if allowed && bound {
        return Ok(caller);
    }
    let detail = if allowed {
        "this key is bound to tenants, and this is not about one of them".to_owned()
    } else {
        let names: Vec<_> = need.any.iter().map(|scope| scope.as_str()).collect();
        format!("this needs a key with the scope {}", names.join(" or "))
    };
    let action = format!("{} {}", parts.method, parts.uri.path().chars().take(200).collect::<String>());
    Event::denied(&caller.actor(), &action, Code::Denied.as_str()).save(&plane.store).await?;
    Err(Refused::new(Code::Denied, detail))
}

/// Looks the key up; used by the edges too, which carry it in headers of their own.
pub async fn authenticate(plane: &Plane, token: &str, parts: &mut Parts) -> Result<Caller, Refused> {
    let Client(client) = Client::from_request_parts(parts, &()).await.unwrap_or(Client(None));
    let found = key::store::find_by_token(&plane.quick, token).await?;
    let Some(found) = found else {
        return Err(Refused::new(Code::Unauthenticated, "this API key is not known, was revoked, or has expired"));
    };
    Ok(Caller {
        key: found.id,
        name: found.name,
        scopes: found.scopes,
        tenants: found.tenants,
        client,
        request: request::current(),
    })
}

fn bearer(parts: &Parts) -> Option<String> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (kind, token) = value.split_once(' ')?;
    kind.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}
