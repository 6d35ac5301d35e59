//! `[[server_pool]]`: servers that Freehold makes by itself, and what placement goes by (`[placement]`, `[servers]`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use freehold_api::id::PoolName;
use freehold_api::server::{ServerKind, ServerLimits};
use freehold_drivers::server::managed::Log;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::size::Size;
use crate::server_pool::definition::Definition;

/// Leaves room for the number that a server's name ends with.
const NAME_MAX: usize = 40;
/// Below it PostgreSQL starts, and does nothing else.
const MEMORY_MIN: u64 = 256 << 20;
const CAPACITY_DEFAULT: u32 = 50;
const SPARE_DEFAULT: u32 = 10;

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerPool {
    /// Its servers are called `name-1`, `name-2`, …
    #[schema(value_type = String, format = "name")]
    pub name: PoolName,
    /// One that `[platform.…]` declares.
    #[schema(pattern = "^(process|docker|nomad)$")]
    pub platform: String,
    /// What its servers are for: many tenants, or one.
    #[serde(default = "shared")]
    #[schema(value_type = String, pattern = "^(shared|dedicated)$")]
    pub kind: ServerKind,
    /// PostgreSQL's major version.
    #[schema(minimum = 15, maximum = 18)]
    pub postgres: u16,
    /// What containers are made from; `name@sha256:…` says exactly what.
    #[serde(default)]
    pub image: Option<String>,
    /// For a registry that asks, with `server_pool.registry_password_file`.
    #[serde(default)]
    pub registry_username: Option<String>,
    /// Read whenever a server is made or updated.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "path")]
    pub registry_password_file: Option<PathBuf>,
    /// Tenants and stock that fit on one server: `DB_POOL_MAX_INSTANCES` when absent, else 50; 1 where dedicated.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 100_000)]
    pub capacity: Option<u32>,
    /// Slots without a tenant that are kept ready, over all its servers: 10 when absent, at most the capacity; 0 where dedicated.
    #[serde(default)]
    pub minimum_spare: Option<u32>,
    /// How many there may be.
    #[serde(default = "ten")]
    #[schema(minimum = 1, maximum = 1_000)]
    pub maximum_servers: u32,
    /// Of one server; 0.5 is half of one. `DB_POOL_CPU_LIMIT` when absent, else no limit.
    #[serde(default)]
    #[schema(format = "cores")]
    pub cpus: Option<f64>,
    /// Of one server; at least 256M. `DB_POOL_MEMORY_LIMIT` when absent, else no limit.
    #[serde(default)]
    pub memory: Option<Size>,
    /// What the platform's scheduler sets aside.
    #[serde(default)]
    #[schema(format = "cores")]
    pub reserved_cpus: Option<f64>,
    /// What the platform's scheduler sets aside.
    #[serde(default)]
    pub reserved_memory: Option<Size>,
    /// What its storage holds at most; WAL is bounded by it. 40G are assumed when absent.
    #[serde(default)]
    pub disk: Option<Size>,
    /// PostgreSQL's settings, above those that its limits and capacity give.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Whether it speaks TLS, and then nothing else. False is for platform process on
    /// loopback alone, for builds without TLS.
    #[serde(default = "yes")]
    pub tls: bool,
    /// Where its servers are; tenants may ask for it.
    #[serde(default)]
    pub region: Option<String>,
    /// Of its servers.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Lower ones are filled first.
    #[serde(default = "hundred")]
    #[schema(minimum = -1_000, maximum = 1_000)]
    pub priority: i32,
    /// Directory on the node, in which each server gets one of its own; the platform's own storage when absent.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "path")]
    pub storage: Option<PathBuf>,
    /// Of that directory; at least 0700, at most 0777.
    #[serde(default = "private")]
    #[schema(format = "octal")]
    pub storage_mode: String,
    /// The overlay network that tenants are on too; a port of the platform's range when absent.
    #[serde(default)]
    pub network: Option<String>,
    /// Where its servers may run, in the platform's words.
    #[serde(default)]
    pub constraints: Vec<String>,
    /// How long a server may take from being wanted to taking tenants; past it, it is taken back.
    #[serde(default = "ten_minutes")]
    pub provision_deadline_seconds: u64,
}

