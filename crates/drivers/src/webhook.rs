//! Posts to an address that somebody else listens at, and tries again where that may help.
//!
//! The address may hold a token: no error shows more of it than the host. Absent: redirects.

use std::time::Duration;

use aws_lc_rs::hmac;
use reqwest::StatusCode;
use thiserror::Error;
use tokio::sync::OnceCell;
use url::Url;

const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(10);

/// Of the whole body: `sha256=` and HMAC-SHA-256 in hexadecimal digits.
pub const SIGNATURE: &str = "x-freehold-signature";

pub struct Webhook {
    url: Url,
    key: Option<hmac::Key>,
    http: OnceCell<reqwest::Client>,
}

#[derive(Debug, Error)]
pub enum WebhookError {
    #[error("it is no URL of a webhook: expected http:// or https:// and a host")]
    Url,
    #[error("{host} answered {status}")]
    Refused { host: String, status: StatusCode },
    #[error("{host} cannot be reached: {why}")]
    Unreachable { host: String, why: String },
}

impl WebhookError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Url => false,
            Self::Refused { status, .. } => status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429),
            Self::Unreachable { .. } => true,
        }
    }
}

impl Webhook {
    pub fn new(url: &str) -> Result<Self, WebhookError> {
        let url = Url::parse(url).map_err(|_| WebhookError::Url)?;
        match (url.scheme(), url.host_str()) {
            ("http" | "https", Some(_)) => Ok(Self { url, key: None, http: OnceCell::new() }),
            _ => Err(WebhookError::Url),
        }
    }

    /// From now on each post says, by [`SIGNATURE`], that it comes from somebody who knows the secret. Nothing in it says when: whoever
    /// repeats one repeats what was taken already.
    #[must_use]
    pub fn signed_with(self, secret: &str) -> Self {
        Self { key: Some(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())), ..self }
    }

    /// Returns when it was taken (2xx), or when trying again did not help: then it may have been taken all the same.
    pub async fn post(&self, kind: &'static str, body: &[u8]) -> Result<(), WebhookError> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            match self.attempt(kind, body).await {
                Err(error) if error.is_transient() => tokio::time::sleep(pause).await,
                ended => return ended,
            }
            pause *= 2;
        }
        self.attempt(kind, body).await
    }

    async fn attempt(&self, kind: &'static str, body: &[u8]) -> Result<(), WebhookError> {
        let host = || self.url.host_str().unwrap_or_default().to_owned();
        // The client's own text would quote the address.
        let unreachable =
            |error: reqwest::Error| WebhookError::Unreachable { host: host(), why: innermost(&error.without_url()) };
        let http = self.http.get_or_try_init(|| async { self.connect() }).await.map_err(unreachable)?;
        let mut request = http.post(self.url.clone()).header("content-type", kind);
        if let Some(key) = &self.key {
            request = request.header(SIGNATURE, format!("sha256={}", crate::hex(hmac::sign(key, body).as_ref())));
        }
        let request = request.body(body.to_vec());
        let status = request.send().await.map_err(unreachable)?.status();
        if status.is_success() { Ok(()) } else { Err(WebhookError::Refused { host: host(), status }) }
    }

    fn connect(&self) -> reqwest::Result<reqwest::Client> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent("freehold")
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .timeout(PATIENCE);
        if self.url.scheme() == "http" {
            // No TLS, so no need for the machine's certificates: a bare container has none.
            builder = builder.tls_certs_only([]);
        }
        if self.is_loopback() {
            builder = builder.no_proxy();
        }
        builder.build()
    }

    fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        }
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::Router;
    use axum::routing::post;

    use super::*;

    /// Answers with each of these in turn, the last again and again, and counts.
    async fn listener(answers: &[u16]) -> (String, Arc<AtomicU32>) {
        let asked = Arc::<AtomicU32>::default();
        let (count, answers) = (asked.clone(), answers.to_vec());
        let answer = move |body: String| async move {
            assert_eq!(body, "{}");
            let at = count.fetch_add(1, Ordering::Relaxed) as usize;
            axum::http::StatusCode::from_u16(answers[at.min(answers.len() - 1)]).unwrap()
        };
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?token=secret", socket.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(socket, Router::new().route("/hook", post(answer))).await });
        (url, asked)
    }

    #[tokio::test]
    async fn webhooks_are_tried_again_where_that_may_help() {
        for (answers, taken, tries) in [
            (&[204][..], true, 1),
            (&[503, 429, 200], true, 3),
            (&[500], false, 4),
            (&[404], false, 1),
            (&[302], false, 1),
        ] {
            let (url, asked) = listener(answers).await;
            let posted = Webhook::new(&url).unwrap().post("application/json", b"{}").await;
            assert_eq!((posted.is_ok(), asked.load(Ordering::Relaxed)), (taken, tries), "{answers:?}");
            if let Err(error) = posted {
                assert!(!error.to_string().contains("secret") && error.to_string().contains("127.0.0.1"), "{error}");
            }
        }
    }

    /// What `openssl dgst -sha256 -hmac` says of the same body.
    #[tokio::test]
    async fn webhooks_are_signed_as_anybody_can_verify() {
        let (told, tells) = tokio::sync::oneshot::channel();
        let told = Arc::new(std::sync::Mutex::new(Some(told)));
        let answer = move |headers: axum::http::HeaderMap| async move {
            let signature = headers.get(SIGNATURE).map(|value| value.to_str().unwrap().to_owned());
            let _ = told.lock().unwrap().take().unwrap().send(signature);
        };
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", socket.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(socket, Router::new().route("/hook", post(answer))).await });
        let webhook = Webhook::new(&url).unwrap().signed_with("key");
        webhook.post("text/plain", b"The quick brown fox jumps over the lazy dog").await.unwrap();
        let expected = "sha256=f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8";
        assert_eq!(tells.await.unwrap().as_deref(), Some(expected));
    }

    #[tokio::test]
    async fn webhooks_that_are_none_or_away_are_told_without_their_token() {
        for wrong in ["", "x", "ftp://host/x", "file:///x"] {
            assert!(matches!(Webhook::new(wrong), Err(WebhookError::Url)), "{wrong}");
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let away = Webhook::new(&format!("http://127.0.0.1:{port}/?token=secret")).unwrap();
        let error = away.post("application/json", b"{}").await.unwrap_err().to_string();
        assert!(error.contains("cannot be reached") && !error.contains("secret"), "{error}");
    }
}
