//! Requests, and what their answers mean.

use std::time::Duration;

use reqwest::{Certificate, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{NomadOptions, Turn};
use crate::platform::{PlatformError, PlatformErrorKind};

pub(super) struct Client {
    pub options: NomadOptions,
    http: OnceCell<(reqwest::Client, Option<SecretString>)>,
}

pub(super) enum Answer {
    Found(Value),
    Missing,
    /// The index that a change was decided on is not the one there.
    Conflict(String),
}

impl Client {
    pub(super) fn new(options: NomadOptions) -> Self {
        Self { options, http: OnceCell::new() }
    }

    /// `path` below `/v1`; namespace, region and token are added.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Answer, PlatformError> {
        let text = self.text(method.clone(), path, query, body).await?;
        let (status, text) = match text {
            Ok(text) if text.is_empty() => return Ok(Answer::Found(Value::Null)),
            Ok(text) => {
                let doing = || format!("{method} {path}: Nomad answers with something that is not JSON");
                let value = serde_json::from_str(&text);
                return value
                    .map(Answer::Found)
                    .map_err(|error| PlatformError::because(PlatformErrorKind::Other, doing(), error));
            }
            Err(refused) => refused,
        };
        match status {
            StatusCode::NOT_FOUND => Ok(Answer::Missing),
            StatusCode::CONFLICT => Ok(Answer::Conflict("its index changed".into())),
            _ if text.contains("Enforcing job modify index") => Ok(Answer::Conflict(text)),
            _ => Err(self.refused(&format!("{method} {path}"), status, &text)),
        }
    }

    /// The body as it is, or status and body of a refusal.
    pub(super) async fn text(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Result<String, (StatusCode, String)>, PlatformError> {
        let (http, token) = self.http.get_or_try_init(|| self.connect()).await?;
        let mut url = url::Url::parse(&self.options.url)
            .map_err(|error| PlatformError::because(PlatformErrorKind::Unsupported, "platform.nomad.url", error))?;
        url.set_path(&format!("/v1/{path}"));
        url.query_pairs_mut().extend_pairs(query).append_pair("namespace", &self.options.namespace);
        if let Some(region) = &self.options.region {
            url.query_pairs_mut().append_pair("region", region);
        }
        let mut request = http.request(method, url);
        if let Some(token) = token {
            request = request.header("X-Nomad-Token", token.expose_secret());
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let unreachable = |error: reqwest::Error| {
            PlatformError::because(
                PlatformErrorKind::Unreachable,
                format!(
                    "Nomad does not answer at {}: is its agent running, and platform.nomad.url right?",
                    self.options.url
                ),
                error.without_url(),
            )
        };
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let text = answer.text().await.map_err(unreachable)?;
        Ok(if status.is_success() { Ok(text) } else { Err((status, text.trim().to_owned())) })
    }

    pub(super) async fn job(&self, name: &str) -> Result<Option<Value>, PlatformError> {
        self.found(&format!("job/{name}"), &[]).await
    }

    pub(super) async fn found(&self, path: &str, query: &[(&str, &str)]) -> Result<Option<Value>, PlatformError> {
        match self.ask(Method::GET, path, query, None).await? {
            Answer::Found(value) => Ok(Some(value)),
            Answer::Missing => Ok(None),
            Answer::Conflict(said) => Err(PlatformError::new(PlatformErrorKind::Other, said)),
        }
    }

    /// Only if the job's index is this one; 0 for one that is not there.
    pub(super) async fn register(&self, job: Value, index: u64) -> Result<Turn, PlatformError> {
        let body = json!({"Job": job, "EnforceIndex": true, "JobModifyIndex": index});
        match self.ask(Method::POST, "jobs", &[], Some(body)).await? {
            Answer::Found(_) => Ok(Turn::Done),
            Answer::Conflict(_) => Ok(Turn::Again),
            Answer::Missing => Err(PlatformError::new(
                PlatformErrorKind::Unsupported,
                format!("POST jobs: there is no namespace {}", self.options.namespace),
            )),
        }
    }

    /// Of all jobs of the namespace.
    pub(super) async fn jobs(&self) -> Result<Vec<String>, PlatformError> {
        let found = self.found("jobs", &[]).await?.unwrap_or_default();
        Ok(array(&found).filter_map(|job| job["ID"].as_str().map(str::to_owned)).collect())
    }

    async fn connect(&self) -> Result<(reqwest::Client, Option<SecretString>), PlatformError> {
        let options = &self.options;
        let unusable = |what: String, error: Box<dyn std::error::Error + Send + Sync>| {
            PlatformError::because(PlatformErrorKind::Unsupported, what, error)
        };
        let token = match (&options.token, &options.token_file) {
            (None, None) => None,
            (Some(token), _) => Some(SecretString::from(token.expose().to_owned())),
            (None, Some(path)) => {
                let text = tokio::fs::read_to_string(path).await;
                let text = text.map_err(|error| unusable(format!("read {}", path.display()), error.into()))?;
                Some(SecretString::from(text.trim().to_owned()))
            }
        };
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(60));
        if let Some(path) = &options.ca_file {
            let pem = tokio::fs::read(path).await;
            let pem = pem.map_err(|error| unusable(format!("read {}", path.display()), error.into()))?;
            let certificates = Certificate::from_pem_bundle(&pem);
            let certificates =
                certificates.map_err(|error| unusable(format!("{} is not PEM", path.display()), error.into()))?;
            builder = builder.tls_certs_only(certificates);
        } else if options.url.starts_with("http://") {
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|error| unusable("make a client of Nomad".into(), error.into()))?;
        Ok((http, token))
    }

    fn refused(&self, doing: &str, status: StatusCode, text: &str) -> PlatformError {
        let advice = "platform.nomad.token or token_file must hold a token that may submit, read and list jobs, read logs and write variables";
        let (kind, message) = match status {
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                (PlatformErrorKind::Denied, format!("{doing}: {text}: {advice}"))
            }
            _ if text.contains("No cluster leader") || status == StatusCode::SERVICE_UNAVAILABLE => {
                (PlatformErrorKind::Unreachable, format!("{doing}: {text}"))
            }
            StatusCode::BAD_REQUEST => (PlatformErrorKind::Unsupported, format!("{doing}: {text}")),
            _ => (PlatformErrorKind::Other, format!("{doing}: {status}: {text}")),
        };
        PlatformError::new(kind, message)
    }
}

/// Nomad says null where a list has nothing in it.
pub(super) fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
