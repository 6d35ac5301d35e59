//! What `freehold dev` keeps between two starts, in one directory: `servers` (one cluster each), `run` (their private
//! sockets), `secrets` (the sealing key), `dev.toml` (which servers there are, on which ports) and `client.toml` (how the
//! command line gets in).

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
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

/// The servers of the last start, because tenants' connection strings name their ports.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// Of `local-1`.
    pub postgres_port: Option<u16>,
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
        let path = match given {
            Some(path) => path,
            None if nix::unistd::geteuid().is_root() => PathBuf::from("/var/lib/freehold"),
            None => match (std::env::var_os("XDG_DATA_HOME"), std::env::var_os("HOME")) {
                (Some(data), _) if !data.is_empty() => PathBuf::from(data).join("freehold"),
                (_, Some(home)) => PathBuf::from(home).join(".local/share/freehold"),
                _ => return Err(Missing::new("HOME is not set: say where to keep everything with --data-dir DIR")),
            },
        };
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

/// A key for the command line, kept from start to start.
pub async fn context(dir: &Directory, plane: &Plane, listen: SocketAddr) -> Result<PathBuf, Missing> {
    #[derive(Deserialize)]
    struct Kept {
        api_key: String,
    }
    let path = dir.path.join("client.toml");
    let kept = std::fs::read_to_string(&path).ok().and_then(|text| toml::from_str::<Kept>(&text).ok());
    let known = match &kept {
        Some(kept) => keys::find_by_token(&plane.store, &kept.api_key).await?.is_some(),
        None => false,
    };
    let key = match kept {
        Some(kept) if known => kept.api_key,
        _ => {
            let body = CreateKey { name: "dev".into(), scopes: vec![Scope::Admin], tenants: None, expires_at: None };
            let made = create::make(&plane.store, &Actor::system(), &body)
                .await
                .map_err(|refused| Missing::new(refused.0.to_string()))?;
            made.key.unwrap_or_default()
        }
    };
    let host = if listen.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], listen.port())) } else { listen };
    freehold_cli::write_context(&path, &format!("http://{host}"), &key)
        .map_err(|error| Missing::because(&format!("write {}", path.display()), &error))?;
    Ok(path)
}
