//! The real `freehold` binary, running `freehold dev` in a directory of its own and spoken to over HTTP.
//! Absent: anything that a user could not do. What a test wants to break, it breaks by signals and in PostgreSQL.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value as Json;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::cluster::connect;
use crate::directory::Directory;
use crate::engine::{engine, pooler_engine};
use crate::port::Port;
use crate::process::{PATIENCE, Running, end_processes_under};

/// Status, headers, and the body: a JSON string where it is not JSON, null where it is empty.
pub type Answer = (u16, HeaderMap, Json);

#[derive(Debug, Clone)]
pub struct PlaneBuilder {
    binary: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    patience: Duration,
    /// The PgBouncer to run.
    pooler: Option<PathBuf>,
}

impl PlaneBuilder {
    /// One more argument of `freehold dev`.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn stock(self, databases: u32) -> Self {
        self.arg("--stock").arg(databases.to_string())
    }

    /// Runs on this major version of PostgreSQL.
    pub fn postgres(self, version: u32) -> Self {
        self.arg("--postgres-bin").arg(engine(version).display().to_string())
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a pooler, of this version of PgBouncer. Without this there is none.
    pub fn pooler(mut self, version: &str) -> Self {
        self.pooler = Some(pooler_engine(version));
        self
    }

    /// How long it may take until it is ready; a minute when silent.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Returns when `/health/ready` answers 200.
    pub async fn start(self) -> Plane {
        let mut plane = Plane {
            running: None,
            port: Port::reserve(),
            postgres_port: Port::reserve(),
            pooler_port: Port::reserve(),
            http: http_client(),
            api_key: String::new(),
            url: String::new(),
            options: self,
            directory: Directory::new(),
        };
        plane.start_again().await;
        plane
    }
}

/// A whole plane. Ends when it is dropped, with its PostgreSQL.
#[derive(Debug)]
pub struct Plane {
    running: Option<Running>,
    port: Port,
    postgres_port: Port,
    pooler_port: Port,
    http: reqwest::Client,
    api_key: String,
    url: String,
    options: PlaneBuilder,
    // Last: what runs ends before its directory goes.
    directory: Directory,
}

impl Plane {
    /// `freehold dev`. The caller knows the binary: `env!("CARGO_BIN_EXE_freehold")`.
    pub fn dev(binary: impl Into<PathBuf>) -> PlaneBuilder {
        PlaneBuilder { binary: binary.into(), args: Vec::new(), env: Vec::new(), patience: PATIENCE, pooler: None }
    }

    /// After the process ended, by whichever way: on the same data, port, arguments and environment.
    pub async fn start_again(&mut self) {
        if let Some(mut old) = self.running.take() {
            assert!(old.ended().is_some(), "freehold runs already");
        }
        let mut command = Command::new(&self.options.binary);
        command.arg("dev").arg("--data-dir").arg(self.data_dir());
        command.arg("--listen").arg(format!("127.0.0.1:{}", self.port.number));
        command.arg("--postgres-port").arg(self.postgres_port.number.to_string()).args(&self.options.args);
        match &self.options.pooler {
            Some(program) => {
                command.arg("--pgbouncer").arg(program).arg("--pooler-port").arg(self.pooler_port.number.to_string())
            }
            None => command.arg("--no-pooler"),
        };
        command.env_remove("FREEHOLD_URL").env_remove("FREEHOLD_API_KEY");
        command.envs(self.options.env.iter().map(|(name, value)| (name, value))).current_dir(self.directory.path());
        self.running = Some(Running::spawn(&mut command, &self.output_file()));
        self.wait_until_ready().await;
        self.read_context();
    }

