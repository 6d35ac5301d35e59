use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the settings say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerOptions {
    pub mode: DockerMode,
    /// `unix:///path/of/the/socket`, or `https://host:2376`; of a Swarm, a manager's.
    pub host: String,
    /// Directory with `ca.pem`, `cert.pem` and `key.pem`; `https` needs it.
    pub certificates: Option<PathBuf>,
    /// Whose services these are, where several Freeholds share an engine. Each sees its own alone.
    pub instance: String,
    /// What published ports listen on. Of one Engine: a Swarm's nodes publish on all their addresses.
    pub bind_address: String,
    /// Where the engine keeps what servers print: `local` keeps five files of 20 MB each; another driver comes with its own
    /// options from the engine's settings.
    pub log_driver: String,
    /// Seconds between two health checks.
    pub health_interval_seconds: u32,
    /// How long directory and cluster may take to be made, the image's download included, in seconds.
    pub prepare_deadline_seconds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DockerMode {
    /// Containers of one Engine.
    #[default]
    Engine,
    /// Services of a Swarm.
    Swarm,
}

impl Default for DockerOptions {
    fn default() -> Self {
        Self {
            mode: DockerMode::Engine,
            host: "unix:///var/run/docker.sock".into(),
            certificates: None,
            instance: "freehold".into(),
            bind_address: "0.0.0.0".into(),
            log_driver: "local".into(),
            health_interval_seconds: 10,
            prepare_deadline_seconds: 300,
        }
    }
}
