//! Where to ask, as whom, and how patiently.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use freehold_api::page::LIMIT_MAX;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::Url;

use crate::error::{Error, innermost};
use crate::events::Events;
use crate::request::{Reply, Request};
use crate::retry::{Again, Try};

/// Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) base: Url,
    authorization: HeaderValue,
    pub(crate) patience: Patience,
    pub(crate) told: Arc<Told>,
}

pub(crate) type Told = dyn Fn(&Again<'_>) + Send + Sync;

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// How long the client waits for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// How long a request is tried again, counted from its first try. Zero: one try. 30 s.
    pub retry_for: Duration,
    /// The pause after the first try; each further one is twice as long. 200 ms.
    pub first_pause: Duration,
    /// 4 s.
    pub longest_pause: Duration,
    /// How long one try may take to be answered, besides what the request lets the server wait. 30 s.
    pub answer_within: Duration,
    /// How long a verb of this client follows an operation before it gives [`Error::WaitExpired`]. 5 min.
    pub settle_within: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            retry_for: Duration::from_secs(30),
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(4),
            // Above what the server waits by itself, so that its answer and not our impatience ends a request.
            answer_within: Duration::from_secs(30),
            settle_within: Duration::from_secs(300),
        }
    }
}

/// Makes a [`Client`].
pub struct Builder {
    url: Result<Url, Error>,
    api_key: Result<HeaderValue, Error>,
    patience: Patience,
    told: Arc<Told>,
}

impl Builder {
    #[must_use]
    pub fn patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Called before each pause: for whoever wants to say why it takes long.
    #[must_use]
    pub fn on_again(mut self, told: impl Fn(&Again<'_>) + Send + Sync + 'static) -> Self {
        self.told = Arc::new(told);
        self
    }

    /// # Errors
    /// [`Error::Settings`] where the URL or the key cannot be used, or this machine has no certificates for `https`.
    pub fn build(self) -> Result<Client, Error> {
        let (base, authorization) = (self.url?, self.api_key?);
        // The program may have installed one already: the second call changes nothing.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("freehold/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            // Its own repeats would not know what may be repeated.
            .retry(reqwest::retry::never())
            .connect_timeout(Duration::from_secs(5));
        if base.scheme() == "http" {
            // No TLS, so no need for the machine's certificates: a bare container has none.
            builder = builder.tls_certs_only([]);
        }
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| Error::Settings(innermost(&error)))?;
        Ok(Client { http, base, authorization, patience: self.patience, told: self.told })
    }
}

impl Client {
    /// With the default [`Patience`].
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn new(url: &str, api_key: &str) -> Result<Self, Error> {
        Self::builder(url, api_key).build()
    }

    /// `url` is the control plane's, without `/v1`; `api_key` begins with `fh_`.
    pub fn builder(url: &str, api_key: &str) -> Builder {
        Builder {
            url: parse_url(url),
            api_key: authorization(api_key),
            patience: Patience::default(),
            told: Arc::new(|_| {}),
        }
    }

    /// The control plane's address.
    pub fn url(&self) -> &Url {
        &self.base
    }

    /// # Errors
    /// As [`Client::send`].
    pub async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Error> {
        self.send(Request::get(path)).await?.parse()
    }

    /// A list, page after page, until `most` items are there; in the shape of one page.
    ///
    /// # Errors
    /// As [`Client::send`], for whichever page fails.
    pub async fn list(&self, request: Request, most: Option<usize>) -> Result<Value, Error> {
        let mut items: Vec<Value> = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let left = most.map(|most| most.saturating_sub(items.len()));
            let limit = left.map_or(LIMIT_MAX, |left| LIMIT_MAX.min(u32::try_from(left).unwrap_or(LIMIT_MAX)));
            let page = request.clone().query("limit", Some(limit)).query("cursor", cursor.take());
            let mut body = self.send(page).await?.body;
            let Some(Value::Array(found)) = body.get_mut("items").map(Value::take) else {
                return Err(Error::NotUnderstood("the answer is not a list".into()));
            };
            items.extend(found);
            cursor = body.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() || most.is_some_and(|most| items.len() >= most) {
                return Ok(json!({ "items": items, "next_cursor": cursor }));
            }
        }
    }

    /// Opens an operation's events, those after `after` (a `seq`). Tried once: [`Client::follow`] is for the patient.
    ///
    /// # Errors
    /// [`Error::Refused`] and [`Error::Unreachable`].
    pub async fn events(&self, id: &str, after: Option<i64>) -> Result<Events, Error> {
        let request = Request::get(&["operations", id, "events"]);
        let mut headers = self.headers(&request)?;
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.extend(after.map(|seq| (HeaderName::from_static("last-event-id"), seq.into())));
        let asked = self.http.get(self.address(&request)?).headers(headers).send();
        let response = match tokio::time::timeout(self.patience.answer_within, asked).await {
            Ok(response) => response.map_err(|error| self.unreachable(&error))?,
            Err(_) => return Err(self.silent()),
        };
        if response.status().is_success() {
            return Ok(Events::new(response));
        }
        match self.read(&request, response).await {
            Try::Refused(error) | Try::Again { error, .. } => Err(error),
            Try::Answered(_) => Err(Error::NotUnderstood("the answer is no stream of events".into())),
        }
    }

    pub(crate) fn address(&self, request: &Request) -> Result<Url, Error> {
        let mut url = self.base.clone();
        let cannot = Error::Settings(format!("{url} cannot be asked"));
        url.path_segments_mut().map_err(|()| cannot)?.pop_if_empty().push("v1").extend(&request.path);
        url.set_query(None);
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        Ok(url)
    }

    /// The same for every try: one request id in the server's log, one idempotency key.
    pub(crate) fn headers(&self, request: &Request) -> Result<HeaderMap, Error> {
        let value = |text: &str| {
            let header = HeaderValue::try_from(text);
            header.map_err(|_| Error::Settings("a header holds characters that no header has".into()))
        };
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, application/problem+json"));
        headers.insert("x-request-id", value(&uuid::Uuid::now_v7().to_string())?);
        if let Some(key) = &request.idempotency_key {
            headers.insert("idempotency-key", value(key)?);
        }
        if let Some(seconds) = request.wait {
            headers.insert("prefer", value(&format!("wait={seconds}"))?);
        }
        Ok(headers)
    }

    pub(crate) fn unreachable(&self, error: &reqwest::Error) -> Error {
        if error.is_timeout() && !error.is_connect() {
            return self.silent();
        }
        Error::Unreachable { url: self.base.to_string(), why: innermost(error) }
    }

    pub(crate) fn silent(&self) -> Error {
        let why = format!("no answer within {} s", self.patience.answer_within.as_secs());
        Error::Unreachable { url: self.base.to_string(), why }
    }
}

/// Sends and reads the answer as this type.
pub(crate) async fn ask<T: DeserializeOwned>(client: &Client, request: Request) -> Result<T, Error> {
    let reply: Reply = client.send(request).await?;
    reply.parse()
}

fn parse_url(text: &str) -> Result<Url, Error> {
    let refuse = |why: &str| Error::Settings(format!("{text:?} is no address of a control plane: {why}"));
    let url = Url::parse(text).map_err(|error| refuse(&error.to_string()))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err(refuse("it does not begin with http:// or https://")),
    }
}

fn authorization(api_key: &str) -> Result<HeaderValue, Error> {
    let value = HeaderValue::from_str(&format!("Bearer {api_key}"));
    let mut value = value.map_err(|_| Error::Settings("the API key holds characters that no key has".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
