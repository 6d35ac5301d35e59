//! One `freehold serve` of a test: started with its faults, spoken to over HTTP, killed.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use freehold_testkit::{Port, Running, http_client};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::Value as Json;

pub const BINARY: &str = env!("CARGO_BIN_EXE_freehold");
/// Long enough for a machine that builds and tests at once.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Serve {
    running: Running,
    port: Port,
    http: reqwest::Client,
    key: String,
}

impl Serve {
    /// Returns when it is ready.
    pub async fn start(settings: &Path, key: &str, env: &[(&str, &str)]) -> Self {
        let mut serve = Self::spawn(settings, key, env);
        serve.until_ready().await;
        serve
    }

    pub fn spawn(settings: &Path, key: &str, env: &[(&str, &str)]) -> Self {
        let port = Port::reserve();
        let mut command = Command::new(BINARY);
        command.arg("serve").arg("--settings").arg(settings);
        command.arg("--listen").arg(format!("127.0.0.1:{}", port.number));
        command.env_remove("FREEHOLD_URL").env_remove("FREEHOLD_API_KEY").env("NO_COLOR", "1");
        let dir = settings.parent().expect("the settings are in a directory");
        command.envs(env.iter().copied()).current_dir(dir);
        let output = dir.join(format!("serve-{}-{}.log", port.number, uuid::Uuid::now_v7().simple()));
        Self { running: Running::spawn(&mut command, &output), port, http: http_client(), key: key.to_owned() }
    }

    pub async fn until_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if matches!(self.try_request(Method::GET, "/health/ready", None).await, Ok((200, _))) {
                return;
            }
            if let Some(status) = self.running.ended() {
                panic!("freehold serve ended with {status}:\n{}", self.output());
            }
            assert!(Instant::now() < deadline, "freehold serve is not ready:\n{}", self.output());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number)
    }

    pub fn output(&self) -> String {
        self.running.output()
    }

    pub fn ended(&mut self) -> bool {
        self.running.ended().is_some()
    }

    pub fn signal(&mut self, signal: Signal) {
        self.running.signal(signal);
    }

    pub async fn kill(&mut self) {
        self.running.signal(Signal::SIGKILL);
        self.running.wait_async(PATIENCE).await;
    }

    /// Whether it died at its fault point, of SIGKILL, within the time.
    pub async fn dies_by_itself(&mut self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.running.ended() {
                return status.signal() == Some(Signal::SIGKILL as i32);
            }
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How it ended by itself, as an exit code.
    pub async fn exit_code(&mut self) -> Option<i32> {
        self.running.wait_async(PATIENCE).await.code()
    }

    /// Whether the process is stopped (state T).
    pub fn is_stopped(&self) -> bool {
        freehold_testkit::is_stopped(self.running.pid())
    }

    /// Begins long work and does not wait for it: an answer may never come.
    pub async fn begin(&self, method: Method, path: &str, body: Option<Json>) {
        let request = self.prepared(method, path, body).header("prefer", "wait=0");
        let _ = request.timeout(PATIENCE).send().await;
    }

    pub async fn try_request(
        &self,
        method: Method,
        path: &str,
        body: Option<Json>,
    ) -> Result<(u16, Json), reqwest::Error> {
        let response = self.prepared(method, path, body).timeout(PATIENCE).send().await?;
        let status = response.status().as_u16();
        Ok((status, response.json().await.unwrap_or(Json::Null)))
    }

    pub async fn request(&self, method: Method, path: &str, body: Option<Json>) -> (u16, Json) {
        let answer = self.try_request(method.clone(), path, body).await;
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error:?}\n{}", self.output()))
    }

    pub async fn get(&self, path: &str) -> (u16, Json) {
        self.request(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Json) -> (u16, Json) {
        self.request(Method::POST, path, Some(body)).await
    }

    pub async fn purge(&self, tenant: &str) {
        let path = format!("/v1/tenants/{tenant}?purge=true&confirm={tenant}");
        let (status, body) = self.request(Method::DELETE, &path, None).await;
        assert_eq!(status, 200, "purge {tenant}: {body}\n{}", self.output());
    }

    fn prepared(&self, method: Method, path: &str, body: Option<Json>) -> reqwest::RequestBuilder {
        let request =
            self.http.request(method, format!("http://127.0.0.1:{}{path}", self.port.number)).bearer_auth(&self.key);
        match body {
            Some(body) => request.json(&body),
            None => request,
        }
    }
}

/// Looks until it is so; says what for when it never is.
pub async fn until<F: AsyncFnMut() -> bool>(what: &str, mut so: F) {
    let deadline = Instant::now() + PATIENCE;
    while !so().await {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What is asked makes the process stop, and then it may owe the answer.
pub async fn stops(serve: &Serve, point: &str, asked: impl Future<Output = ()>) {
    let stopped = async || until(&format!("it stops at {point}"), async || serve.is_stopped()).await;
    tokio::select! {
        () = asked => stopped().await,
        () = stopped() => {}
    }
}
