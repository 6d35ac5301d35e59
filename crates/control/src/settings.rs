//! What an operator declares, from a TOML file and the environment (`FREEHOLD__STORE__URL`).
//!
//! What each is for stands at its field, from which `docs/settings.md` and `docs/settings.schema.json` are made. Unknown keys
//! are errors. Absent: defaults for secrets; what is secret is read from a file or the environment.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use freehold_api::id::TemplateName;
use freehold_api::plan::Plan;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

mod audit;
mod compat;
mod edge;
mod effective;
mod keys;
mod layer;
mod load;
mod names;
mod platform;
mod pooler;
mod pooler_platform;
mod reference;
mod schema;
mod secret;
mod server_pool;
mod size;
mod unknown;
mod watch;

pub use audit::Audit;
pub use compat::{Compat, Environment, PGCAT_REFUSED};
pub use edge::{Edge, EdgeKind};
pub use effective::Effective;
#[cfg(test)]
pub(crate) use keys::names;
pub(crate) use load::listed;
pub use load::{BadSettings, Loaded, Sources};
pub use names::{Became, Translated};
pub use platform::{DockerPlatform, NomadPlatform, Platforms, ProcessPlatform};
pub use pooler::Pooler;
pub use pooler_platform::{PoolerPlatform, ServerTls};
pub use reference::{page, schema_text};
pub use secret::Secret;
pub use server_pool::{Placement, ServerPool, Servers, check_limits};
pub use size::{Ports, Size};
pub use watch::{Health, Stats};

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What is too dangerous for production is refused there; `freehold dev` is development unless told.
    #[serde(default)]
    pub environment: Environment,
    /// Where the API listens.
    #[serde(default = "default_listen")]
    #[schema(value_type = String, format = "address:port")]
    pub listen: SocketAddr,
    /// The control store; `freehold dev` has its own.
    pub store: Store,
    /// The sealing key, one way or the other; `freehold dev` has its own.
    #[serde(default)]
    pub secrets: Secrets,
    /// Databases made before anybody asks.
    #[serde(default)]
    pub stock: Stock,
    /// Deadlines and graces of tenants.
    #[serde(default)]
    pub tenants: Tenants,
    /// What [templates](templates.md) may do.
    #[serde(default)]
    pub templates: Templates,
    /// Durable work.
    #[serde(default)]
    pub operations: Operations,
    /// Limits of requests.
    #[serde(default)]
    pub http: Http,
    /// The [plans](plans.md) on offer. None: one built-in plan, `standard`.
    #[serde(default, rename = "plan")]
    pub plans: Vec<Plan>,
    /// Where servers of pools run: [platforms.md](platforms.md).
    #[serde(default)]
    pub platform: Platforms,
    /// Servers that Freehold makes by itself: [server-pools.md](server-pools.md).
    #[serde(default, rename = "server_pool")]
    pub server_pools: Vec<ServerPool>,
    /// All servers.
    #[serde(default)]
    pub servers: Servers,
    /// What the plans do not say of [poolers](poolers.md).
    #[serde(default)]
    pub pooler: Pooler,
    /// What is dangerous, and yet needed by whoever says so; and [names of other platforms](#names-of-other-platforms).
    #[serde(default)]
    pub compat: Compat,
    /// Which servers new tenants are put on.
    #[serde(default)]
    pub placement: Placement,
    /// How servers are [looked at](health.md).
    #[serde(default)]
    pub health: Health,
    /// How often is counted.
    #[serde(default)]
    pub stats: Stats,
    /// Where the [audit's chain](audit.md) is anchored, how long it is kept, and who else gets it.
    #[serde(default)]
    pub audit: Audit,
    /// Compatibility surfaces. Off unless declared; each kind once.
    #[serde(default, rename = "edge")]
    pub edges: Vec<Edge>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// `postgres://user:password@host:port/database`.
    pub url: Secret,
    /// Connections that this process may open to it.
    #[serde(default = "default_store_connections")]
    pub connections: u32,
    /// Whether `freehold serve` brings its schema to this version before anything else, as its `--migrate` does.
    #[serde(default)]
    pub migrate: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Secrets {
    /// The sealing key itself, base64 of 32 bytes: for where the environment is the only way.
    pub key: Option<Secret>,
    /// The file with the sealing key: base64 of 32 bytes, mode 0600.
    #[schema(value_type = Option<String>, format = "path")]
    pub key_file: Option<PathBuf>,
}

/// Where the sealing key is.
#[derive(Debug, Clone, Copy)]
pub enum SealingKey<'a> {
    File(&'a Path),
    Given(&'a Secret),
}

impl Secrets {
    pub fn sealing_key(&self) -> Result<SealingKey<'_>, String> {
        match (&self.key_file, &self.key) {
            (Some(file), None) => Ok(SealingKey::File(file)),
            (None, Some(key)) => Ok(SealingKey::Given(key)),
            (Some(_), Some(_)) => Err("key and key_file are both there; leave one out".into()),
            (None, None) => {
                Err("key_file is required: the file with the sealing key, base64 of 32 bytes, mode 0600".into())
            }
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Stock {
    /// Databases kept ready per template in use, on each shared server.
    pub per_template: u32,
    /// The same for one template.
    #[schema(value_type = BTreeMap<String, u32>)]
    pub templates: BTreeMap<TemplateName, u32>,
    /// Databases made at once on one server.
    pub concurrency: u32,
}

impl Default for Stock {
    fn default() -> Self {
        Self { per_template: 10, templates: BTreeMap::new(), concurrency: 2 }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tenants {
    /// For tenants that name none.
    #[schema(value_type = String, format = "name")]
    pub default_template: TemplateName,
    /// How long a deleted tenant can be undeleted.
    pub deletion_grace_seconds: u64,
    /// How long both credentials are in force after a [rotation](rotate.md).
    pub rotation_grace_seconds: u64,
    /// How long there is a way back after a [move](move.md).
    pub move_grace_seconds: u64,
    /// How long a create may take before it is undone.
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

#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Templates {
    /// Whether `[migrate] command` may run programs on this machine. Whoever may add templates may
    /// then run any. `freehold dev` allows it.
    pub allow_commands: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Operations {
    /// How long a process may be silent before another takes its operations.
    pub lease_seconds: u64,
    /// How long finished operations are kept.
    pub keep_days: u32,
}

impl Default for Operations {
    fn default() -> Self {
        Self { lease_seconds: 30, keep_days: 30 }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// How long a request may take to be answered, waits included; at least 65.
    pub timeout_seconds: u64,
    /// The largest body of a request. Templates may be eight times as large.
    #[schema(format = "bytes")]
    pub body_limit: usize,
}

impl Default for Http {
    fn default() -> Self {
        Self { timeout_seconds: 90, body_limit: 1024 * 1024 }
    }
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8400))
}
fn default_store_connections() -> u32 {
    20
}

impl Settings {
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
        self.compat.check().map_err(BadSettings::Compat)?;
        self.secrets.sealing_key().map_err(BadSettings::Secrets)?;
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
        edge::check(&self.edges).map_err(BadSettings::Edges)?;
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
