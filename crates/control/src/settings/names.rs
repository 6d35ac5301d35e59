//! Names that other platforms gave their settings, under `[compat]`: each becomes a setting, or nobody reads it, and either is said.
//!
//! They stand in the file's `[compat]`, or, with `compat.variables`, in the environment. They are the weakest source: the file
//! and `FREEHOLD__…` go above them. Absent: names that are taken up silently.

use std::ffi::OsString;
use std::fmt;

use config::{Value, ValueKind};
use serde::Serialize;

use super::layer::{self, Layer};
use super::unknown;

pub(super) mod pools;

/// What became of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Translated {
    pub name: String,
    /// Where it stands: a file, or the environment.
    pub source: String,
    #[serde(flatten)]
    pub became: Became,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "became")]
pub enum Became {
    Setting {
        setting: String,
    },
    /// Somebody stronger says the same setting.
    Overridden {
        setting: String,
        by: String,
    },
    Nobody {
        because: String,
    },
}

impl fmt::Display for Translated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = unknown::short(&self.name);
        match &self.became {
            Became::Setting { setting } => write!(f, "{name} became {setting}"),
            Became::Overridden { setting, by } => write!(f, "{name} would be {setting}, which {by} says already"),
            Became::Nobody { because } => write!(f, "{name} is accepted, and read by nobody: {because}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Becomes {
    /// As it is.
    Setting(&'static str),
    Environment,
    /// Of the control store's URL.
    Store(Part),
    /// Of server pools that are silent about it.
    Pools(&'static str),
    Nobody(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Host,
    Port,
    Name,
    User,
    Password,
    SslMode,
}

const STORE_HAS_NO_SUCH: &str =
    "of the control store there are host, port, name, user, password and TLS mode, and store.connections";
const NO_TOKENS: &str = "Freehold makes and takes no JWT; its keys are made by `freehold key create`";
const VAULT: &str = "Freehold asks no vault; its sealing key is secrets.key_file or secrets.key";

/// The first that fits says it; `*` is any end.
const NAMES: [(&str, Becomes); 40] = [
    ("ENVIRONMENT", Becomes::Environment),
    ("AUTO_MIGRATE", Becomes::Setting("store.migrate")),
    ("NOMAD_ADDR", Becomes::Setting("platform.nomad.url")),
    ("NOMAD_TOKEN", Becomes::Setting("platform.nomad.token")),
    ("NOMAD_TOKEN_FILE", Becomes::Setting("platform.nomad.token_file")),
    ("INSTANCE_SECRET_ENCRYPTION_KEY", Becomes::Setting("secrets.key")),
    ("INSTANCE_SECRET_ENCRYPTION_KEY_FILE", Becomes::Setting("secrets.key_file")),
    ("DB_POOL_MAX_INSTANCES", Becomes::Pools("capacity")),
    ("DB_POOL_CPU_LIMIT", Becomes::Pools("cpus")),
    ("DB_POOL_MEMORY_LIMIT", Becomes::Pools("memory")),
    ("DB_POOL_*", Becomes::Nobody("a pool says everything else itself, in its [[server_pool]]")),
    ("DB_HOST", Becomes::Store(Part::Host)),
    ("DB_PORT", Becomes::Store(Part::Port)),
    ("DB_NAME", Becomes::Store(Part::Name)),
    ("DB_USER", Becomes::Store(Part::User)),
    ("DB_PASSWORD", Becomes::Store(Part::Password)),
    ("DB_PASSWORD_FILE", Becomes::Store(Part::Password)),
    ("DB_SSL_MODE", Becomes::Store(Part::SslMode)),
    ("DB_SSLMODE", Becomes::Store(Part::SslMode)),
    ("DB_*", Becomes::Nobody(STORE_HAS_NO_SUCH)),
    ("DATABASE__HOST", Becomes::Store(Part::Host)),
    ("DATABASE__PORT", Becomes::Store(Part::Port)),
    ("DATABASE__DATABASE", Becomes::Store(Part::Name)),
    ("DATABASE__NAME", Becomes::Store(Part::Name)),
    ("DATABASE__USERNAME", Becomes::Store(Part::User)),
    ("DATABASE__USER", Becomes::Store(Part::User)),
    ("DATABASE__PASSWORD", Becomes::Store(Part::Password)),
    ("DATABASE__PASSWORD_FILE", Becomes::Store(Part::Password)),
    ("DATABASE__SSL_MODE", Becomes::Store(Part::SslMode)),
    ("DATABASE__*", Becomes::Nobody(STORE_HAS_NO_SUCH)),
    (
        "PROVISION_DB_*",
        Becomes::Nobody(
            "servers that tenants live on are registered, with their admin: `freehold server add NAME --dsn-env VARIABLE`",
        ),
    ),
    ("VAULT__*", Becomes::Nobody(VAULT)),
    ("JWT_*", Becomes::Nobody(NO_TOKENS)),
    ("AUTH__*", Becomes::Nobody(NO_TOKENS)),
    (
        "SECRET_KEY",
        Becomes::Nobody("nothing is signed with it; what is sealed is sealed with secrets.key_file or secrets.key"),
    ),
    (
        "SECRET_KEY_FILE",
        Becomes::Nobody("nothing is signed with it; what is sealed is sealed with secrets.key_file or secrets.key"),
    ),
    ("CORS_ORIGIN", Becomes::Nobody("no answer carries CORS headers: browsers show them to no other origin")),
    ("RATE_LIMIT_*", Becomes::Nobody("requests are not counted here; limit them in front of the API")),
    ("PGCAT_ADMIN_*", Becomes::Nobody("poolers are added with their console's address: `freehold pooler add`")),
    ("VAULT_*", Becomes::Nobody(VAULT)),
];

/// Each name, and what becomes of it, for the reference.
pub(super) fn rows() -> Vec<(&'static str, String)> {
    let became = |becomes: &Becomes| match becomes {
        Becomes::Setting(setting) => format!("`{setting}`"),
        Becomes::Environment => "`environment`: staging is production, test is development".into(),
        Becomes::Store(part) => format!("`store.url`: its {}", part.as_str()),
        Becomes::Pools(setting) => format!("`server_pool.{setting}`, where a pool leaves it open"),
        Becomes::Nobody(because) => format!("read by nobody: {because}"),
    };
    NAMES.iter().map(|(name, becomes)| (*name, became(becomes))).collect()
}

impl Part {
    fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Port => "port",
            Self::Name => "database",
            Self::User => "user",
            Self::Password => "password",
            Self::SslMode => "sslmode",
        }
    }
}

fn of(name: &str) -> Option<Becomes> {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.len() > start.len() && name.starts_with(start),
        None => name == pattern,
    };
    NAMES.iter().find(|(pattern, _)| fits(pattern)).map(|(_, becomes)| *becomes)
}

/// A name that somebody said.
struct Said {
    name: String,
    source: String,
    text: String,
    becomes: Becomes,
}

pub(super) struct Names {
    said: Vec<Said>,
}

impl Names {
    /// Takes them out of the file's `[compat]`, and reads those of the environment where that is asked for.
    pub fn take(
        file: &mut Layer,
        variables: &[(OsString, OsString)],
        wants_variables: bool,
        problems: &mut Vec<String>,
    ) -> Self {
        let mut said = Vec::new();
        let in_environment = |name: &str| layer::variable(variables, name).is_some();
        if let Some(ValueKind::Table(compat)) = file.0.get_mut("compat").map(|value| &mut value.kind) {
            let theirs = |name: &String| name.starts_with(|first: char| first.is_ascii_uppercase());
            let names: Vec<String> = compat.keys().filter(|name| theirs(name)).cloned().collect();
            let known: Vec<String> = NAMES.iter().map(|(name, _)| (*name).to_owned()).collect();
            for name in names {
                let Some(value) = compat.remove(&name) else { continue };
                let source = value.origin().unwrap_or_default().to_owned();
                let Some(becomes) = of(&name) else {
                    if problems.len() >= unknown::TOLD_MAX {
                        problems.push(name);
                        continue;
                    }
                    let nearest = unknown::nearest(&name, &known);
                    let name = unknown::short(&name);
                    problems.push(format!("{source}: there is no compat.{name}; the nearest is compat.{nearest}"));
                    continue;
                };
                match value.into_string() {
                    // What the environment says goes above the file, as with all settings.
                    Ok(_) if wants_variables && in_environment(&name) => {}
                    Ok(text) => said.push(Said { name, source, text, becomes }),
                    Err(_) => problems.push(format!("{source}: compat.{name}: expected a text")),
                }
            }
        }
        for (name, text) in variables.iter().filter_map(|(name, text)| Some((name.to_str()?, text))) {
            let Some(becomes) = of(name) else { continue };
            // SaaSOdoo's are read without being asked for: they do nothing but for pools that are silent.
            if !wants_variables && !matches!(becomes, Becomes::Pools(_)) {
                continue;
            }
            match text.to_str() {
                Some(text) => {
                    // A password may end in a space.
                    let text = if becomes == Becomes::Store(Part::Password) { text } else { text.trim() };
                    let (name, text) = (name.to_owned(), text.to_owned());
                    said.push(Said { name, source: "the environment".into(), text, becomes });
                }
                None => problems.push(format!("{name} is not UTF-8")),
            }
        }
        said.sort_by(|one, other| one.name.cmp(&other.name));
        Self { said }
    }

    /// What they say, as settings. Each value's origin is the name. What somebody stronger says already need make no sense here.
    pub fn layer(&self, is_said: impl Fn(&str) -> bool, problems: &mut Vec<String>) -> Layer {
        let mut layer = Layer::default();
        for said in &self.said {
            let value = match said.becomes {
                Becomes::Setting(setting) => Some((setting, said.text.clone())),
                Becomes::Environment if is_said("environment") => None,
                Becomes::Environment => match environment(&said.text) {
                    Ok(environment) => Some(("environment", environment.to_owned())),
                    Err(why) => {
                        problems.push(format!("{}: {why}", said.name));
                        None
                    }
                },
                Becomes::Store(_) | Becomes::Pools(_) | Becomes::Nobody(_) => None,
            };
            if let Some((setting, text)) = value {
                put(&mut layer, setting, &said.name, text);
            }
        }
        if is_said("store.url") || is_said("store.url_file") {
            return layer;
        }
        match self.store_url() {
            Ok(Some((name, url))) => put(&mut layer, "store.url", &name, url),
            Ok(None) => {}
            Err(problem) => problems.push(problem),
        }
        layer
    }

    /// For pools that are silent.
    pub fn of_pools(&self, name: &str) -> Option<Value> {
        let said = self.said.iter().find(|said| said.name == name)?;
        Some(Value::new(Some(&said.name), said.text.clone()))
    }

    /// What they became, in the settings that all sources together make.
    pub fn became(&self, whole: &Layer) -> Vec<Translated> {
        let store = self.parts().first().map(|(_, said)| said.name.clone());
        let became = |said: &Said| match said.becomes {
            Becomes::Setting(setting) => taken(whole, setting, &said.name),
            Becomes::Environment => taken(whole, "environment", &said.name),
            Becomes::Store(_) => taken(whole, "store.url", store.as_deref().unwrap_or_default()),
            Becomes::Pools(setting) => pools::became(whole, setting, &said.name),
            Becomes::Nobody(because) => Became::Nobody { because: because.into() },
        };
        let translated =
            |said: &Said| Translated { name: said.name.clone(), source: said.source.clone(), became: became(said) };
        self.said.iter().map(translated).collect()
    }

    fn parts(&self) -> Vec<(Part, &Said)> {
        let part = |said: &'_ Said| match said.becomes {
            Becomes::Store(part) => Some(part),
            _ => None,
        };
        let mut parts: Vec<(Part, &Said)> = self.said.iter().filter_map(|said| Some((part(said)?, said))).collect();
        parts.sort_by_key(|(part, _)| *part);
        parts
    }

    /// With the name that stands for all of them.
    fn store_url(&self) -> Result<Option<(String, String)>, String> {
        let parts = self.parts();
        let Some((_, first)) = parts.first() else { return Ok(None) };
        if let Some(twice) = parts.windows(2).find(|two| two[0].0 == two[1].0) {
            return Err(format!(
                "{} and {} say the same of the control store; leave one out",
                twice[0].1.name, twice[1].1.name
            ));
        }
        let one = |wanted: Part| parts.iter().find(|(part, _)| *part == wanted).map(|(_, said)| *said);
        let required = |wanted: Part, what: &str| {
            let missing = || format!("{} is there, and nothing says the control store's {what}", first.name);
            one(wanted).map(|said| said.text.as_str()).filter(|text| !text.is_empty()).ok_or_else(missing)
        };
        let (host, name, user) =
            (required(Part::Host, "host")?, required(Part::Name, "database")?, required(Part::User, "user")?);
        let password = match one(Part::Password) {
            None => None,
            Some(said) if said.name.ends_with("_FILE") => {
                let read = layer::content(said.text.as_ref()).map_err(|why| format!("{}: {why}", said.name))?;
                Some(read.0)
            }
            Some(said) => Some(said.text.clone()),
        };
        let mut url = url::Url::parse("postgres://localhost/").expect("it is a URL");
        let bad = |part: &Said| format!("{}: it cannot be part of a URL", part.name);
        let is_socket = host.starts_with('/');
        if is_socket {
            url.query_pairs_mut().append_pair("host", host);
        } else {
            url.set_host(Some(host)).map_err(|_| bad(first))?;
        }
        if let Some(port) = one(Part::Port) {
            let number = port.text.parse().map_err(|_| format!("{} is {:?}; expected a port", port.name, port.text))?;
            url.set_port(Some(number)).map_err(|()| bad(port))?;
        }
        url.set_username(user).map_err(|()| bad(first))?;
        url.set_password(password.as_deref()).map_err(|()| bad(first))?;
        url.set_path(name);
        if let Some(mode) = one(Part::SslMode) {
            url.query_pairs_mut().append_pair("sslmode", &mode.text);
        }
        Ok(Some((first.name.clone(), url.into())))
    }
}

