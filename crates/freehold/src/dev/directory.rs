//! What `freehold dev` keeps between two starts, in one directory: `servers` (one cluster each), `run` (their private
//! sockets), `pooler` (its files and its agent's), `secrets` (the sealing key, the agent's API key), `dev.toml` (which servers
//! there are, and all ports) and `client.toml` (how the command line gets in).

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use freehold_api::key::{CreateKey, Scope};
use freehold_control::audit::record::Actor;
use freehold_control::key::{create, store as keys};
use freehold_control::plane::Plane;
use serde::{Deserialize, Serialize};

use crate::prerequisite::Missing;

pub struct Directory {
    pub path: PathBuf,
}

/// Of the last start, because tenants' connection strings name the ports.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// Of `local-1`.
    pub postgres_port: Option<u16>,
    pub pooler_port: Option<u16>,
    /// The others, in order.
    #[serde(default, rename = "server", skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Other>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Other {
    pub name: String,
    pub port: u16,
    /// False: it was not asked for, and no tenant lives there.
    pub started: bool,
}

impl Directory {
    pub fn at(given: Option<PathBuf>) -> Result<Self, Missing> {
        let elsewhere = || usual(nix::unistd::geteuid().is_root(), |name| std::env::var_os(name));
        let nowhere = || Missing::new("HOME is not set: say where to keep everything with --data-dir DIR");
        let path = given.or_else(elsewhere).ok_or_else(nowhere)?;
        let broken =
            |error: std::io::Error| Missing::because(&format!("make the data directory {}", path.display()), &error);
        let path = std::path::absolute(&path).map_err(broken)?;
        std::fs::create_dir_all(path.join("secrets")).map_err(broken)?;
        std::fs::set_permissions(path.join("secrets"), std::fs::Permissions::from_mode(0o700)).map_err(broken)?;
        Ok(Self { path })
    }

    pub fn sockets(&self) -> PathBuf {
        self.path.join("run")
    }

    pub fn server(&self, name: &str) -> PathBuf {
        self.path.join("servers").join(name)
    }

    /// Unreadable is not forgotten: whoever edited it by hand wants to know.
    pub fn remembered(&self) -> Result<Remembered, Missing> {
        let file = self.path.join("dev.toml");
        match std::fs::read_to_string(&file) {
            Ok(text) => {
                toml::from_str(&text).map_err(|error| Missing::because(&format!("read {}", file.display()), &error))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Remembered::default()),
            Err(error) => Err(Missing::because(&format!("read {}", file.display()), &error)),
        }
    }

    /// Only by whoever runs the clusters: a start that is refused changes nothing for the next.
    pub fn remember(&self, servers: &Remembered) -> Result<(), Missing> {
        let file = self.path.join("dev.toml");
        let new = file.with_extension("new");
        let text = format!("# Written by freehold dev.\n{}", toml::to_string(servers)?);
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, &file))
            .map_err(|error| Missing::because(&format!("write {}", file.display()), &error))
    }
}

/// Where it is kept when nobody says: for root the machine's place, else the user's data home.
fn usual(is_root: bool, env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if is_root {
        return Some(PathBuf::from("/var/lib/freehold"));
    }
    let set = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    match (set("XDG_DATA_HOME"), set("HOME")) {
        (Some(data), _) => Some(data.join("freehold")),
        (None, Some(home)) => Some(home.join(".local/share/freehold")),
        (None, None) => None,
    }
}

/// A key for the command line, kept from start to start.
pub async fn context(dir: &Directory, plane: &Plane, listen: SocketAddr) -> Result<PathBuf, Missing> {
    #[derive(Deserialize)]
    struct Kept {
        api_key: String,
    }
    let path = dir.path.join("client.toml");
    let kept = std::fs::read_to_string(&path).ok().and_then(|text| toml::from_str::<Kept>(&text).ok());
    let key = key(plane, kept.map(|kept| kept.api_key), "dev", Scope::Admin).await?;
    freehold_cli::write_context(&path, &url(listen), &key)
        .map_err(|error| Missing::because(&format!("write {}", path.display()), &error))?;
    Ok(path)
}

/// A key for the pooler's agent, in a file for itself.
pub async fn pooler_key(dir: &Directory, plane: &Plane) -> Result<PathBuf, Missing> {
    let path = dir.path.join("secrets/pooler.key");
    let kept = std::fs::read_to_string(&path).ok().map(|text| text.trim().to_owned());
    let key = key(plane, kept.clone(), "dev's pooler", Scope::Pooler).await?;
    if kept.as_ref() != Some(&key) {
        let new = path.with_extension("new");
        let write = || -> std::io::Result<()> {
            let open = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new);
            writeln!(open?, "{key}")?;
            std::fs::rename(&new, &path)
        };
        write().map_err(|error| Missing::because(&format!("write {}", path.display()), &error))?;
    }
    Ok(path)
}

/// How something on this machine reaches the API.
pub fn url(listen: SocketAddr) -> String {
    let host = if listen.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], listen.port())) } else { listen };
    format!("http://{host}")
}

/// The one that was kept, where the store knows it; else a new one.
async fn key(plane: &Plane, kept: Option<String>, name: &str, scope: Scope) -> Result<String, Missing> {
    if let Some(kept) = kept
        && keys::find_by_token(&plane.store, &kept).await?.is_some()
    {
        return Ok(kept);
    }
    let body = CreateKey { name: name.into(), scopes: vec![scope], tenants: None, expires_at: None };
    let made = create::make(&plane.store, &Actor::system(), &body).await;
    Ok(made.map_err(|refused| Missing::new(refused.0.to_string()))?.key.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_word_it_is_the_machines_place_or_the_users() {
        let of = |is_root: bool, set: &[(&str, &str)]| {
            let found = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
            usual(is_root, found).map(|path| path.display().to_string())
        };
        let (home, data) = (("HOME", "/home/a"), ("XDG_DATA_HOME", "/data/a"));
        assert_eq!(of(true, &[home, data]).as_deref(), Some("/var/lib/freehold"));
        assert_eq!(of(false, &[home, data]).as_deref(), Some("/data/a/freehold"));
        assert_eq!(of(false, &[home]).as_deref(), Some("/home/a/.local/share/freehold"));
        assert_eq!(of(false, &[home, ("XDG_DATA_HOME", "")]).as_deref(), Some("/home/a/.local/share/freehold"));
        assert_eq!(of(false, &[("HOME", "")]), None);
    }
}
