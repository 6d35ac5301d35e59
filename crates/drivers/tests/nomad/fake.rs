//! A server that schedules at once. It refuses, with the test, whatever is not in [`crate::published`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use freehold_drivers::platform::nomad::{Nomad, NomadOptions};
use serde_json::{Value, json};

use crate::published::{Kind, REGISTER, ROUTES, VARIABLE, matches, violations};

pub const TOKEN: &str = "0f0f0f0f-token";
pub const NODE: &str = "6f1d4b1e-0000-4000-8000-000000000001";

#[derive(Default)]
pub struct World {
    pub index: u64,
    pub jobs: BTreeMap<String, Value>,
    pub variables: BTreeMap<String, Value>,
    pub allocations: Vec<Value>,
    pub evaluations: Vec<Value>,
    pub requests: Vec<(String, String)>,
    pub registered: Vec<Value>,
    pub violations: Vec<String>,
    /// What tasks print.
    pub log: String,
    /// Of jobs that end.
    pub exit_code: i64,
    /// `DimensionExhausted`, `ConstraintFiltered` and their reasons: nothing is placed meanwhile.
    pub blocked: Option<(&'static str, &'static str)>,
    /// What the docker driver says instead of running.
    pub driver_error: Option<&'static str>,
    /// Somebody else changes the job before each of the next registrations.
    pub meddled: u32,
}

