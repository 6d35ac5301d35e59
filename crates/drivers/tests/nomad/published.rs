//! Names and types of what may be sent, written down from HashiCorp's published description of Nomad's API: the OpenAPI
//! document of the repository hashicorp/nomad-openapi (v1/openapi.yaml at 91c4cd10, MPL-2.0), the pages on jobs, variables and
//! the docker driver of Nomad's documentation (1.6 and later). Of each object all fields are listed, used here or not: a
//! name that is wrong by one letter would be ignored by a real server.

use serde_json::Value;

#[derive(Clone, Copy)]
pub enum Kind {
    Text,
    Whole,
    Truth,
    Any,
    Object(Fields),
    List(&'static Kind),
    Map(&'static Kind),
}

pub type Fields = &'static [(&'static str, Kind)];

use Kind::{Any, List, Map, Object, Text, Truth, Whole};

pub const REGISTER: Fields = &[
    ("EnforceIndex", Truth),
    ("EvalPriority", Whole),
    ("Job", Object(JOB)),
    ("JobModifyIndex", Whole),
    ("Namespace", Text),
    ("PolicyOverride", Truth),
    ("PreserveCounts", Truth),
    ("Region", Text),
    ("SecretID", Text),
];

pub const JOB: Fields = &[
    ("Affinities", Any),
    ("AllAtOnce", Truth),
    ("Constraints", List(&Object(CONSTRAINT))),
    ("ConsulNamespace", Text),
    ("ConsulToken", Text),
    ("CreateIndex", Whole),
    ("Datacenters", List(&Text)),
    ("DispatchIdempotencyToken", Text),
    ("Dispatched", Truth),
    ("ID", Text),
    ("JobModifyIndex", Whole),
    ("Meta", Map(&Text)),
    ("Migrate", Any),
    ("ModifyIndex", Whole),
    ("Multiregion", Any),
    ("Name", Text),
    ("Namespace", Text),
    ("NodePool", Text),
    ("NomadTokenID", Text),
    ("ParameterizedJob", Any),
    ("ParentID", Text),
    ("Payload", Text),
    ("Periodic", Any),
    ("Priority", Whole),
    ("Region", Text),
    ("Reschedule", Object(RESCHEDULE)),
    ("Spreads", Any),
    ("Stable", Truth),
    ("Status", Text),
    ("StatusDescription", Text),
    ("Stop", Truth),
    ("SubmitTime", Whole),
    ("TaskGroups", List(&Object(GROUP))),
    ("Type", Text),
    ("Update", Object(UPDATE)),
    ("VaultNamespace", Text),
    ("VaultToken", Text),
    ("Version", Whole),
];

const CONSTRAINT: Fields = &[("LTarget", Text), ("Operand", Text), ("RTarget", Text)];

const RESCHEDULE: Fields = &[
    ("Attempts", Whole),
    ("Delay", Whole),
    ("DelayFunction", Text),
    ("Interval", Whole),
    ("MaxDelay", Whole),
    ("Unlimited", Truth),
];

const RESTART: Fields = &[("Attempts", Whole), ("Delay", Whole), ("Interval", Whole), ("Mode", Text)];

const UPDATE: Fields = &[
    ("AutoPromote", Truth),
    ("AutoRevert", Truth),
    ("Canary", Whole),
    ("HealthCheck", Text),
    ("HealthyDeadline", Whole),
    ("MaxParallel", Whole),
    ("MinHealthyTime", Whole),
    ("ProgressDeadline", Whole),
    ("Stagger", Whole),
];

const GROUP: Fields = &[
    ("Affinities", Any),
    ("Constraints", List(&Object(CONSTRAINT))),
    ("Consul", Any),
    ("Count", Whole),
    ("EphemeralDisk", Any),
    ("MaxClientDisconnect", Whole),
    ("Meta", Map(&Text)),
    ("Migrate", Any),
    ("Name", Text),
    ("Networks", List(&Object(NETWORK))),
    ("ReschedulePolicy", Object(RESCHEDULE)),
    ("RestartPolicy", Object(RESTART)),
    ("Scaling", Any),
    ("Services", List(&Object(SERVICE))),
    ("ShutdownDelay", Whole),
    ("Spreads", Any),
    ("StopAfterClientDisconnect", Whole),
    ("Tasks", List(&Object(TASK))),
    ("Update", Object(UPDATE)),
    ("Volumes", Any),
];

