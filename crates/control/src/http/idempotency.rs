//! `Idempotency-Key` on every POST: the first answer is kept for 24 hours and replayed.
//!
//! Absent: secrets at rest. An answer that carries one is kept without it and marked with where it is found again.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use freehold_api::id::{KeyId, TenantId};
use freehold_api::problem::Code;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use tracing::Instrument;

use super::access::Caller;
use super::extract::too_large;
use super::problem::Refused;
use crate::plane::Plane;
use crate::tenant::{self, connection};

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
static REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// How long the first request may be in flight unrenewed before its process is taken for dead.
const LEASE_SECONDS: f64 = 15.0;
const RENEW_EVERY: Duration = Duration::from_secs(5);
const KEPT_HEADERS: [HeaderName; 2] = [header::LOCATION, header::ETAG];

/// What a handler attaches to an answer that carries a secret in this top-level field.
#[derive(Debug, Clone)]
pub enum Carries {
    /// `connection`, of this tenant.
    Connection(TenantId),
    /// `key`, which nobody can find again.
    Key,
    /// Nothing that could be kept: the same request asked again is carried on with, and answered as it ends.
    Unfinished,
}

/// The `Idempotency-Key` of the request, for a verb that keeps it with what it makes.
#[derive(Debug, Clone, Default)]
pub struct Once {
    pub key: Option<String>,
    /// This very request came before, and has no answer that was kept.
    pub repeated: bool,
}