fn put(layer: &mut Layer, setting: &str, origin: &String, text: String) {
    let path: Vec<String> = setting.split('.').map(str::to_owned).collect();
    layer.put(&path, Value::new(Some(origin), text)).expect("these settings are values, and none is below another");
}

/// Under which of both names the environment goes.
fn environment(text: &str) -> Result<&'static str, String> {
    match text.to_ascii_lowercase().as_str() {
        // What is like production is guarded like it.
        "production" | "prod" | "staging" => Ok("production"),
        "development" | "dev" | "local" | "test" | "testing" => Ok("development"),
        _ => Err("expected production, staging, development or test".into()),
    }
}

fn taken(whole: &Layer, setting: &str, name: &str) -> Became {
    let origin = |setting: &str| {
        let path: Vec<&str> = setting.split('.').collect();
        whole.get(&path).and_then(Value::origin).map(str::to_owned)
    };
    // A secret may come from a file, and what names a file may find the secret itself.
    let others = [format!("{setting}_file"), setting.trim_end_matches("_file").to_owned()];
    let by = origin(setting).or_else(|| others.iter().find_map(|other| origin(other))).unwrap_or_default();
    let setting = setting.to_owned();
    match by == name {
        true => Became::Setting { setting },
        false => Became::Overridden { setting, by },
    }
}

#[cfg(test)]
mod tests;
