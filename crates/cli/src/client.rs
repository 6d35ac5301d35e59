//! Asks the API: one request, tried again while that is safe and may help.
//!
//! What may be repeated: GET, and POST, whose `Idempotency-Key` makes the repeat harmless. PATCH and DELETE are repeated
//! only when the request surely was not carried out. Absent: redirects (a key must not follow them) and printing answers.

use std::sync::Arc;
use std::time::Duration;

use freehold_api::FieldError;
use freehold_api::page::LIMIT_MAX;
use jiff::Timestamp;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use crate::context::Context;
use crate::events::Events;
use crate::failure::{Failure, Refusal};
use crate::output::{Printer, plain};

const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MOST: Duration = Duration::from_secs(4);
/// Above what the server waits by itself, so that its answer and not our impatience ends a request.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    authorization: HeaderValue,
    limits: Limits,
    out: Arc<Printer>,
}

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub retry_for: Duration,
}

#[derive(Debug, Clone)]
pub struct Request {
    method: Method,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
    wait: Option<u64>,
}

impl Request {
    fn new(method: Method, path: &[&str]) -> Self {
        let path = path.iter().map(|&segment| segment.to_owned()).collect();
        Self { method, path, query: Vec::new(), body: None, wait: None }
    }
    pub fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }
    pub fn post(path: &[&str]) -> Self {
        Self::new(Method::POST, path)
    }
    pub fn patch(path: &[&str]) -> Self {
        Self::new(Method::PATCH, path)
    }
    pub fn delete(path: &[&str]) -> Self {
        Self::new(Method::DELETE, path)
    }
    pub fn body<T: Serialize>(mut self, body: &T) -> Result<Self, Failure> {
        let body = serde_json::to_value(body).map_err(|error| Failure::NotUnderstood(error.to_string()))?;
        self.body = Some(body);
        Ok(self)
    }
    /// Absent values ask for nothing.
    pub fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }
    /// How many seconds the server may take before it answers 202.
    pub fn wait(mut self, seconds: u64) -> Self {
        self.wait = Some(seconds);
        self
    }
}

#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    /// Null where there is none.
    pub body: Value,
}

impl Reply {
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        parse(&self.body)
    }
}

pub fn parse<T: DeserializeOwned>(body: &Value) -> Result<T, Failure> {
    T::deserialize(body).map_err(|error| {
        Failure::NotUnderstood(format!("the answer is not what this version expects ({error}); is the server newer?"))
    })
}

/// What one try came to.
enum Try {
    Answered(Reply),
    Refused(Failure),
    /// Worth another try, after this long if the server said so.
    Again {
        failure: Failure,
        after: Option<Duration>,
        carried_out: CarriedOut,
    },
}

#[derive(PartialEq)]
enum CarriedOut {
    No,
    Perhaps,
}

