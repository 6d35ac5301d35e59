//! One question to the API, and its answer. Nothing is sent here.

use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Error;

/// A request below `/v1`. What has no verb of its own in [`crate::Client`] is asked with [`crate::Client::send`].
#[derive(Debug, Clone)]
pub struct Request {
    pub(crate) method: Method,
    pub(crate) path: Vec<String>,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) body: Option<Value>,
    pub(crate) wait: Option<u64>,
    pub(crate) idempotency_key: Option<String>,
}

impl Request {
    fn new(method: Method, path: &[&str]) -> Self {
        let path = path.iter().map(|&segment| segment.to_owned()).collect();
        // One for all tries of this request; another request, if only a clone that is sent later, brings it along too.
        let idempotency_key = (method == Method::POST).then(|| uuid::Uuid::now_v7().to_string());
        Self { method, path, query: Vec::new(), body: None, wait: None, idempotency_key }
    }

    /// The path's segments after `/v1`; each is escaped.
    pub fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }

    /// With a fresh `Idempotency-Key`.
    pub fn post(path: &[&str]) -> Self {
        Self::new(Method::POST, path)
    }

    pub fn patch(path: &[&str]) -> Self {
        Self::new(Method::PATCH, path)
    }

    pub fn delete(path: &[&str]) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// # Errors
    /// [`Error::NotUnderstood`] where the value has no JSON form (a map with keys that are no text).
    pub fn body<T: Serialize>(mut self, body: &T) -> Result<Self, Error> {
        let body = serde_json::to_value(body).map_err(|error| Error::NotUnderstood(error.to_string()))?;
        self.body = Some(body);
        Ok(self)
    }

    /// Absent values ask for nothing.
    #[must_use]
    pub fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// How many seconds the server may take before it answers 202 (`Prefer: wait=N`).
    #[must_use]
    pub fn wait(mut self, seconds: u64) -> Self {
        self.wait = Some(seconds);
        self
    }

    /// A key of the caller's own, 1 to 200 printable ASCII characters: a program that keeps it may itself be restarted
    /// and repeat the request. Kept by the server for 24 hours.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Without an `Idempotency-Key`: the server keeps no answer. For what may be carried out twice.
    #[must_use]
    pub fn without_key(mut self) -> Self {
        self.idempotency_key = None;
        self
    }
}

/// A successful answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: StatusCode,
    /// Null where there is none.
    pub body: Value,
}

impl Reply {
    /// # Errors
    /// [`Error::NotUnderstood`] where the body has another shape.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Error> {
        parse(&self.body)
    }
}

/// Reads a body as one of the API's types.
///
/// # Errors
/// [`Error::NotUnderstood`] where it has another shape.
pub fn parse<T: DeserializeOwned>(body: &Value) -> Result<T, Error> {
    T::deserialize(body).map_err(|error| {
        Error::NotUnderstood(format!("the answer is not what this version expects ({error}); is the server newer?"))
    })
}
