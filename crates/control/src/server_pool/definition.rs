//! What is asked of a platform for one server. Kept with the server: a pool's settings make new servers, and change none
//! that is there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use freehold_api::server::ServerLimits;
use freehold_drivers::server::managed::{self, BadSetting, Log, Rendered, Transport, Wanted};
use serde::{Deserialize, Serialize};

use crate::settings::ServerPool;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// Major version.
    pub postgres: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    #[serde(default)]
    pub limits: ServerLimits,
    /// What it is tuned for.
    pub capacity: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// PostgreSQL's, above those that limits and capacity give.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    pub tls: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Directory>,
    /// Reached by name on this network; by a port where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<String>,
    /// The platform's labels, for people and monitoring.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Directory {
    pub path: PathBuf,
    pub mode: u32,
}

impl Definition {
    /// Of a new server of the pool.
    pub fn of(pool: &ServerPool) -> Self {
        let storage = pool.storage.clone().zip(pool.storage_mode());
        Self {
            postgres: pool.postgres,
            image: pool.image.clone(),
            limits: pool.limits(),
            capacity: pool.slots(),
            disk_bytes: pool.disk.map(|size| size.0),
            settings: pool.settings.clone(),
            tls: pool.tls,
            storage: storage.map(|(path, mode)| Directory { path, mode }),
            network: pool.network.clone(),
            constraints: pool.constraints.clone(),
            labels: BTreeMap::from([
                ("freehold.pool".to_owned(), pool.name.to_string()),
                ("freehold.kind".to_owned(), pool.kind.as_str().to_owned()),
                ("freehold.capacity".to_owned(), pool.slots().to_string()),
                ("freehold.postgres".to_owned(), pool.postgres.to_string()),
            ]),
        }
    }

    pub fn transport(&self) -> Transport {
        if self.tls { Transport::Tls } else { Transport::Loopback }
    }

    /// What PostgreSQL is told.
    pub fn rendered(&self, log: Log) -> Result<Rendered, BadSetting> {
        let wanted = Wanted {
            major: self.postgres,
            memory_bytes: self.limits.memory_bytes,
            cpus: self.limits.cpus,
            disk_bytes: self.disk_bytes,
            databases: self.capacity,
            transport: self.transport(),
            log,
            extra: self.settings.clone(),
        };
        managed::render(&wanted)
    }
}