impl<S: Sync> FromRequestParts<S> for Once {
    type Rejection = std::convert::Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

pub async fn replay(State((plane, limit)): State<(Plane, usize)>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(&IDEMPOTENCY_KEY) {
        return next.run(request).await;
    }
    // In a task of its own: a caller that hangs up must find the answer when he comes back with the same key.
    let id = super::request::current();
    let work = async move { once(&plane, limit, request, next).await };
    let work = super::request::in_request(id, work).instrument(tracing::Span::current());
    match tokio::spawn(work).await {
        Ok(Ok(response)) => response,
        Ok(Err(refused)) => refused.into_response(),
        Err(error) => Refused::internal("a handler panicked", &error).into_response(),
    }
}

async fn once(plane: &Plane, limit: usize, request: Request, next: Next) -> Result<Response, Refused> {
    let caller = request.extensions().get::<Caller>().cloned();
    let caller = caller.ok_or_else(|| Refused::new(Code::Unauthenticated, "this route needs an API key"))?;
    let key = key_of(request.headers())?;
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, limit).await.map_err(|_| too_large())?;
    let hash = hash(&parts.method, parts.uri.path_and_query().map_or("", |path| path.as_str()), &body);
    let repeated = match begin(&plane.store, caller.key, &key, &hash).await? {
        Begun::Mine { repeated } => repeated,
        Begun::Replay(kept) => return kept.answer(plane, &caller).await,
    };
    let mut request = Request::from_parts(parts, Body::from(body));
    request.extensions_mut().insert(Once { key: Some(key.clone()), repeated });
    let response = tokio::select! {
        response = next.run(request) => response,
        never = renew(&plane.store, caller.key, &key) => match never {},
    };
    let carries = response.extensions().get::<Carries>().cloned();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.map_err(|error| Refused::internal("read own answer", &error))?;
    if matches!(carries, Some(Carries::Unfinished)) || parts.status.is_server_error() {
        // It may be half done, or done: the same request again goes on from there.
        release(&plane.store, caller.key, &key).await?;
    } else if parts.status.is_success() {
        keep(&plane.store, caller.key, &key, parts.status, &parts.headers, &body, carries).await?;
    } else {
        // What was refused may be granted when the caller tries again; every verb finds what an earlier try left.
        forget(&plane.store, caller.key, &key).await?;
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn key_of(headers: &HeaderMap) -> Result<String, Refused> {
    let text = headers.get(&IDEMPOTENCY_KEY).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if (1..=200).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    Err(Refused::new(Code::BadRequest, "the header Idempotency-Key must be 1 to 200 printable ASCII characters"))
}

fn hash(method: &Method, path: &str, body: &Bytes) -> Vec<u8> {
    let mut hasher = Sha256::new();
    hasher.update(method.as_str());
    hasher.update([0]);
    hasher.update(path);
    hasher.update([0]);
    hasher.update(body);
    hasher.finalize().to_vec()
}

enum Begun {
    Mine { repeated: bool },
    Replay(Kept),
}

#[derive(sqlx::FromRow)]
struct Kept {
    request_hash: Vec<u8>,
    status: Option<i32>,
    headers: Option<Value>,
    body: Option<Value>,
    connection_of: Option<String>,
}

impl Kept {
    async fn answer(self, plane: &Plane, caller: &Caller) -> Result<Response, Refused> {
        let mut body = self.body.unwrap_or(Value::Null);
        if let Some(tenant) = self.connection_of.and_then(|id| id.parse::<TenantId>().ok()) {
            // The same key asks for what it was given before. A tenant that is gone has none, and another one that has
            // its id now is somebody else's.
            let now = tenant::store::find(&plane.store, tenant.as_str()).await?.map(freehold_api::tenant::Tenant::from);
            let created_at = now.and_then(|now| serde_json::to_value(now.created_at).ok());
            let same = created_at.is_some_and(|created_at| created_at == body["created_at"]);
            if same && let Some(connection) = connection::read(plane, &caller.actor(), tenant.as_str()).await? {
                body["connection"] = serde_json::to_value(connection).unwrap_or_default();
            }
        }
        let status = self.status.and_then(|status| u16::try_from(status).ok()).unwrap_or(200);
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        let mut response =
            if body.is_null() { status.into_response() } else { (status, axum::Json(body)).into_response() };
        response.headers_mut().insert(REPLAYED.clone(), HeaderValue::from_static("true"));
        for name in KEPT_HEADERS {
            let kept = self.headers.as_ref().and_then(|headers| headers[name.as_str()].as_str());
            if let Some(value) = kept.and_then(|value| HeaderValue::from_str(value).ok()) {
                response.headers_mut().insert(name, value);
            }
        }
        Ok(response)
    }
}

async fn begin(store: &PgPool, caller: KeyId, key: &str, hash: &[u8]) -> Result<Begun, Refused> {
    let mine = "INSERT INTO idempotency AS i (key_id, key, request_hash, lease_until)
        VALUES ($1, $2, $3, now() + make_interval(secs => $4))
        ON CONFLICT (key_id, key) DO UPDATE SET request_hash = excluded.request_hash, lease_until = excluded.lease_until, status = NULL,
            headers = NULL, body = NULL, connection_of = NULL,
            created_at = CASE WHEN i.created_at < now() - interval '24 hours' THEN now() ELSE i.created_at END
        WHERE i.created_at < now() - interval '24 hours'
           OR (i.status IS NULL AND i.request_hash = excluded.request_hash AND i.lease_until < now())
        RETURNING created_at < now()";
    let begun: Option<bool> =
        sqlx::query_scalar(mine).bind(caller.0).bind(key).bind(hash).bind(LEASE_SECONDS).fetch_optional(store).await?;
    if let Some(repeated) = begun {
        return Ok(Begun::Mine { repeated });
    }
    let select =
        "SELECT request_hash, status, headers, body, connection_of FROM idempotency WHERE key_id = $1 AND key = $2";
    let kept: Option<Kept> = sqlx::query_as(select).bind(caller.0).bind(key).fetch_optional(store).await?;
    let in_flight = || {
        Refused::new(
            Code::IdempotencyInFlight,
            "the first request with this Idempotency-Key is still being answered; try again in a moment",
        )
    };
    let kept = kept.ok_or_else(in_flight)?;
    if kept.request_hash != hash {
        let detail = "this Idempotency-Key came before with another request; use a new key for a new request";
        return Err(Refused::new(Code::IdempotencyMismatch, detail));
    }
    if kept.status.is_none() {
        return Err(in_flight());
    }
    Ok(Begun::Replay(kept))
}

async fn keep(
    store: &PgPool,
    caller: KeyId,
    key: &str,
    status: StatusCode,
    headers: &HeaderMap,
    body: &Bytes,
    carries: Option<Carries>,
) -> Result<(), Refused> {
    let mut body: Option<Value> = serde_json::from_slice(body).ok();
    let fields = body.as_mut().and_then(Value::as_object_mut);
    let connection_of = match (carries, fields) {
        (Some(Carries::Connection(tenant)), Some(fields)) => {
            fields.remove("connection");
            Some(tenant.to_string())
        }
        (Some(Carries::Key), Some(fields)) => {
            fields.insert("key".into(), Value::Null);
            None
        }
        _ => None,
    };
    let kept: serde_json::Map<String, Value> = KEPT_HEADERS
        .iter()
        .filter_map(|name| headers.get(name)?.to_str().ok().map(|value| (name.as_str().to_owned(), value.into())))
        .collect();
    sqlx::query("UPDATE idempotency SET status = $3, headers = $4, body = $5, connection_of = $6 WHERE key_id = $1 AND key = $2")
        .bind(caller.0)
        .bind(key)
        .bind(i32::from(status.as_u16()))
        .bind(Value::Object(kept))
        .bind(body)
        .bind(connection_of)
        .execute(store)
        .await?;
    Ok(())
}

/// As long as this process lives, the request that it answers is in flight.
async fn renew(store: &PgPool, caller: KeyId, key: &str) -> std::convert::Infallible {
    let sql = "UPDATE idempotency SET lease_until = now() + make_interval(secs => $3)
        WHERE key_id = $1 AND key = $2 AND status IS NULL";
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        if let Err(error) = sqlx::query(sql).bind(caller.0).bind(key).bind(LEASE_SECONDS).execute(store).await {
            tracing::debug!(%error, "a request in flight was not renewed");
        }
    }
}

/// The request came, and has no answer yet; whoever asks again begins at once.
async fn release(store: &PgPool, caller: KeyId, key: &str) -> Result<(), Refused> {
    let sql = "UPDATE idempotency SET lease_until = '-infinity' WHERE key_id = $1 AND key = $2 AND status IS NULL";
    sqlx::query(sql).bind(caller.0).bind(key).execute(store).await?;
    Ok(())
}

async fn forget(store: &PgPool, caller: KeyId, key: &str) -> Result<(), Refused> {
    sqlx::query("DELETE FROM idempotency WHERE key_id = $1 AND key = $2 AND status IS NULL")
        .bind(caller.0)
        .bind(key)
        .execute(store)
        .await?;
    Ok(())
}

/// Removes what is past its 24 hours, some at a time.
pub async fn prune(store: &PgPool) -> sqlx::Result<u64> {
    let sql = "DELETE FROM idempotency WHERE (key_id, key) IN
        (SELECT key_id, key FROM idempotency WHERE created_at < now() - interval '24 hours' ORDER BY created_at LIMIT 5000)";
    Ok(sqlx::query(sql).execute(store).await?.rows_affected())
}
