//! What the stories share: planes, keys, settings files, and waiting for what can be seen.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use freehold_testkit::{Answer, Plane, PlaneBuilder, as_tenant};
use reqwest::Method;
use serde_json::{Value as Json, json};
use tokio_postgres::{Client, NoTls};

pub const BINARY: &str = env!("CARGO_BIN_EXE_freehold");
pub const PATIENCE: Duration = Duration::from_secs(90);

pub fn dev() -> PlaneBuilder {
    Plane::dev(BINARY)
}

/// `freehold dev` with a settings file, which must outlive it.
pub fn dev_with(settings: &SettingsFile) -> PlaneBuilder {
    dev().arg("--settings").arg(settings.path.display().to_string())
}

pub struct SettingsFile {
    pub path: PathBuf,
    _directory: tempfile::TempDir,
}

pub fn settings(text: &str) -> SettingsFile {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("settings.toml");
    std::fs::write(&path, text).unwrap();
    SettingsFile { path, _directory: directory }
}

/// The repository's root: what ships is there.
pub fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

#[track_caller]
pub fn expect(answer: &Answer, status: u16) -> &Json {
    assert_eq!(answer.0, status, "{}", answer.2);
    &answer.2
}

/// A problem of this status and code, in the form that every problem has.
#[track_caller]
pub fn problem<'a>(answer: &'a Answer, status: u16, code: &str) -> &'a Json {
    let (got, headers, body) = answer;
    assert_eq!((*got, body["code"].as_str()), (status, Some(code)), "{body}");
    assert_eq!(headers["content-type"], "application/problem+json");
    assert_eq!(body["status"], status);
    assert_eq!(body["type"], "about:blank");
    assert!(body["title"].as_str().is_some_and(|title| !title.is_empty()), "{body}");
    assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{body}");
    assert_eq!(body["request_id"].as_str(), headers["x-request-id"].to_str().ok());
    body
}

pub async fn create(plane: &Plane, id: &str) -> Json {
    create_as(plane, json!({"id": id})).await
}

/// The answer to a create that is new.
pub async fn create_as(plane: &Plane, body: Json) -> Json {
    let answer = plane.request(Method::POST, "/v1/tenants", &[("prefer", "wait=60")], Some(body)).await;
    expect(&answer, 201).clone()
}

/// A key with these scopes, for these tenants where some are named; as the header that carries it.
pub async fn key(plane: &Plane, scopes: &[&str], tenants: Option<&[&str]>) -> String {
    let mut body = json!({"name": format!("test {scopes:?}"), "scopes": scopes});
    if let Some(tenants) = tenants {
        body["tenants"] = json!(tenants);
    }
    let answer = plane.post("/v1/keys", body).await;
    format!("Bearer {}", expect(&answer, 201)["key"].as_str().unwrap())
}

/// Logs in with what the API gave, and is who it should be.
pub async fn log_in(connection: &Json) -> Client {
    as_tenant(connection).await.unwrap_or_else(|error| panic!("log in: {error:?}"))
}

pub async fn text(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

pub fn postgres_port(plane: &Plane) -> u16 {
    let written = std::fs::read_to_string(plane.data_dir().join("dev.toml")).unwrap();
    let written: toml::Table = written.parse().unwrap();
    u16::try_from(written["postgres_port"].as_integer().unwrap()).unwrap()
}

/// As Freehold's admin, by the private socket.
pub async fn admin(plane: &Plane, database: &str) -> Client {
    let mut config = tokio_postgres::Config::new();
    config.host_path(plane.data_dir().join("run")).port(postgres_port(plane));
    config.user("freehold_admin").dbname(database);
    let (client, connection) = config.connect(NoTls).await.unwrap_or_else(|error| panic!("admin: {error:?}"));
    tokio::spawn(connection);
    client
}

pub async fn store(plane: &Plane) -> Client {
    admin(plane, "freehold_control").await
}

/// Asks until it is so; says what was last seen when it never is.
pub async fn until<T, F, Fut>(what: &str, ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    until_within(PATIENCE, what, ask).await
}

/// With a patience of its own.
pub async fn until_within<T, F, Fut>(patience: Duration, what: &str, mut ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let deadline = Instant::now() + patience;
    loop {
        match ask().await {
            Ok(value) => return value,
            Err(seen) => assert!(Instant::now() < deadline, "{what}: {seen}"),
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// The stock of one template, as `status` tells it: ready and building.
pub async fn stock_of(plane: &Plane, template: &str) -> (u64, u64) {
    let status = plane.get("/v1/status").await;
    let levels = expect(&status, 200)["stock"].as_array().unwrap().clone();
    let level = levels.iter().find(|level| level["template"] == template);
    level.map_or((0, 0), |level| (level["ready"].as_u64().unwrap(), level["building"].as_u64().unwrap()))
}

pub async fn until_stock(plane: &Plane, template: &str, ready: u64) {
    until(&format!("stock of {template}"), async || match stock_of(plane, template).await {
        (found, _) if found >= ready => Ok(()),
        found => Err(format!("{found:?}")),
    })
    .await;
}

/// Every item of a list, walking its cursors with this page size.
pub async fn walk(plane: &Plane, path: &str, limit: u32) -> Vec<Json> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    loop {
        let joint = if path.contains('?') { '&' } else { '?' };
        let from = if cursor.is_empty() { String::new() } else { format!("&cursor={cursor}") };
        let answer = plane.get(&format!("{path}{joint}limit={limit}{from}")).await;
        let page = expect(&answer, 200);
        let found = page["items"].as_array().unwrap();
        assert!(found.len() <= limit as usize);
        items.extend(found.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => return items,
        }
    }
}

pub fn ids(items: &[Json]) -> Vec<String> {
    items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

pub fn stdout(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A command that ends with this exit code.
#[track_caller]
pub fn exits(output: std::process::Output, code: i32) -> std::process::Output {
    assert_eq!(output.status.code(), Some(code), "stdout: {}\nstderr: {}", stdout(&output), stderr(&output));
    output
}

/// Writes a template's directory: path and text.
pub fn template(directory: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

pub fn add_template_body(name: &str, files: &[(&str, &str)]) -> Json {
    let files: serde_json::Map<String, Json> =
        files.iter().map(|(path, text)| ((*path).to_owned(), json!(text))).collect();
    json!({"name": name, "files": files})
}