const TASK: Fields = &[
    ("Affinities", Any),
    ("Artifacts", Any),
    ("CSIPluginConfig", Any),
    ("Config", Object(DOCKER)),
    ("Constraints", List(&Object(CONSTRAINT))),
    ("DispatchPayload", Any),
    ("Driver", Text),
    ("Env", Map(&Text)),
    ("KillSignal", Text),
    ("KillTimeout", Whole),
    ("Kind", Text),
    ("Leader", Truth),
    ("Lifecycle", Any),
    ("LogConfig", Object(&[("MaxFileSizeMB", Whole), ("MaxFiles", Whole)])),
    ("Meta", Map(&Text)),
    ("Name", Text),
    ("Resources", Object(RESOURCES)),
    ("RestartPolicy", Object(RESTART)),
    ("ScalingPolicies", Any),
    ("Services", List(&Object(SERVICE))),
    ("ShutdownDelay", Whole),
    ("Templates", List(&Object(TEMPLATE))),
    ("User", Text),
    ("Vault", Any),
    ("VolumeMounts", Any),
];

const TEMPLATE: Fields = &[
    ("ChangeMode", Text),
    ("ChangeScript", Any),
    ("ChangeSignal", Text),
    ("DestPath", Text),
    ("EmbeddedTmpl", Text),
    ("Envvars", Truth),
    ("Gid", Whole),
    ("LeftDelim", Text),
    ("Perms", Text),
    ("RightDelim", Text),
    ("SourcePath", Text),
    ("Splay", Whole),
    ("Uid", Whole),
    ("VaultGrace", Whole),
    ("Wait", Any),
];

const RESOURCES: Fields = &[
    ("CPU", Whole),
    ("Cores", Whole),
    ("Devices", Any),
    ("DiskMB", Whole),
    ("IOPS", Whole),
    ("MemoryMB", Whole),
    ("MemoryMaxMB", Whole),
    ("Networks", List(&Object(NETWORK))),
];

const NETWORK: Fields = &[
    ("CIDR", Text),
    ("DNS", Any),
    ("Device", Text),
    ("DynamicPorts", List(&Object(PORT))),
    ("Hostname", Text),
    ("IP", Text),
    ("MBits", Whole),
    ("Mode", Text),
    ("ReservedPorts", List(&Object(PORT))),
];

const PORT: Fields = &[("HostNetwork", Text), ("Label", Text), ("To", Whole), ("Value", Whole)];

const SERVICE: Fields = &[
    ("Address", Text),
    ("AddressMode", Text),
    ("CanaryMeta", Map(&Text)),
    ("CanaryTags", List(&Text)),
    ("CheckRestart", Any),
    ("Checks", List(&Object(CHECK))),
    ("Connect", Any),
    ("EnableTagOverride", Truth),
    ("Meta", Map(&Text)),
    ("Name", Text),
    ("OnUpdate", Text),
    ("PortLabel", Text),
    ("Provider", Text),
    ("TaggedAddresses", Map(&Text)),
    ("Tags", List(&Text)),
    ("TaskName", Text),
];

const CHECK: Fields = &[
    ("AddressMode", Text),
    ("Advertise", Text),
    ("Args", List(&Text)),
    ("Body", Text),
    ("CheckRestart", Any),
    ("Command", Text),
    ("Expose", Truth),
    ("FailuresBeforeCritical", Whole),
    ("GRPCService", Text),
    ("GRPCUseTLS", Truth),
    ("Header", Any),
    ("InitialStatus", Text),
    ("Interval", Whole),
    ("Method", Text),
    ("Name", Text),
    ("OnUpdate", Text),
    ("Path", Text),
    ("PortLabel", Text),
    ("Protocol", Text),
    ("SuccessBeforePassing", Whole),
    ("TLSSkipVerify", Truth),
    ("TaskName", Text),
    ("Timeout", Whole),
    ("Type", Text),
];