    /// Stops it in order where it runs, and starts it with these added to its environment; an empty value removes.
    pub async fn restart(&mut self, env: &[(&str, &str)]) {
        if self.running.as_mut().is_some_and(|running| running.ended().is_none()) {
            self.sigterm_and_wait().await;
        }
        for (name, value) in env {
            self.options.env.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.options.env.push(((*name).to_owned(), (*value).to_owned()));
            }
        }
        self.start_again().await;
    }

    /// From the next start on, with these arguments instead of those it was made with.
    pub fn set_args(&mut self, args: &[&str]) {
        self.options.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The one in `client.toml`.
    pub fn api_key(&self) -> &str {
        &self.api_key
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("freehold was started").pid()
    }

    /// Standard output and error, of all starts.
    pub fn output(&self) -> String {
        self.running.as_ref().map(Running::output).unwrap_or_default()
    }

    pub async fn sigterm_and_wait(&mut self) -> ExitStatus {
        let running = self.running();
        running.signal(Signal::SIGTERM);
        running.wait_async(PATIENCE).await
    }

    /// Until it ends by itself, at a fault point.
    pub async fn wait_until_dead(&mut self) -> ExitStatus {
        self.running().wait_async(PATIENCE).await
    }

    /// `kill -9` of its whole process group. What left the group (a PostgreSQL may) goes on: the next start meets it.
    pub async fn kill_group(&mut self) {
        let running = self.running();
        running.signal_group(Signal::SIGKILL);
        running.wait_async(PATIENCE).await;
    }

    /// `kill -9` of it and of everything that works in its directory, PostgreSQL included: as if the power failed.
    pub async fn kill_everything(&mut self) {
        self.kill_group().await;
        for id in crate::process::processes_under(self.directory.path()) {
            let _ = nix::sys::signal::kill(id, Signal::SIGKILL);
        }
        assert!(crate::process::wait_for_none_under(self.directory.path(), PATIENCE), "something survives SIGKILL");
    }

    /// SIGSTOP to the process alone: PostgreSQL goes on.
    pub fn stop_signal(&mut self) {
        self.running().signal(Signal::SIGSTOP);
    }

    pub fn cont_signal(&mut self) {
        self.running().signal(Signal::SIGCONT);
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, &[], None).await
    }

    pub async fn post(&self, path: &str, body: Json) -> Answer {
        self.request(Method::POST, path, &[], Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: Json) -> Answer {
        self.request(Method::PATCH, path, &[], Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, path, &[], None).await
    }

    /// With the plane's key, unless the headers hold an `authorization`; an empty one means none at all.
    pub async fn request(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<Json>) -> Answer {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.url));
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
            request = request.bearer_auth(&self.api_key);
        }
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        match answer(request).await {
            Ok(answer) => answer,
            Err(error) => panic!("{method} {path}: {error:?}\n{}", self.output()),
        }
    }

    /// The same program as a command line, with this plane as its context.
    pub fn cli(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.options.binary);
        command.args(args).env("FREEHOLD_URL", &self.url).env("FREEHOLD_API_KEY", &self.api_key);
        command.current_dir(self.directory.path());
        command.output().unwrap_or_else(|error| panic!("start freehold {args:?}: {error}"))
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().expect("freehold was started")
    }

    fn output_file(&self) -> PathBuf {
        self.directory.path().join("output")
    }

    async fn wait_until_ready(&mut self) {
        let url = format!("http://127.0.0.1:{}/health/ready", self.port.number);
        let deadline = Instant::now() + self.options.patience;
        loop {
            let request = self.http.get(&url).timeout(Duration::from_secs(5));
            let seen = match answer(request).await {
                Ok((200, _, _)) => return,
                Ok((status, _, body)) => format!("{status} {body}"),
                Err(error) => format!("{error:?}"),
            };
            let output = self.output();
            if let Some(status) = self.running().ended() {
                panic!("freehold dev ended with {status}:\n{output}");
            }
            assert!(Instant::now() < deadline, "freehold dev is not ready: {seen}\n{output}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn read_context(&mut self) {
        let path = self.data_dir().join("client.toml");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
        let context: toml::Table = text.parse().unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
        let field = |name: &str| match context.get(name) {
            Some(toml::Value::String(value)) => value.clone(),
            _ => panic!("{} has no {name}", path.display()),
        };
        self.url = field("url").trim_end_matches('/').to_owned();
        self.api_key = field("api_key");
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        // In order first, so that PostgreSQL gives its shared memory back; then whatever is left.
        if let Some(running) = &mut self.running {
            running.signal(Signal::SIGTERM);
            running.signal(Signal::SIGCONT);
            let deadline = Instant::now() + Duration::from_secs(10);
            while running.ended().is_none() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        drop(self.running.take());
        end_processes_under(self.directory.path());
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await?;
    let body = match serde_json::from_str(&text) {
        Ok(json) => json,
        Err(_) if text.is_empty() => Json::Null,
        Err(_) => Json::String(text),
    };
    Ok((status, headers, body))
}

/// A client that speaks TLS also where this test has not said with what.
pub fn http_client() -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Fails only where the test has installed one already, which serves as well.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
    reqwest::Client::builder().no_proxy().build().expect("make an HTTP client")
}

/// Logs in as a tenant's application does: with the `connection` of an answer (pooled where a pooler is ready for it), or
/// with one of its endpoints.
pub async fn as_tenant(connection: &Json) -> Result<Client, tokio_postgres::Error> {
    let pooled = connection.get("pooled").filter(|pooled| pooled["ready"] == true);
    let endpoint = pooled.or_else(|| connection.get("direct")).unwrap_or(connection);
    let text = |name: &str| match endpoint.get(name) {
        Some(Json::String(value)) => value.as_str(),
        // Not shown: it holds a password.
        _ => panic!("the connection has no {name}"),
    };
    let port = endpoint.get("port").and_then(Json::as_u64).and_then(|port| u16::try_from(port).ok());
    let mut config = Config::new();
    config.host(text("host")).port(port.expect("the connection has no port"));
    config.user(text("user")).password(text("password")).dbname(text("database"));
    let authority = pooled.unwrap_or(connection).get("ca_certificate").and_then(Json::as_str);
    match authority.filter(|_| endpoint["sslmode"] != "disable") {
        Some(authority) => connect_tls(&config, authority).await,
        None => connect(&config).await,
    }
}

/// Over TLS, and only to a server that this authority vouches for under the name that was asked for.
async fn connect_tls(config: &Config, authority: &str) -> Result<Client, tokio_postgres::Error> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls_pemfile::certs(&mut authority.as_bytes()) {
        roots.add(certificate.expect("ca_certificate is PEM")).expect("ca_certificate is a certificate");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.expect("TLS has versions").with_root_certificates(roots).with_no_client_auth();
    let mut config = config.clone();
    config.ssl_mode(SslMode::Require);
    let (client, connection) = config.connect(MakeRustlsConnect::new(tls)).await?;
    tokio::spawn(connection);
    Ok(client)
}