impl Client {
    pub fn new(context: Context, limits: Limits, out: Arc<Printer>) -> Result<Self, Failure> {
        // The program may have installed it already: the second call changes nothing.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", context.api_key.0)).map_err(|_| {
            Failure::prerequisite(
                "the API key holds characters that no key has",
                "check FREEHOLD_API_KEY or the context file",
            )
        })?;
        authorization.set_sensitive(true);
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("freehold/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5));
        if context.url.scheme() == "http" {
            // No TLS, so no need for the machine's certificates: a bare container has none.
            builder = builder.tls_certs_only([]);
        }
        if is_loopback(&context.url) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| Failure::Prerequisite { detail: chain(&error), next: None })?;
        Ok(Self { http, base: context.url, authorization, limits, out })
    }

    /// Asks until there is an answer, a refusal, or no time left.
    pub async fn send(&self, request: Request) -> Result<Reply, Failure> {
        let headers = self.headers(&request)?;
        let give_up = Instant::now() + self.limits.retry_for;
        let mut backoff = BACKOFF_FIRST;
        let mut told = false;
        loop {
            let (failure, after) = match self.attempt(&request, &headers).await {
                Try::Answered(reply) => return Ok(reply),
                Try::Refused(failure) => return Err(failure),
                Try::Again { failure, after, carried_out } if may_repeat(&request.method, &carried_out) => {
                    (failure, after)
                }
                Try::Again { failure, .. } => return Err(failure),
            };
            let pause = after.unwrap_or_else(|| backoff.mul_f64(rand::random_range(0.5..1.0)));
            if Instant::now() + pause > give_up {
                return Err(failure);
            }
            if !told && !self.out.wants_json() {
                let text = format!("{failure}; trying again for {} s", self.limits.retry_for.as_secs());
                self.out.note(&plain(&text));
                told = true;
            }
            tokio::time::sleep(pause).await;
            backoff = (backoff * 2).min(BACKOFF_MOST);
        }
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Failure> {
        self.send(Request::get(path)).await?.parse()
    }

    /// A list, page after page, until `most` items are there; in the shape of one page.
    pub async fn list(&self, request: Request, most: Option<usize>) -> Result<Value, Failure> {
        let mut items: Vec<Value> = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let left = most.map(|most| most.saturating_sub(items.len()));
            let limit = left.map_or(LIMIT_MAX, |left| LIMIT_MAX.min(u32::try_from(left).unwrap_or(LIMIT_MAX)));
            let page = request.clone().query("limit", Some(limit)).query("cursor", cursor.take());
            let mut body = self.send(page).await?.body;
            let Some(Value::Array(found)) = body.get_mut("items").map(Value::take) else {
                return Err(Failure::NotUnderstood("the answer is not a list".into()));
            };
            items.extend(found);
            cursor = body.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() || most.is_some_and(|most| items.len() >= most) {
                return Ok(json!({ "items": items, "next_cursor": cursor }));
            }
        }
    }

    /// Opens an operation's events, after the given one. Tried once: the caller goes on either way.
    pub async fn events(&self, id: &str, after: Option<i64>) -> Result<Events, Failure> {
        let request = Request::get(&["operations", id, "events"]);
        let mut headers = self.headers(&request)?;
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.extend(after.map(|seq| (reqwest::header::HeaderName::from_static("last-event-id"), seq.into())));
        let url = self.url(&request)?;
        let response = self.http.get(url).headers(headers).send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(Events::new(response));
        }
        match self.read(&request, response).await {
            Try::Refused(failure) | Try::Again { failure, .. } => Err(failure),
            Try::Answered(_) => Err(Failure::NotUnderstood("the answer is no stream of events".into())),
        }
    }

    fn url(&self, request: &Request) -> Result<Url, Failure> {
        let mut url = self.base.clone();
        let cannot = Failure::Prerequisite { detail: format!("{url} cannot be asked"), next: None };
        url.path_segments_mut().map_err(|()| cannot)?.pop_if_empty().push("v1").extend(&request.path);
        url.set_query(None);
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        Ok(url)
    }

    /// The same for every try: one request id in the server's log, one idempotency key.
    fn headers(&self, request: &Request) -> Result<HeaderMap, Failure> {
        let value =
            |text: String| HeaderValue::try_from(text).map_err(|error| Failure::NotUnderstood(error.to_string()));
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, application/problem+json"));
        headers.insert("x-request-id", value(uuid::Uuid::now_v7().to_string())?);
        if request.method == Method::POST {
            headers.insert("idempotency-key", value(uuid::Uuid::now_v7().to_string())?);
        }
        if let Some(seconds) = request.wait {
            headers.insert("prefer", value(format!("wait={seconds}"))?);
        }
        Ok(headers)
    }

    async fn attempt(&self, request: &Request, headers: &HeaderMap) -> Try {
        let url = match self.url(request) {
            Ok(url) => url,
            Err(failure) => return Try::Refused(failure),
        };
        let within = ANSWER_WITHIN + Duration::from_secs(request.wait.unwrap_or(0));
        let mut asked = self.http.request(request.method.clone(), url).headers(headers.clone()).timeout(within);
        asked = match &request.body {
            Some(body) => asked.json(body),
            None => asked,
        };
        match asked.send().await {
            Ok(response) => self.read(request, response).await,
            Err(error) => {
                let carried_out = if error.is_connect() { CarriedOut::No } else { CarriedOut::Perhaps };
                Try::Again { failure: self.unreachable(&error), after: None, carried_out }
            }
        }
    }

    async fn read(&self, request: &Request, response: reqwest::Response) -> Try {
        let status = response.status();
        let after = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value, self.out.now()));
        let bytes = match response.bytes().await {
            Ok(bytes) => bytes,
            Err(error) => {
                return Try::Again { failure: self.unreachable(&error), after: None, carried_out: CarriedOut::Perhaps };
            }
        };
        let body: Option<Value> =
            if bytes.is_empty() { Some(Value::Null) } else { serde_json::from_slice(&bytes).ok() };
        if status.is_success() {
            return match body {
                Some(body) => Try::Answered(Reply { status, body }),
                None => {
                    Try::Refused(Failure::NotUnderstood(format!("{} does not answer JSON; is it Freehold?", self.base)))
                }
            };
        }
        let refusal = refusal(request, status, body.unwrap_or_default());
        let code = refusal.code.clone();
        let failure = Failure::Refused(Box::new(refusal));
        match status.as_u16() {
            429 => Try::Again { failure, after, carried_out: CarriedOut::No },
            // More room does not come within seconds, unless the server says that it does.
            503 if code == "no_room" && after.is_none() => Try::Refused(failure),
            // "timeout": the work may have been done after the server stopped waiting for it.
            503 if code == "timeout" => Try::Again { failure, after, carried_out: CarriedOut::Perhaps },
            503 => Try::Again { failure, after, carried_out: CarriedOut::No },
            502 => Try::Again { failure, after, carried_out: CarriedOut::Perhaps },
            // Our own first try, whose answer was lost, is still being worked on.
            409 if code == "idempotency_in_flight" => Try::Again { failure, after, carried_out: CarriedOut::Perhaps },
            _ => Try::Refused(failure),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        Failure::Unreachable { url: self.base.to_string(), why: chain(error) }
    }
}

fn may_repeat(method: &Method, carried_out: &CarriedOut) -> bool {
    method == Method::GET || method == Method::POST || *carried_out == CarriedOut::No
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Seconds, or a date.
fn retry_after(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO))
}

fn refusal(request: &Request, status: StatusCode, problem: Value) -> Refusal {
    let text = |field: &str| problem.get(field).and_then(Value::as_str).map(str::to_owned);
    let errors =
        problem.get("errors").cloned().and_then(|errors| serde_json::from_value::<Vec<FieldError>>(errors).ok());
    let named = request.path.get(1).cloned();
    Refusal {
        status: status.as_u16(),
        code: text("code").unwrap_or_default(),
        detail: text("detail").or_else(|| text("title")).unwrap_or_else(|| format!("the server answered {status}")),
        request_id: text("request_id"),
        errors: errors.unwrap_or_default(),
        noun: request.path.first().cloned().unwrap_or_default(),
        subject: named.or_else(|| request.body.as_ref()?.get("id")?.as_str().map(str::to_owned)),
        problem,
    }
}

/// The innermost cause says what happened: "Connection refused (os error 111)".
fn chain(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
