//! What an operator declares, from a TOML file and the environment (`FREEHOLD__STORE__URL`).
//!
//! Unknown keys are errors. Absent: defaults for secrets; what is secret is read from a file or the environment.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use freehold_api::id::{PlanName, TemplateName};
use freehold_api::plan::Plan;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

mod audit;
mod compat;
mod platform;
mod pooler;
mod pooler_platform;
mod server_pool;
mod size;
mod watch;

pub use audit::Audit;
pub use compat::{Compat, Environment, PGCAT_REFUSED};
pub use platform::{DockerPlatform, NomadPlatform, Platforms, ProcessPlatform};
pub use pooler::Pooler;
pub use pooler_platform::{PoolerPlatform, ServerTls};
pub use server_pool::{Placement, ServerPool, Servers, check_limits};
pub use size::{Ports, Size};
pub use watch::{Health, Stats};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What is too dangerous for production is refused there.
    #[serde(default)]
    pub environment: Environment,
    /// Where the API listens.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    pub store: Store,
    pub secrets: Secrets,
    #[serde(default)]
    pub stock: Stock,
    #[serde(default)]
    pub tenants: Tenants,
    #[serde(default)]
    pub templates: Templates,
    #[serde(default)]
    pub operations: Operations,
    #[serde(default)]
    pub http: Http,
    /// The plans on offer. None: one built-in plan, `standard`.
    #[serde(default, rename = "plan")]
    pub plans: Vec<Plan>,
    /// Where servers of pools run.
    #[serde(default)]
    pub platform: Platforms,
    /// Servers that Freehold makes by itself.
    #[serde(default, rename = "server_pool")]
    pub server_pools: Vec<ServerPool>,
    #[serde(default)]
    pub servers: Servers,
    #[serde(default)]
    pub pooler: Pooler,
    /// What is dangerous, and yet needed by whoever says so.
    #[serde(default)]
    pub compat: Compat,
    #[serde(default)]
    pub placement: Placement,
    #[serde(default)]
    pub health: Health,
    #[serde(default)]
    pub stats: Stats,
    #[serde(default)]
    pub audit: Audit,
    /// Compatibility surfaces. Off unless declared.
    #[serde(default, rename = "edge")]
    pub edges: Vec<Edge>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// `postgres://user:password@host:port/database` of the control store.
    pub url: SecretString,
    /// Connections that this process may open to it.
    #[serde(default = "default_store_connections")]
    pub connections: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// The file with the sealing key: base64 of 32 bytes, readable by its owner only.
    pub key_file: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stock {
    /// Databases kept ready per template on each shared server.
    pub per_template: u32,
    /// Overrides by template.
    pub templates: BTreeMap<TemplateName, u32>,
    /// How many are made at once on one server.
    pub concurrency: u32,
}

