//! Issue 2, item 2, and what must be shown: Freehold and its store both dead, every tenant still logs in.

use std::process::{Command, Output};
use std::time::Duration;

use freehold_testkit::{ADMIN, ADMIN_PASSWORD, Answer, Cluster, Directory, Port, Running, as_tenant, http_client};
use nix::sys::signal::Signal;
use serde_json::{Value as Json, json};

use crate::common::{BINARY, exits, log_in, stderr, stdout, until};

struct Serve {
    directory: Directory,
    port: Port,
    key: String,
    running: Option<Running>,
    http: reqwest::Client,
}

impl Serve {
    async fn start(store: &Cluster) -> Self {
        store.connect("postgres").await.batch_execute("CREATE DATABASE control").await.unwrap();
        let directory = Directory::new();
        let port = Port::reserve();
        let key = directory.path().join("sealing.key");
        // 32 bytes, in base64.
        std::fs::write(&key, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let settings = format!(
            "environment = \"development\"\nlisten = \"127.0.0.1:{}\"\n[store]\nurl = \"{}\"\n[secrets]\nkey_file = \"{}\"\n[stock]\nper_template = 2\n[operations]\nlease_seconds = 5\n",
            port.number,
            store.dsn_with(ADMIN, ADMIN_PASSWORD, "control"),
            key.display()
        );
        std::fs::write(directory.path().join("settings.toml"), settings).unwrap();
        Self { directory, port, key: String::new(), running: None, http: http_client() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(args).current_dir(self.directory.path());
        command.env("FREEHOLD_URL", self.url("")).env("FREEHOLD_API_KEY", &self.key);
        command
    }

    fn cli(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port.number)
    }

    async fn run(&mut self, args: &[&str]) {
        let mut command = self.command(&["serve", "--settings", "settings.toml"]);
        let output = self.directory.path().join("output");
        self.running = Some(Running::spawn(command.args(args), &output));
        until("serve is ready", async || match self.http.get(self.url("/health/ready")).send().await {
            Ok(response) if response.status() == 200 => Ok(()),
            other => Err(format!("{other:?}: {}", self.running.as_ref().unwrap().output())),
        })
        .await;
    }

    async fn send(&self, method: reqwest::Method, path: &str, body: Option<Json>) -> Answer {
        let mut request = self.http.request(method, self.url(path)).bearer_auth(&self.key).header("prefer", "wait=60");
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        (status, headers, response.json().await.unwrap_or(Json::Null))
    }
}

#[tokio::test]
async fn story_with_freehold_and_its_store_dead_every_tenant_logs_in() {
    let mut store = Cluster::start(15);
    let tenants = Cluster::start(15);
    let mut serve = Serve::start(&store).await;

    // What is missing is said, one thing after the other.
    let ended = exits(serve.cli(&["serve", "--settings", "settings.toml"]), 3);
    assert!(stderr(&ended).contains("freehold store migrate"), "{}", stderr(&ended));
    exits(serve.cli(&["serve", "--settings", "none.toml"]), 3);
    exits(serve.cli(&["store", "migrate", "--settings", "settings.toml"]), 0);
    serve.run(&["--migrate"]).await;
    let made = exits(serve.cli(&["key", "create", "first", "--scope", "admin", "--settings", "settings.toml"]), 0);
    stdout(&made).trim().clone_into(&mut serve.key);
    exits(serve.cli(&["server", "add", "outside", "--dsn", &tenants.dsn(ADMIN), "--capacity", "50"]), 0);

    let mut connections = Vec::new();
    for n in 0..6 {
        let body = json!({"id": format!("t{n}")});
        let answer = serve.send(reqwest::Method::POST, "/v1/tenants", Some(body)).await;
        assert_eq!(answer.0, 201, "{}", answer.2);
        log_in(&answer.2["connection"]).await.batch_execute("CREATE TABLE kept AS SELECT 1 AS n").await.unwrap();
        connections.push(answer.2["connection"].clone());
    }
    let logged_in = async || {
        for connection in &connections {
            log_in(connection).await.query_one("SELECT n FROM kept", &[]).await.unwrap();
        }
    };

    // The store goes: 503, and not a word about its address; tenants notice nothing.
    store.kill();
    until("503", async || match serve.send(reqwest::Method::GET, "/v1/tenants", None).await {
        (503, _, body) if body["code"] == "store_unavailable" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let create = serve.send(reqwest::Method::POST, "/v1/tenants", Some(json!({"id": "late"}))).await;
    assert_eq!((create.0, &create.2["code"]), (503, &json!("store_unavailable")), "{}", create.2);
    assert!(create.1.contains_key("retry-after"));
    let ready = serve.send(reqwest::Method::GET, "/health/ready", None).await;
    assert_eq!(
        (ready.0, &ready.2["status"], &ready.2["checks"][0]["name"]),
        (503, &json!("unhealthy"), &json!("store"))
    );
    assert_eq!(serve.send(reqwest::Method::GET, "/health/live", None).await.0, 200);
    assert_eq!(serve.send(reqwest::Method::GET, "/health", None).await.0, 503);
    exits(serve.cli(&["--retry-for", "0", "tenant", "list"]), 7);
    logged_in().await;

    // It comes back: Freehold recovers by itself.
    store.start_again();
    until("recovery", async || match serve.send(reqwest::Method::GET, "/health/ready", None).await.0 {
        200 => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
    let create = serve.send(reqwest::Method::POST, "/v1/tenants", Some(json!({"id": "late"}))).await;
    assert_eq!(create.0, 201, "{}", create.2);

    // Both die.
    let mut running = serve.running.take().unwrap();
    running.signal_group(Signal::SIGKILL);
    running.wait_async(Duration::from_secs(30)).await;
    store.kill();
    logged_in().await;
    let kept = as_tenant(&create.2["connection"]).await;
    kept.expect("the last one logs in as well");

    // Both come back, and know everybody.
    store.start_again();
    serve.run(&[]).await;
    for (n, connection) in connections.iter().enumerate() {
        let answer = serve.send(reqwest::Method::GET, &format!("/v1/tenants/t{n}/connection"), None).await;
        assert_eq!(answer.2, *connection);
    }

    // A tenants' server that dies leaves the service ready, and is reported.
    let mut tenants = tenants;
    tenants.kill();
    serve.send(reqwest::Method::POST, "/v1/servers/outside/check", Some(json!({}))).await;
    until("the report", async || {
        let (status, _, body) = serve.send(reqwest::Method::GET, "/health/ready", None).await;
        assert_eq!(status, 200, "{body}");
        let check = body["checks"].as_array().unwrap().iter().find(|check| check["name"] == "server:outside").cloned();
        match check {
            Some(check) if check["healthy"] == false => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    tenants.start_again();
    let mut running = serve.running.take().unwrap();
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait_async(Duration::from_secs(30)).await.code(), Some(0), "{}", running.output());
    let output = running.output();
    for connection in &connections {
        assert!(!output.contains(connection["direct"]["password"].as_str().unwrap()));
    }
    assert!(!output.contains(ADMIN_PASSWORD), "the log tells the admin's password");
}