pub struct Fake {
    world: Arc<Mutex<World>>,
    url: String,
    directory: tempfile::TempDir,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Fake {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let world = Arc::new(Mutex::new(World { index: 10, ..World::default() }));
        let router = Router::new().fallback(answer).with_state(world.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { world, url, directory: tempfile::tempdir().unwrap(), server }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub fn options(&self) -> NomadOptions {
        let token = self.directory.path().join("token");
        std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
        NomadOptions {
            url: self.url.clone(),
            token_file: Some(token),
            namespace: "databases".into(),
            region: Some("north".into()),
            prepare_deadline_seconds: 5,
            ..NomadOptions::default()
        }
    }

    pub fn nomad(&self) -> Nomad {
        Nomad::new(self.options())
    }

    /// Nothing was sent that is not published.
    pub fn check(&self) {
        assert_eq!(self.world().violations, Vec::<String>::new());
    }
}

impl World {
    pub fn job(&mut self, name: &str) -> &mut Value {
        self.jobs.get_mut(name).unwrap_or_else(|| panic!("there is no job {name}"))
    }

    /// The check of its service passed.
    pub fn healthy(&mut self, job: &str) {
        let latest = self.allocations.iter_mut().rfind(|found| found["JobID"] == job).unwrap();
        latest["ClientStatus"] = json!("running");
        latest["TaskStates"]["server"]["State"] = json!("running");
        latest["DeploymentStatus"] = json!({ "Healthy": true });
    }

    pub fn ended(&mut self, job: &str, event: Value) {
        let latest = self.allocations.iter_mut().rfind(|found| found["JobID"] == job).unwrap();
        latest["ClientStatus"] = json!("failed");
        latest["TaskStates"]["server"] = json!({ "State": "dead", "Failed": true, "Events": [event] });
    }

    fn next(&mut self) -> u64 {
        self.index += 1;
        self.index
    }

    fn register(&mut self, body: &Value) -> Response {
        if body["EnforceIndex"] != true {
            self.violations.push("a job was registered whatever its index was".into());
        }
        let mut job = body["Job"].clone();
        let id = job["ID"].as_str().unwrap_or_default().to_owned();
        if self.meddled > 0 && self.jobs.contains_key(&id) {
            self.meddled -= 1;
            let index = self.next();
            self.job(&id)["JobModifyIndex"] = json!(index);
        }
        let there = self.jobs.get(&id).map_or(0, |job| job["JobModifyIndex"].as_u64().unwrap());
        let given = body["JobModifyIndex"].as_u64().unwrap_or(0);
        if there != given {
            let text =
                format!("Enforcing job modify index {given}: job exists with conflicting job modify index: {there}");
            return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
        }
        self.registered.push(job.clone());
        let index = self.next();
        for (name, value) in [("JobModifyIndex", json!(index)), ("ModifyIndex", json!(index)), ("Stop", json!(false))] {
            job[name] = value;
        }
        self.stop_allocations(&id);
        self.jobs.insert(id.clone(), job.clone());
        self.schedule(&id, &job);
        axum::Json(json!({ "EvalID": "e", "EvalCreateIndex": index, "JobModifyIndex": index, "Warnings": "" }))
            .into_response()
    }

    fn schedule(&mut self, id: &str, job: &Value) {
        self.evaluations.retain(|found| found["JobID"] != id);
        if job["TaskGroups"][0]["Count"] == 0 {
            return;
        }
        let index = self.next();
        if let Some((field, reason)) = self.blocked {
            let metrics = json!({ "NodesEvaluated": 3, field: { reason: 3 } });
            let failed = json!({ "server": metrics });
            self.evaluations
                .push(json!({ "JobID": id, "Status": "blocked", "CreateIndex": index, "FailedTGAllocs": failed }));
            return;
        }
        self.evaluations.push(json!({ "JobID": id, "Status": "complete", "CreateIndex": index }));
        let (status, events) = match (self.driver_error, job["Type"] == "batch", self.exit_code) {
            (Some(error), ..) => ("failed", json!([{ "Type": "Driver Failure", "DriverError": error }])),
            (None, true, 0) => ("complete", json!([{ "Type": "Terminated", "ExitCode": 0 }])),
            (None, true, code) => ("failed", json!([{ "Type": "Terminated", "ExitCode": code }])),
            (None, false, _) => ("pending", Value::Null),
        };
        self.allocations.push(json!({
            "ID": format!("a{index}"), "JobID": id, "NodeID": NODE, "NodeName": "db-1", "CreateIndex": index,
            "ClientStatus": status, "DeploymentStatus": null,
            "TaskStates": { "server": { "State": "pending", "Events": events } },
        }));
    }

    fn stop_allocations(&mut self, id: &str) {
        for found in self.allocations.iter_mut().filter(|found| found["JobID"] == id) {
            if matches!(found["ClientStatus"].as_str(), Some("running" | "pending")) {
                found["ClientStatus"] = json!("complete");
            }
        }
    }

    fn put_variable(&mut self, path: &str, cas: Option<u64>, body: &Value) -> Response {
        if body["Path"] != path || body["Namespace"] != "databases" {
            self.violations.push(format!("variable {path} says it is {} of {}", body["Path"], body["Namespace"]));
        }
        let items = body["Items"].as_object().unwrap();
        let size: usize = items.iter().map(|(name, value)| name.len() + value.as_str().unwrap_or_default().len()).sum();
        if size > 64 << 10 {
            return (StatusCode::BAD_REQUEST, "variables are limited to 64KiB in total size").into_response();
        }
        let there = self.variables.get(path).map_or(0, |found| found["ModifyIndex"].as_u64().unwrap());
        if cas.is_some_and(|cas| cas != there) {
            return (StatusCode::CONFLICT, axum::Json(json!({ "ModifyIndex": there }))).into_response();
        }
        let mut variable = body.clone();
        variable["ModifyIndex"] = json!(self.next());
        self.variables.insert(path.to_owned(), variable.clone());
        axum::Json(variable).into_response()
    }
}

async fn answer(State(world): State<Arc<Mutex<World>>>, request: Request) -> Response {
    let (method, uri) = (request.method().to_string(), request.uri().clone());
    let token = request.headers().get("X-Nomad-Token").and_then(|token| token.to_str().ok()).map(str::to_owned);
    let bytes = to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let mut world = world.lock().unwrap();
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let Some(path) = uri.path().strip_prefix("/v1/").map(str::to_owned) else {
        world.violations.push(format!("{method} {uri} is not below /v1"));
        return StatusCode::NOT_FOUND.into_response();
    };
    world.requests.push((method.clone(), path.clone()));
    if token.as_deref() != Some(TOKEN) {
        return (StatusCode::FORBIDDEN, "Permission denied").into_response();
    }
    let Some((_, _, parameters)) = ROUTES.iter().find(|(verb, route, _)| *verb == method && matches(route, &path))
    else {
        world.violations.push(format!("{method} {path} is not in the API"));
        return StatusCode::NOT_FOUND.into_response();
    };
    for name in query.keys().filter(|name| !["namespace", "region"].contains(&name.as_str())) {
        if !parameters.contains(&name.as_str()) {
            world.violations.push(format!("{method} {path} has no parameter {name}"));
        }
    }
    if query.get("namespace").map(String::as_str) != Some("databases")
        || query.get("region").map(String::as_str) != Some("north")
    {
        world.violations.push(format!("{method} {path} is about {query:?}"));
    }
    let body: Value = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
    let fields = match (method.as_str(), path.as_str()) {
        ("POST", "jobs") => Some(REGISTER),
        ("PUT", _) => Some(VARIABLE),
        _ if !body.is_null() => panic!("{method} {path} takes no body"),
        _ => None,
    };
    if let Some(fields) = fields {
        let mut found = Vec::new();
        violations(&path, Kind::Object(fields), &body, &mut found);
        world.violations.extend(found);
    }
    route(&mut world, &method, &path, &query, &body)
}

fn route(world: &mut World, method: &str, path: &str, query: &BTreeMap<String, String>, body: &Value) -> Response {
    let or_missing = |found: Option<&Value>| match found {
        Some(found) => axum::Json(found.clone()).into_response(),
        None => (StatusCode::NOT_FOUND, "not found").into_response(),
    };
    let of_job = |all: &[Value], id: &str| {
        let all: Vec<&Value> = all.iter().filter(|found| found["JobID"] == id).collect();
        axum::Json(json!(all)).into_response()
    };
    let parts: Vec<&str> = path.split('/').collect();
    match (method, parts.as_slice()) {
        ("GET", ["jobs"]) => {
            let all: Vec<Value> =
                world.jobs.values().map(|job| json!({ "ID": job["ID"], "Type": job["Type"] })).collect();
            axum::Json(json!(all)).into_response()
        }
        ("POST", ["jobs"]) => world.register(body),
        ("GET", ["job", id]) => or_missing(world.jobs.get(*id)),
        ("DELETE", ["job", id]) => {
            world.stop_allocations(id);
            world.evaluations.retain(|found| found["JobID"] != *id);
            match world.jobs.remove(*id) {
                Some(_) => axum::Json(json!({ "EvalID": "e", "JobModifyIndex": 1 })).into_response(),
                None => (StatusCode::NOT_FOUND, "job not found").into_response(),
            }
        }
        ("GET", ["job", id, "allocations"]) => of_job(&world.allocations, id),
        ("GET", ["job", id, "evaluations"]) => of_job(&world.evaluations, id),
        ("GET", ["vars"]) => {
            let prefix = query.get("prefix").cloned().unwrap_or_default();
            let all: Vec<Value> = world
                .variables
                .keys()
                .filter(|path| path.starts_with(&prefix))
                .map(|path| json!({ "Path": path }))
                .collect();
            axum::Json(json!(all)).into_response()
        }
        ("GET", ["var", ..]) => or_missing(world.variables.get(&path[4..])),
        ("PUT", ["var", ..]) => world.put_variable(&path[4..], query.get("cas").map(|cas| cas.parse().unwrap()), body),
        ("DELETE", ["var", ..]) => {
            world.variables.remove(&path[4..]);
            axum::Json(json!({ "Index": 1 })).into_response()
        }
        ("GET", ["client", "fs", "logs", _]) => world.log.clone().into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