/// Of the docker driver what a server could use; blocks are lists of one.
const DOCKER: Fields = &[
    ("args", List(&Text)),
    ("auth", List(&Any)),
    ("cap_add", List(&Text)),
    ("cap_drop", List(&Text)),
    ("command", Text),
    ("cpu_hard_limit", Truth),
    ("force_pull", Truth),
    ("healthchecks", List(&Any)),
    ("hostname", Text),
    ("image", Text),
    ("init", Truth),
    ("labels", List(&Map(&Text))),
    ("memory_hard_limit", Whole),
    ("mount", List(&Object(MOUNT))),
    ("network_aliases", List(&Text)),
    ("network_mode", Text),
    ("ports", List(&Text)),
    ("readonly_rootfs", Truth),
    ("security_opt", List(&Text)),
    ("shm_size", Whole),
    ("volumes", List(&Text)),
];

const MOUNT: Fields = &[
    ("bind_options", List(&Any)),
    ("readonly", Truth),
    ("source", Text),
    ("target", Text),
    ("tmpfs_options", List(&Any)),
    ("type", Text),
    ("volume_options", List(&Any)),
];

pub const VARIABLE: Fields = &[
    ("CreateIndex", Whole),
    ("CreateTime", Whole),
    ("Items", Map(&Text)),
    ("ModifyIndex", Whole),
    ("ModifyTime", Whole),
    ("Namespace", Text),
    ("Path", Text),
];

/// Method, path with `*` for what is named, and the query parameters it has besides namespace and region.
pub const ROUTES: &[(&str, &str, &[&str])] = &[
    ("GET", "jobs", &["prefix", "next_token", "per_page", "filter", "meta"]),
    ("POST", "jobs", &[]),
    ("GET", "job/*", &[]),
    ("DELETE", "job/*", &["purge", "global", "eval_priority", "no_shutdown_delay"]),
    ("GET", "job/*/allocations", &["all"]),
    ("GET", "job/*/evaluations", &[]),
    ("GET", "vars", &["prefix", "next_token", "per_page", "filter"]),
    ("GET", "var/**", &[]),
    ("PUT", "var/**", &["cas", "lock-operation"]),
    ("DELETE", "var/**", &["cas"]),
    ("GET", "client/fs/logs/*", &["task", "type", "follow", "offset", "origin", "plain"]),
];

/// Where a value is not what was published.
pub fn violations(at: &str, kind: Kind, value: &Value, found: &mut Vec<String>) {
    let mut wrong = |expected: &str| found.push(format!("{at} is {value}, expected {expected}"));
    match (kind, value) {
        (_, Value::Null) | (Any, _) | (Text, Value::String(_)) | (Truth, Value::Bool(_)) => {}
        (Whole, Value::Number(number)) if number.is_u64() => {}
        (Text, _) => wrong("text"),
        (Truth, _) => wrong("true or false"),
        (Whole, _) => wrong("a whole number"),
        (List(inner), Value::Array(all)) => {
            for (index, value) in all.iter().enumerate() {
                violations(&format!("{at}[{index}]"), *inner, value, found);
            }
        }
        (Map(inner), Value::Object(all)) => {
            for (name, value) in all {
                violations(&format!("{at}.{name}"), *inner, value, found);
            }
        }
        (Object(fields), Value::Object(all)) => {
            for (name, value) in all {
                match fields.iter().find(|(field, _)| field == name) {
                    Some((_, kind)) => violations(&format!("{at}.{name}"), *kind, value, found),
                    None => found.push(format!("{at} has no field {name}")),
                }
            }
        }
        (List(_), _) => wrong("a list"),
        (Map(_) | Object(_), _) => wrong("an object"),
    }
}

/// Whether a path is one of a route's.
pub fn matches(route: &str, path: &str) -> bool {
    if let Some(prefix) = route.strip_suffix("**") {
        let named = path.strip_prefix(prefix).unwrap_or_default();
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_~/".contains(c);
        return (1..=128).contains(&named.len()) && named.chars().all(allowed);
    }
    let (route, path): (Vec<&str>, Vec<&str>) = (route.split('/').collect(), path.split('/').collect());
    route.len() == path.len() && route.iter().zip(&path).all(|(r, p)| r == p || (*r == "*" && !p.is_empty()))
}
