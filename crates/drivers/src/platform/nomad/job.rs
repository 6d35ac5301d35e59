//! Job definitions. Pure.

use std::time::Duration;

use serde_json::{Value, json};

use super::NomadOptions;
use super::record::{self, Record};
use crate::platform::{Limits, Network, PlatformError, PlatformErrorKind, Restart, Service, Storage, container};

const SERVICE: &str = "freehold_service";
const INSTANCE: &str = "freehold_instance";
const GENERATION: &str = "freehold_generation";
const DEFINITION: &str = "freehold_definition";
const NODE: &str = "freehold_node";
pub(super) const TASK: &str = "server";
const PORT_LABEL: &str = "postgres";
/// Where Nomad mounts what templates render; a tmpfs that belongs to the task.
const FILES: &str = "/secrets/freehold";

pub(super) fn server(options: &NomadOptions, service: &Service, node: &str) -> Result<Value, PlatformError> {
    refuse_credentials(service)?;
    let definition =
        container::definition(service, &format!("{node} {} {:?}", options.mhz_per_core, options.datacenters));
    let name = &service.name;
    let mut environment: Value = object(container::environment(service));
    environment["FREEHOLD_FILES"] = json!(FILES);
    let templates: Vec<Value> = record::FILES
        .iter()
        .map(|(file, item)| {
            json!({
                "EmbeddedTmpl": format!("{{{{ with nomadVar \"{}\" }}}}{{{{ .{item} }}}}{{{{ end }}}}", record::files_path(name)),
                "DestPath": format!("secrets/freehold/{file}"),
                "Perms": "0400",
                "Uid": container::USER,
                "Gid": container::USER,
                // A change comes with a new definition of the job, and not by itself.
                "ChangeMode": "noop",
            })
        })
        .collect();
    let mut config = docker(service, &["run"], mount(service));
    config["shm_size"] = json!(container::shm_bytes(service));
    config["labels"] = json!([{ "freehold.service": name }]);
    config["cap_drop"] = json!(["all"]);
    let task = json!({
        "Name": TASK,
        "Driver": "docker",
        "Config": config,
        "Env": environment,
        "Templates": templates,
        "Resources": resources(options, &service.limits),
        "KillSignal": "SIGINT",
        "KillTimeout": nanoseconds(service.stop_grace),
        "LogConfig": { "MaxFiles": 5, "MaxFileSizeMB": 20 },
    });
    let check = json!({
        // Listening is enough: recovering is alive, and nothing is restarted because of it.
        "Name": "alive", "Type": "tcp", "PortLabel": PORT_LABEL,
        "Interval": nanoseconds(Duration::from_secs(10)), "Timeout": nanoseconds(Duration::from_secs(5)),
    });
    let services = match &service.network {
        Network::Port { .. } => {
            json!([{ "Name": name, "PortLabel": PORT_LABEL, "Provider": "nomad", "Checks": [check] }])
        }
        Network::Overlay { .. } => Value::Null,
    };
    let has_check = !services.is_null();
    let group = json!({
        "Name": TASK,
        "Count": 1,
        "Networks": networks(service),
        "Services": services,
        "Tasks": [task],
        "RestartPolicy": restart(&service.restart),
        // Its data is on one node: elsewhere it would find none.
        "ReschedulePolicy": { "Attempts": 0, "Unlimited": false },
        "Update": {
            "MaxParallel": 1, "Canary": 0, "AutoRevert": false, "AutoPromote": false,
            "HealthCheck": if has_check { "checks" } else { "task_states" },
            "MinHealthyTime": nanoseconds(Duration::from_secs(1)),
            "HealthyDeadline": nanoseconds(Duration::from_secs(600)), "ProgressDeadline": 0,
        },
    });
    let mut meta = meta(options, name, &definition);
    for (label, value) in &service.labels {
        meta[label] = json!(value);
    }
    meta[GENERATION] = json!(service.generation.to_string());
    meta[NODE] = json!(node);
    let mut job = job(options, name, "service", group, meta);
    job["Constraints"] = constraints(&service.constraints, Some(node))?;
    Ok(job)
}

/// With the server's constraints, room and port: where this ends, the server goes.
pub(super) fn prepare(options: &NomadOptions, service: &Service, node: Option<&str>) -> Result<Value, PlatformError> {
    refuse_credentials(service)?;
    let mount = service.directory().map_or_else(|| mount(service), |path| bind(&path, container::PARENT));
    let once = Once {
        verb: "prepare",
        name: &service.name,
        config: docker(service, &["prepare"], mount),
        environment: object(container::prepare_environment(service, &options.instance)),
        resources: resources(options, &service.limits),
        networks: networks(service),
        constraints: constraints(&service.constraints, node)?,
    };
    let mut job = once.job(options);
    for (name, value) in record::facts(service) {
        job["Meta"][format!("freehold_{name}")] = json!(value);
    }
    Ok(job)
}

