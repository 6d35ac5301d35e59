//! A plane that says what the test wants, and remembers what it was told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use freehold_testkit::Port;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub const KEY: &str = "fh_of_the_pooler";
pub const POOLER: &str = "front-1";

pub struct Fake {
    port: Port,
    said: watch::Sender<Value>,
    told: Arc<Mutex<Vec<Value>>>,
    serving: Option<JoinHandle<()>>,
    revision: u32,
}

#[derive(Clone)]
struct Shared {
    said: watch::Receiver<Value>,
    told: Arc<Mutex<Vec<Value>>>,
}

impl Fake {
    pub async fn start() -> Self {
        let (said, _) = watch::channel(Value::Null);
        let mut fake = Self { port: Port::reserve(), said, told: Arc::default(), serving: None, revision: 0 };
        fake.come_back().await;
        fake
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number)
    }

    /// `assignment` is all of it but the revision.
    pub fn say(&mut self, mut assignment: Value) {
        self.revision += 1;
        assignment["revision"] = json!(format!("r{}", self.revision));
        self.said.send_replace(assignment);
    }

    /// Nothing listens any more.
    pub fn die(&mut self) {
        self.serving.take().expect("the plane runs").abort();
    }

    pub async fn come_back(&mut self) {
        let address = ("127.0.0.1", self.port.number);
        let deadline = Instant::now() + Duration::from_secs(10);
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let shared = Shared { said: self.said.subscribe(), told: self.told.clone() };
        let app = Router::new()
            .route("/v1/poolers/{id}/assignment", get(assignment))
            .route("/v1/poolers/{id}/report", post(report))
            .with_state(shared);
        self.serving = Some(tokio::spawn(async move { axum::serve(listener, app).await.unwrap() }));
    }

    pub fn reports(&self) -> Vec<Value> {
        self.told.lock().unwrap().clone()
    }

    /// The last report, or the first from now on, that is like this.
    pub async fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        self.until_after(self.reports().len().saturating_sub(1), what, is_so).await
    }

    /// Whoever was started just now has reported.
    pub async fn until_heard(&self) -> Value {
        self.until_after(self.reports().len(), "anything", |_| true).await
    }

    async fn until_after(&self, seen: usize, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(report) = self.reports().into_iter().skip(seen).find(&is_so) {
                return report;
            }
            assert!(Instant::now() < deadline, "no report says {what}: {:#?}", self.reports().last());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn until_in_force(&self, generation: u64) -> Value {
        self.until(&format!("generation {generation}"), |report| report["generation"] == generation).await
    }

    pub async fn until_pause(&self, id: &str, state: &str) -> Value {
        let found = |report: &Value| {
            let pauses = report["pauses"].as_array().cloned().unwrap_or_default();
            pauses.into_iter().find(|pause| pause["id"] == id)
        };
        let is_so = |report: &Value| found(report).is_some_and(|pause| pause["state"] == state);
        // How it ended is told once, and forgotten when it was heard.
        let seen = if state == "paused" { self.reports().len().saturating_sub(1) } else { 0 };
        found(&self.until_after(seen, &format!("pause {state}"), is_so).await).unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

fn is_allowed(id: &str, headers: &HeaderMap) -> bool {
    let key = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    id == POOLER && key == format!("Bearer {KEY}")
}

fn refused() -> Response {
    (StatusCode::UNAUTHORIZED, Json(json!({"code": "unauthorized"}))).into_response()
}

async fn assignment(
    State(mut shared): State<Shared>,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if !is_allowed(&id, &headers) {
        return refused();
    }
    let after = query.get("after").cloned();
    let wait = Duration::from_secs(query["wait"].parse().unwrap());
    let news = shared.said.wait_for(|said| !said.is_null() && said["revision"].as_str() != after.as_deref());
    match tokio::time::timeout(wait, news).await {
        Ok(Ok(said)) => Json(said.clone()).into_response(),
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn report(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(report): Json<Value>,
) -> Response {
    if !is_allowed(&id, &headers) {
        return refused();
    }
    assert!(!headers.contains_key("idempotency-key"), "a report is no request to be kept");
    // What the wire's type does not know is a mistake.
    serde_json::from_value::<freehold_api::pooler::PoolerReport>(report.clone()).unwrap();
    shared.told.lock().unwrap().push(report);
    StatusCode::NO_CONTENT.into_response()
}
