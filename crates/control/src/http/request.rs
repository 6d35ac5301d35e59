//! Who asks and which request it is: the request id, the client's address, and the wait that it asked for.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use super::problem::Refused;
use freehold_api::problem::Code;

pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub static PREFER: HeaderName = HeaderName::from_static("prefer");

const WAIT_DEFAULT: Duration = Duration::from_secs(10);
const WAIT_MAX: Duration = Duration::from_secs(60);

tokio::task_local! {
    static CURRENT: String;
}

/// The id of the request that this task answers.
pub fn current() -> Option<String> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Runs work of a request in another task, under its id.
pub async fn in_request<T>(id: Option<String>, work: impl Future<Output = T>) -> T {
    match id {
        Some(id) => CURRENT.scope(id, work).await,
        None => work.await,
    }
}

/// Takes the caller's `X-Request-Id` when it is a plain token, else makes one; it is in the log, the audit and the answer.
pub async fn identify(request: Request, next: Next) -> Response {
    let given = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|id| is_token(id));
    let id = given.map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned);
    let span = tracing::info_span!("request", id = %id, method = %request.method(), path = %request.uri().path());
    let started = tokio::time::Instant::now();
    let header = HeaderValue::from_str(&id);
    let mut response = CURRENT.scope(id, next.run(request).instrument(span.clone())).await;
    if let Ok(header) = header {
        response.headers_mut().insert(REQUEST_ID.clone(), header);
    }
    let status = response.status().as_u16();
    metrics::counter!("freehold_http_requests_total", "status" => status.to_string()).increment(1);
    metrics::histogram!("freehold_http_request_seconds").record(started.elapsed().as_secs_f64());
    span.in_scope(|| tracing::debug!(status, elapsed = ?started.elapsed(), "answered"));
    response
}

fn is_token(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// The address that the request came from, for the audit.
#[derive(Debug, Clone)]
pub struct Client(pub Option<String>);

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = std::convert::Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_string())))
    }
}

/// `Prefer: wait=N`: how long the answer may wait for the operation. 10 s when silent, 60 s at most.
#[derive(Debug, Clone, Copy)]
pub struct Wait(pub Duration);

impl<S: Sync> FromRequestParts<S> for Wait {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        for value in parts.headers.get_all(&PREFER) {
            let text = value.to_str().unwrap_or_default();
            for preference in text.split([',', ';']).map(str::trim) {
                if preference.eq_ignore_ascii_case("respond-async") {
                    return Ok(Self(Duration::ZERO));
                }
                let Some((name, seconds)) = preference.split_once('=') else { continue };
                if name.trim().eq_ignore_ascii_case("wait") {
                    let seconds: u64 = seconds.trim().trim_matches('"').parse().map_err(|_| {
                        Refused::new(
                            Code::BadRequest,
                            "the header Prefer has a wait that is no number of seconds; for example: Prefer: wait=10",
                        )
                    })?;
                    return Ok(Self(Duration::from_secs(seconds).min(WAIT_MAX)));
                }
            }
        }
        Ok(Self(WAIT_DEFAULT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn wait(header: &str) -> Result<Duration, Refused> {
        let (mut parts, ()) = axum::http::Request::builder().header("prefer", header).body(()).unwrap().into_parts();
        Wait::from_request_parts(&mut parts, &()).await.map(|wait| wait.0)
    }

    #[tokio::test]
    async fn prefer_wait_is_read_as_the_rfc_says() {
        assert_eq!(wait("wait=3").await.unwrap().as_secs(), 3);
        assert_eq!(wait("respond-async, wait=3").await.unwrap().as_secs(), 0);
        assert_eq!(wait("return=minimal; foo, Wait = 7").await.unwrap().as_secs(), 7);
        assert_eq!(wait("wait=100000").await.unwrap(), WAIT_MAX);
        assert_eq!(wait("handling=lenient").await.unwrap(), WAIT_DEFAULT);
        assert!(wait("wait=soon").await.is_err());
    }
}