/// What a record of its service says, if this is a *prepare* that may make data. One of an earlier version does not know.
pub(super) fn facts(prepare: &Value) -> Option<Vec<(&'static str, String)>> {
    let environment = &prepare["TaskGroups"][0]["Tasks"][0]["Env"];
    let meta = &prepare["Meta"];
    let fact = |name: &'static str| Some((name, meta[format!("freehold_{name}")].as_str()?.to_owned()));
    (environment["FREEHOLD_INITIALISE"] == "yes").then(|| record::FACTS.into_iter().map(fact).collect())?
}

pub(super) fn purge(options: &NomadOptions, name: &str, record: &Record) -> Value {
    let directory = record.directory.as_ref();
    let environment = object(container::purge_environment(name, &options.instance, directory.is_some()));
    let mount = directory.map_or_else(|| volume(name), |path| bind(path, container::PARENT));
    let once = Once {
        verb: "purge",
        name,
        config: json!({ "image": record.image, "args": ["purge"], "mount": [mount] }),
        environment,
        resources: resources(options, &Limits::default()),
        networks: Value::Null,
        constraints: json!([{ "LTarget": "${node.unique.id}", "Operand": "=", "RTarget": record.node }]),
    };
    once.job(options)
}

pub(super) fn once_name(name: &str, verb: &str) -> String {
    format!("{name}-{verb}")
}

struct Once<'a> {
    verb: &'static str,
    name: &'a str,
    config: Value,
    environment: Value,
    resources: Value,
    networks: Value,
    constraints: Value,
}

impl Once<'_> {
    fn job(self, options: &NomadOptions) -> Value {
        let mut config = self.config;
        config["cap_drop"] = json!(["all"]);
        config["cap_add"] = json!(container::ROOT_CAPABILITIES.map(str::to_lowercase));
        let task = json!({
            "Name": TASK,
            "Driver": "docker",
            "User": "0:0",
            "Config": config,
            "Env": self.environment,
            "Resources": self.resources,
            "LogConfig": { "MaxFiles": 1, "MaxFileSizeMB": 5 },
        });
        let group = json!({
            "Name": TASK,
            "Count": 1,
            "Networks": self.networks,
            "Tasks": [task],
            "RestartPolicy": restart(&Restart { attempts: 0, window: Duration::from_secs(60), delay: Duration::from_secs(1) }),
            "ReschedulePolicy": { "Attempts": 0, "Unlimited": false },
        });
        let definition = container::hex(&[&group.to_string(), &self.constraints.to_string()], 16);
        let meta = meta(options, self.name, &definition);
        let mut job = job(options, &once_name(self.name, self.verb), "batch", group, meta);
        job["Constraints"] = self.constraints;
        job
    }
}

fn job(options: &NomadOptions, id: &str, kind: &str, group: Value, meta: Value) -> Value {
    let mut job = json!({
        "ID": id,
        "Name": id,
        "Type": kind,
        "Namespace": options.namespace,
        "Datacenters": options.datacenters,
        "Meta": meta,
        "TaskGroups": [group],
    });
    if let Some(region) = &options.region {
        job["Region"] = json!(region);
    }
    job
}

fn meta(options: &NomadOptions, name: &str, definition: &str) -> Value {
    json!({ SERVICE: name, INSTANCE: options.instance, DEFINITION: definition })
}

fn docker(service: &Service, arguments: &[&str], mount: Value) -> Value {
    let mut config = json!({ "image": service.image_reference(), "args": arguments, "mount": [mount] });
    match &service.network {
        Network::Port { .. } => config["ports"] = json!([PORT_LABEL]),
        Network::Overlay { network } => {
            config["network_mode"] = json!(network);
            config["network_aliases"] = json!([service.name]);
        }
    }
    if let Some(bytes) = service.limits.memory_bytes {
        // The limit; what is asked of the scheduler is the reservation.
        config["memory_hard_limit"] = json!(mebibytes(bytes));
    }
    if service.limits.cpus.is_some() {
        config["cpu_hard_limit"] = json!(true);
    }
    config
}