fn yes() -> bool {
    true
}
fn shared() -> ServerKind {
    ServerKind::Shared
}
fn ten() -> u32 {
    10
}
fn hundred() -> i32 {
    100
}
fn private() -> String {
    "0700".into()
}
fn ten_minutes() -> u64 {
    600
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Placement {
    /// Keys of labels that must be the same on a tenant and on its server; a server that carries one takes no others.
    pub labels: Vec<String>,
    /// A server whose disk, or whose pool's `disk`, has less free takes no new tenants. 10 GiB are always enough.
    #[schema(maximum = 90)]
    pub minimum_free_percent: u8,
    /// A server with more of its connections in use takes no new tenants.
    #[schema(minimum = 1, maximum = 100)]
    pub maximum_connections_percent: u8,
}

impl Default for Placement {
    fn default() -> Self {
        Self { labels: Vec::new(), minimum_free_percent: 5, maximum_connections_percent: 90 }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Servers {
    /// When a managed server that failed and has no tenants is removed. Its data is kept.
    pub remove_failed_after_seconds: u64,
}

impl Default for Servers {
    fn default() -> Self {
        Self { remove_failed_after_seconds: 24 * 3600 }
    }
}

impl ServerPool {
    pub fn slots(&self) -> u32 {
        match self.kind {
            ServerKind::Dedicated => 1,
            ServerKind::Shared | ServerKind::System => self.capacity.unwrap_or(CAPACITY_DEFAULT),
        }
    }

    pub fn spare(&self) -> u32 {
        let default = match self.kind {
            // A server that waits for nobody is a whole server's cost.
            ServerKind::Dedicated => 0,
            ServerKind::Shared | ServerKind::System => SPARE_DEFAULT.min(self.slots()),
        };
        self.minimum_spare.unwrap_or(default)
    }

    pub fn limits(&self) -> ServerLimits {
        ServerLimits {
            cpus: self.cpus,
            memory_bytes: self.memory.map(|size| size.0),
            reserved_cpus: self.reserved_cpus,
            reserved_memory_bytes: self.reserved_memory.map(|size| size.0),
        }
    }

    pub fn storage_mode(&self) -> Option<u32> {
        // What platforms take: PostgreSQL's user gets at its data, and a directory has no bits but permissions.
        u32::from_str_radix(&self.storage_mode, 8).ok().filter(|mode| mode & !0o777 == 0 && mode & 0o700 == 0o700)
    }

    /// What contradicts itself, in words for `[[server_pool]] "name": …`.
    pub(super) fn check(&self) -> Result<(), String> {
        let slots = self.slots();
        if self.name.as_str().len() > NAME_MAX {
            return Err(format!("name may have at most {NAME_MAX} characters: its servers add a number"));
        }
        if !(15..=18).contains(&self.postgres) {
            return Err(format!("postgres is {}; use 15, 16, 17 or 18", self.postgres));
        }
        match self.kind {
            ServerKind::System => {
                return Err("kind is system; tenants never live there: use shared or dedicated".into());
            }
            ServerKind::Dedicated if self.capacity.is_some_and(|capacity| capacity != 1) => {
                return Err("capacity: a dedicated server has one tenant; leave it out".into());
            }
            ServerKind::Dedicated | ServerKind::Shared => {}
        }
        if !(1..=100_000).contains(&slots) {
            return Err(format!("capacity is {slots}; use 1 to 100000"));
        }
        if !(1..=1000).contains(&self.maximum_servers) {
            return Err(format!("maximum_servers is {}; use 1 to 1000", self.maximum_servers));
        }
        let all = u64::from(slots) * u64::from(self.maximum_servers);
        if u64::from(self.spare()) > all {
            return Err(format!("minimum_spare is {}, and all its servers together have {all} slots", self.spare()));
        }
        check_limits(&self.limits())?;
        if self.image.as_ref().is_some_and(|image| image.trim().is_empty()) {
            return Err("image is empty".into());
        }
        if self.registry_username.is_some() != self.registry_password_file.is_some() {
            return Err("registry_username and registry_password_file go together".into());
        }
        if self.storage.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err("storage must be an absolute path".into());
        }
        if self.storage_mode().is_none() {
            return Err(format!(
                "storage_mode is {:?}; expected octal digits, at least 0700 and at most 0777",
                self.storage_mode
            ));
        }
        if self.region.as_ref().is_some_and(|region| region.is_empty() || region.chars().count() > 63) {
            return Err("region must have 1 to 63 characters".into());
        }
        labels(&self.labels)?;
        let definition = Definition::of(self);
        definition.rendered(Log::Files).map_err(|bad| format!("settings: {bad}"))?;
        if !(-1000..=1000).contains(&self.priority) {
            return Err(format!("priority is {}; use -1000 to 1000", self.priority));
        }
        if !(10..=86_400).contains(&self.provision_deadline_seconds) {
            return Err("provision_deadline_seconds must be 10 to 86400".into());
        }
        Ok(())
    }
}

pub fn check_limits(limits: &ServerLimits) -> Result<(), String> {
    let cores = |name: &str, cores: Option<f64>| match cores {
        Some(cores) if !(0.05..=1024.0).contains(&cores) => Err(format!("{name} is {cores}; use 0.05 to 1024")),
        _ => Ok(()),
    };
    let within = |what: &str, reserved: Option<f64>, limit: Option<f64>| match (reserved, limit) {
        (Some(reserved), Some(limit)) if reserved > limit => {
            Err(format!("reserved_{what} is more than {what}: nothing more than its limit can be set aside"))
        }
        _ => Ok(()),
    };
    cores("cpus", limits.cpus)?;
    cores("reserved_cpus", limits.reserved_cpus)?;
    within("cpus", limits.reserved_cpus, limits.cpus)?;
    within("memory", limits.reserved_memory_bytes.map(|n| n as f64), limits.memory_bytes.map(|n| n as f64))?;
    match limits.memory_bytes.is_some_and(|bytes| bytes < MEMORY_MIN) {
        true => Err("memory is less than 256M, which PostgreSQL needs to serve anybody".into()),
        false => Ok(()),
    }
}

/// The same rules as for tenants' labels.
fn labels(labels: &BTreeMap<String, String>) -> Result<(), String> {
    if labels.len() > 32 {
        return Err(format!("labels: there are {}; at most 32 are kept", labels.len()));
    }
    for (key, value) in labels {
        let (key_length, value_length) = (key.chars().count(), value.chars().count());
        if !(1..=63).contains(&key_length) || key.contains(['=', '\0']) {
            return Err(format!("labels: the key {key:?} must have 1 to 63 characters, none of them '='"));
        }
        if value_length > 200 || value.contains('\0') {
            return Err(format!("labels: the value of {key:?} must have at most 200 characters"));
        }
    }
    Ok(())
}

impl Placement {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.minimum_free_percent > 90 {
            return Err("minimum_free_percent must be 0 to 90".into());
        }
        if !(1..=100).contains(&self.maximum_connections_percent) {
            return Err("maximum_connections_percent must be 1 to 100".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::Settings;

    const HEAD: &str =
        "[store]\nurl = \"postgres://x\"\n[secrets]\nkey_file = \"k\"\n[platform.process]\ndata_dir = \"/d\"\n";
    const POOL: &str = "[[server_pool]]\nname = \"eu\"\nplatform = \"process\"\npostgres = 15\n";

    fn parse(text: &str) -> Result<Settings, String> {
        let settings: Settings = toml::from_str(&format!("{HEAD}{text}")).map_err(|error| error.to_string())?;
        settings.checked().map_err(|error| error.to_string())
    }

    #[test]
    fn settings_of_pools_have_defaults_that_fit_their_kind() {
        let settings = parse(&format!("{POOL}{}kind = \"dedicated\"\n", POOL.replace("eu", "own"))).unwrap();
        let [shared, dedicated] = &settings.server_pools[..] else { panic!("two pools") };
        assert_eq!((shared.slots(), shared.spare(), shared.maximum_servers), (50, 10, 10));
        assert_eq!((dedicated.slots(), dedicated.spare()), (1, 0));
        assert_eq!(parse(&format!("{POOL}capacity = 3\n")).unwrap().server_pools[0].spare(), 3);
    }

    #[test]
    fn settings_of_pools_refuse_what_contradicts_itself() {
        for (text, why) in [
            ("capacity = 0", "capacity is 0"),
            ("capacity = 5\nminimum_spare = 51\nmaximum_servers = 10", "have 50 slots"),
            ("maximum_servers = 0", "maximum_servers is 0"),
            ("maximum_servers = 201", "may have 201 servers"),
            ("kind = \"dedicated\"\ncapacity = 2", "one tenant"),
            ("kind = \"system\"", "never live there"),
            ("image = \"x\"", "leave image out"),
            ("network = \"x\"", "one machine"),
            ("cpus = 0", "use 0.05 to 1024"),
            ("cpus = 1\nreserved_cpus = 2", "more than cpus"),
            ("memory = \"1M\"", "less than 256M"),
            ("memory = \"4 apples\"", "no amount of memory"),
            ("storage = \"here\"", "absolute path"),
            ("storage_mode = \"rwx\"", "octal"),
            ("storage_mode = \"0070\"", "at least 0700"),
            ("storage_mode = \"2770\"", "at most 0777"),
            ("registry_username = \"x\"", "go together"),
            ("settings = { ssl = \"off\" }", "Freehold's to set"),
            ("settings = { \"a b\" = \"1\" }", "not the name of a setting"),
            ("labels = { \"a=b\" = \"1\" }", "none of them '='"),
            ("priority = 5000", "use -1000 to 1000"),
            ("provision_deadline_seconds = 1", "10 to 86400"),
            ("colour = \"red\"", "unknown field"),
        ] {
            let error = parse(&format!("{POOL}{text}\n")).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        for (text, why) in [
            (POOL.replace("= 15", "= 14"), "use 15, 16, 17 or 18"),
            (POOL.replace("\"process\"", "\"docker\""), "no [platform.docker]"),
            (POOL.replace("\"process\"", "\"vax\""), "use process, docker or nomad"),
            (POOL.replace("eu", &"x".repeat(41)), "at most 40"),
            (format!("{POOL}{POOL}"), "declared twice"),
            ("[placement]\nminimum_free_percent = 95\n".into(), "0 to 90"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        for (text, why) in [
            ("ports = \"9-8\"", "no range of ports"),
            ("address = \"a b\"", "without a port"),
            (
                "address = \"db.example.com\"\n[[server_pool]]\nname = \"eu\"\nplatform = \"process\"\npostgres = 15\ntls = false",
                "on loopback alone",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