impl Default for Stock {
    fn default() -> Self {
        Self { per_template: 10, templates: BTreeMap::new(), concurrency: 2 }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tenants {
    pub default_template: TemplateName,
    /// How long a deleted tenant can be undeleted, in seconds.
    pub deletion_grace_seconds: u64,
    /// How long both credentials are in force after a rotation, in seconds.
    pub rotation_grace_seconds: u64,
    /// How long the server that a tenant was moved away from follows, in seconds.
    pub move_grace_seconds: u64,
    /// How long a create may take before it is undone, in seconds.
    pub create_deadline_seconds: u64,
}

impl Default for Tenants {
    fn default() -> Self {
        Self {
            default_template: "default".parse().expect("a valid slug"),
            deletion_grace_seconds: 7 * 24 * 3600,
            rotation_grace_seconds: 24 * 3600,
            move_grace_seconds: 24 * 3600,
            create_deadline_seconds: 3600,
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Templates {
    /// Whether `[migrate] command` may run programs on this machine. Whoever may add templates may then run any.
    pub allow_commands: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Operations {
    /// How long a process may be silent before another takes its operations, in seconds.
    pub lease_seconds: u64,
    /// How long finished operations are kept, in days.
    pub keep_days: u32,
}

impl Default for Operations {
    fn default() -> Self {
        Self { lease_seconds: 30, keep_days: 30 }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// How long a request may take to be answered, waits included, in seconds.
    pub timeout_seconds: u64,
    /// The largest body of a request, in bytes. Templates may be eight times as large.
    pub body_limit: usize,
}

impl Default for Http {
    fn default() -> Self {
        Self { timeout_seconds: 90, body_limit: 1024 * 1024 }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    pub kind: EdgeKind,
    /// A listener of its own; without it the edge is served by the API's listener.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
    /// Put before its documented paths.
    #[serde(default)]
    pub prefix: String,
    /// The template its tenants get; the edge's own when absent.
    #[serde(default)]
    pub template: Option<TemplateName>,
    /// The plan its tenants get; the default plan when absent.
    #[serde(default)]
    pub plan: Option<PlanName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeKind {
    Saasodoo,
    Tansucloud,
}

impl EdgeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Saasodoo => "saasodoo",
            Self::Tansucloud => "tansucloud",
        }
    }
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8400))
}
fn default_store_connections() -> u32 {
    20
}

type Sources = config::ConfigBuilder<config::builder::DefaultState>;

fn sources(file: Option<&Path>) -> Sources {
    let mut builder = config::Config::builder();
    if let Some(file) = file {
        builder = builder.add_source(config::File::from(file).format(config::FileFormat::Toml));
    }
    builder.add_source(config::Environment::with_prefix("FREEHOLD").prefix_separator("__").separator("__"))
}

/// The reader's text, which may quote a value: what looks like a password in a URL is left out.
fn unreadable(error: &config::ConfigError) -> BadSettings {
    let secret = regex::Regex::new(r"(://[^:/@\s]*):[^@\s]*@").expect("the pattern is valid");
    BadSettings::Read(secret.replace_all(&error.to_string(), "$1:•••@").into_owned())
}

#[derive(Debug, thiserror::Error)]
pub enum BadSettings {
    #[error("read settings: {0}")]
    Read(String),
    #[error("[[plan]] {0}")]
    Plans(String),
    #[error("[store] {0}")]
    Store(String),
    #[error("[platform] {0}")]
    Platforms(String),
    #[error("[[server_pool]] {0}")]
    ServerPools(String),
    #[error("[pooler] {0}")]
    Pooler(String),
    #[error("[placement] {0}")]
    Placement(String),
    #[error("[health] {0}")]
    Health(String),
    #[error("[stats] {0}")]
    Stats(String),
    #[error("[audit] {0}")]
    Audit(String),
    #[error("[http] {0}")]
    Http(String),
    #[error("[[edge]] {0}")]
    Edges(String),
}

impl Settings {
    /// The file when there is one, then the environment above it.
    pub fn load(file: Option<&Path>) -> Result<Self, BadSettings> {
        Self::read(sources(file))
    }

    /// The same, for `dev`: store and sealing key are its own, and whoever runs it may run programs here anyway.
    pub fn load_for_dev(file: Option<&Path>, store: SecretString, key_file: &Path) -> Result<Self, BadSettings> {
        let builder = sources(file)
            .set_default("templates.allow_commands", true)
            .and_then(|builder| builder.set_default("environment", "development"))
            .and_then(|builder| builder.set_override("store.url", store.expose_secret()))
            .and_then(|builder| builder.set_override("secrets.key_file", key_file.to_string_lossy().into_owned()));
        Self::read(builder.map_err(|error| unreadable(&error))?)
    }

    fn read(builder: Sources) -> Result<Self, BadSettings> {
        let read = builder.build().map_err(|error| unreadable(&error))?;
        let mut settings = read.try_deserialize::<Self>().map_err(|error| unreadable(&error))?;
        for pool in &mut settings.server_pools {
            pool.fill_in(|name| std::env::var(name).ok()).map_err(BadSettings::ServerPools)?;
        }
        settings.checked()
    }

    /// Fills in the built-in plan, and refuses plans and edges that contradict each other.
    pub fn checked(mut self) -> Result<Self, BadSettings> {
        if self.plans.is_empty() {
            self.plans.push(Plan::standard());
        }
        if self.plans.len() == 1 {
            self.plans[0].default = true;
        }
        let bad = |message: String| Err(BadSettings::Plans(message));
        match self.plans.iter().filter(|plan| plan.default).count() {
            1 => {}
            0 => return bad("none has `default = true`; a tenant created without a plan needs exactly one".into()),
            n => return bad(format!("{n} have `default = true`; exactly one may")),
        }
        for (index, plan) in self.plans.iter().enumerate() {
            if self.plans[..index].iter().any(|other| other.name == plan.name) {
                return bad(format!("{:?} is declared twice", plan.name.as_str()));
            }
            if plan.connection_limit == 0 || plan.pool_size == 0 {
                return bad(format!("{:?}: connection_limit and pool_size must be at least 1", plan.name.as_str()));
            }
            if plan.client_limit == Some(0) {
                return bad(format!(
                    "{:?}: client_limit must be at least 1; leave it out for none",
                    plan.name.as_str()
                ));
            }
            if plan.storage_quota == Some(0) {
                return bad(format!(
                    "{:?}: storage_quota must be at least 1 byte; leave it out for none",
                    plan.name.as_str()
                ));
            }
            if plan.server == freehold_api::server::ServerKind::System {
                return bad(format!(
                    "{:?}: tenants never live on system servers; use shared or dedicated",
                    plan.name.as_str()
                ));
            }
        }
        if self.store.connections < 5 {
            let few = self.store.connections;
            return Err(BadSettings::Store(format!(
                "connections must be at least 5, because creates have some of their own; it is {few}"
            )));
        }
        self.check_pools()?;
        self.pooler.check(&self.platform).map_err(BadSettings::Pooler)?;
        self.health.check().map_err(BadSettings::Health)?;
        self.stats.check().map_err(BadSettings::Stats)?;
        self.audit.check().map_err(BadSettings::Audit)?;
        if self.http.timeout_seconds < 65 {
            return Err(BadSettings::Http(
                "timeout_seconds must be at least 65: requests may wait 60 s for an operation".into(),
            ));
        }
        for (index, edge) in self.edges.iter().enumerate() {
            if !edge.prefix.is_empty() && (!edge.prefix.starts_with('/') || edge.prefix.ends_with('/')) {
                return Err(BadSettings::Edges(format!(
                    "prefix {:?} must begin with / and not end with one",
                    edge.prefix
                )));
            }
            if edge.kind == EdgeKind::Saasodoo && edge.plan.is_some() {
                let why = "plan: each request to saasodoo names one as its plan_tier; leave it out";
                return Err(BadSettings::Edges(why.into()));
            }
            if self.edges[..index].iter().any(|other| other.kind == edge.kind) {
                return Err(BadSettings::Edges(format!("{:?} is declared twice", edge.kind.as_str())));
            }
        }
        Ok(self)
    }

    fn check_pools(&self) -> Result<(), BadSettings> {
        self.platform.check().map_err(BadSettings::Platforms)?;
        self.placement.check().map_err(BadSettings::Placement)?;
        for (index, pool) in self.server_pools.iter().enumerate() {
            let name = pool.name.as_str();
            if self.server_pools[..index].iter().any(|other| other.name == pool.name) {
                return Err(BadSettings::ServerPools(format!("{name:?} is declared twice")));
            }
            let checked = pool.check().and_then(|()| self.platform.check_pool(pool));
            checked.map_err(|why| BadSettings::ServerPools(format!("{name:?}: {why}")))?;
        }
        self.platform.check_ports(&self.server_pools).map_err(BadSettings::Platforms)
    }

    /// Whether PgCat may be given tenants' passwords.
    pub fn takes_pgcat(&self) -> bool {
        self.environment == Environment::Development || self.compat.pgcat
    }

    pub fn server_pool(&self, name: &str) -> Option<&ServerPool> {
        self.server_pools.iter().find(|pool| pool.name.as_str() == name)
    }

    pub fn default_plan(&self) -> &Plan {
        self.plans.iter().find(|plan| plan.default).expect("checked() saw to it")
    }

    pub fn plan(&self, name: &str) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.name.as_str() == name)
    }

    /// How many databases of this template a shared server keeps ready.
    pub fn stock_of(&self, template: &str) -> u32 {
        let own = self.stock.templates.iter().find(|(name, _)| name.as_str() == template);
        own.map_or(self.stock.per_template, |(_, wanted)| *wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        let head = "[store]\nurl = \"postgres://x\"\n[secrets]\nkey_file = \"k\"\n";
        let settings: Settings = toml::from_str(&format!("{head}{text}")).map_err(|e| e.to_string())?;
        settings.checked().map_err(|e| e.to_string())
    }

    #[test]
    fn settings_have_a_plan_when_none_is_declared() {
        assert_eq!(parse("").unwrap().default_plan().name.as_str(), "standard");
    }

    #[test]
    fn settings_take_pgcat_in_development_or_where_it_is_asked_for() {
        let takes = |text: &str| {
            let text = format!("{text}\n[store]\nurl = \"postgres://x\"\n[secrets]\nkey_file = \"k\"\n");
            toml::from_str::<Settings>(&text).map(|settings| settings.takes_pgcat()).map_err(|error| error.to_string())
        };
        assert_eq!(takes(""), Ok(false), "production unless told");
        assert_eq!(takes("environment = \"production\""), Ok(false));
        assert_eq!(takes("environment = \"development\""), Ok(true));
        assert_eq!(takes("[compat]\npgcat = true"), Ok(true));
        assert!(takes("environment = \"prod\"").unwrap_err().contains("unknown variant"));
    }

    #[test]
    fn settings_refuse_what_contradicts_itself() {
        for (text, why) in [
            ("[[plan]]\nname = \"a\"\n[[plan]]\nname = \"b\"", "none has"),
            ("[[plan]]\nname = \"a\"\ndefault = true\n[[plan]]\nname = \"a\"", "twice"),
            ("[[plan]]\nname = \"a\"\nserver = \"system\"", "never live"),
            ("[[plan]]\nname = \"a\"\nconection_limit = 3", "unknown field"),
            ("[stok]\nper_template = 3", "unknown field"),
            ("[compat]\npgcta = true", "unknown field"),
            ("[[edge]]\nkind = \"tansucloud\"\nprefix = \"x\"", "begin with /"),
            ("[[edge]]\nkind = \"saasodoo\"\nplan = \"x\"", "plan_tier"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