fn object(pairs: Vec<(&'static str, String)>) -> Value {
    Value::Object(pairs.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect())
}

fn mount(service: &Service) -> Value {
    match &service.storage {
        Storage::Volume => volume(&service.name),
        Storage::Directory { path, .. } => bind(&path.join(&service.name).display().to_string(), container::ROOT),
    }
}

fn volume(name: &str) -> Value {
    json!({ "type": "volume", "source": name, "target": container::ROOT, "readonly": false })
}

fn bind(source: &str, target: &str) -> Value {
    json!({ "type": "bind", "source": source, "target": target, "readonly": false })
}

/// Nomad's processors are one number, reservation and limit.
fn resources(options: &NomadOptions, limits: &Limits) -> Value {
    let cores = limits.cpus.or(limits.reserved_cpus).unwrap_or(0.5);
    let memory = limits.reserved_memory_bytes.or(limits.memory_bytes).unwrap_or(512 << 20);
    json!({
        "CPU": (cores * f64::from(options.mhz_per_core)).round().max(1.0) as u64,
        "MemoryMB": mebibytes(memory),
    })
}

fn networks(service: &Service) -> Value {
    match &service.network {
        Network::Overlay { .. } => Value::Null,
        Network::Port { port, .. } => {
            json!([{ "ReservedPorts": [{ "Label": PORT_LABEL, "Value": port, "To": container::PORT }] }])
        }
    }
}

fn restart(restart: &Restart) -> Value {
    json!({
        "Attempts": restart.attempts,
        "Interval": nanoseconds(restart.window),
        "Delay": nanoseconds(restart.delay),
        "Mode": "fail",
    })
}

/// `${meta.role} = database`: attribute, operator and value, as in a job's file.
fn constraints(written: &[String], node: Option<&str>) -> Result<Value, PlatformError> {
    const OPERATORS: [&str; 17] = [
        "=",
        "==",
        "is",
        "!=",
        "not",
        ">",
        ">=",
        "<",
        "<=",
        "regexp",
        "version",
        "semver",
        "set_contains",
        "set_contains_all",
        "set_contains_any",
        "is_set",
        "is_not_set",
    ];
    let mut all = Vec::new();
    for text in written {
        let mut words = text.splitn(3, char::is_whitespace).map(str::trim);
        let (attribute, operator) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let value = words.next().unwrap_or_default();
        let needs_value = !matches!(operator, "is_set" | "is_not_set");
        if !attribute.starts_with("${") || !OPERATORS.contains(&operator) || value.is_empty() == needs_value {
            return Err(PlatformError::new(
                PlatformErrorKind::Unsupported,
                format!(
                    "constraint {text:?} is not Nomad's: expected an attribute, an operator and a value, as ${{meta.role}} = database"
                ),
            ));
        }
        all.push(json!({ "LTarget": attribute, "Operand": operator, "RTarget": value }));
    }
    all.extend(node.map(|node| json!({ "LTarget": "${node.unique.id}", "Operand": "=", "RTarget": node })));
    Ok(Value::Array(all))
}

fn refuse_credentials(service: &Service) -> Result<(), PlatformError> {
    match service.image.as_ref().and_then(|image| image.credentials.as_ref()) {
        None => Ok(()),
        Some(_) => Err(PlatformError::new(
            PlatformErrorKind::Unsupported,
            "a registry's password would stand in the job for all to read: give it to Nomad's clients (plugin docker, auth), and take it out of the pool",
        )),
    }
}

pub(super) fn is_own(options: &NomadOptions, name: &str, found: &Value) -> bool {
    found["Meta"][SERVICE] == *name && found["Meta"][INSTANCE] == *options.instance
}

/// `name` is the service's; the job may be one of those that end.
pub(super) fn check_own(options: &NomadOptions, name: &str, found: &Value) -> Result<(), PlatformError> {
    if is_own(options, name, found) {
        return Ok(());
    }
    let job = found["ID"].as_str().unwrap_or(name);
    Err(PlatformError::new(
        PlatformErrorKind::Conflict,
        format!(
            "there is a job {job} already, and it is not this Freehold's: it was left alone; rename it, or choose another name"
        ),
    ))
}

pub(super) fn generation(found: &Value) -> Option<u64> {
    found["Meta"][GENERATION].as_str()?.parse().ok()
}

pub(super) fn definition(found: &Value) -> Option<String> {
    found["Meta"][DEFINITION].as_str().map(str::to_owned)
}

pub(super) fn node(found: &Value) -> Option<String> {
    found["Meta"][NODE].as_str().map(str::to_owned)
}

pub(super) fn index(found: &Value) -> u64 {
    found["JobModifyIndex"].as_u64().unwrap_or(0)
}

pub(super) fn grace(found: &Value) -> Duration {
    Duration::from_nanos(found["TaskGroups"][0]["Tasks"][0]["KillTimeout"].as_u64().unwrap_or(0))
}

pub(super) fn is_wanted_up(found: &Value) -> bool {
    found["Stop"] != true && found["TaskGroups"][0]["Count"].as_u64() != Some(0)
}

/// Not `Stop`: Nomad forgets stopped jobs after a while, one of a count of none it keeps.
pub(super) fn scaled_to_none(mut found: Value) -> Value {
    found["TaskGroups"][0]["Count"] = json!(0);
    found
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn mebibytes(bytes: u64) -> u64 {
    (bytes >> 20).max(1)
}
