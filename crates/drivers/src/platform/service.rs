//! What is asked of a platform: one service with its data, said once and completely. The same text on every platform.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// A service as it shall be. Asking for it twice changes nothing; asking with an older generation is refused.
#[derive(Debug, Clone)]
pub struct Service {
    /// Unique on the platform: lowercase letters, digits and dashes, at most 50 characters.
    pub name: String,
    /// Raised with every change that is wanted (rule 8 of the design: effects refuse an older generation).
    pub generation: u64,
    pub program: Program,
    /// What containers are made from. None on `process`, which has programs on this machine.
    pub image: Option<Image>,
    pub limits: Limits,
    pub storage: Storage,
    pub network: Network,
    /// Where it may run, in the platform's own words (`node.labels.role==database`).
    pub constraints: Vec<String>,
    /// For people and for monitoring; Freehold's own come on top (`freehold.service`, `freehold.generation`).
    pub labels: BTreeMap<String, String>,
    pub restart: Restart,
    /// How long it may take to stop before it is killed.
    pub stop_grace: Duration,
}

#[derive(Debug, Clone)]
pub enum Program {
    Postgres(Postgres),
}

/// A PostgreSQL server. No password is in it: the server learns its admin's verifier only.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// 15 to 18.
    pub major: u16,
    /// Everything that goes into the settings file beyond where it listens and keeps its data.
    pub settings: BTreeMap<String, String>,
    pub hba: String,
    /// A superuser with this name and verifier is there afterwards.
    pub admin_role: String,
    pub admin_verifier: String,
    pub certificate_pem: String,
    pub certificate_key: SecretString,
    /// Whether a data directory may be made. False from the first success on: a server whose data is not there must
    /// say so, and not begin anew with none.
    pub initialise: bool,
}

#[derive(Debug, Clone)]
pub struct Image {
    /// `registry/name:tag` or, better, `…@sha256:…`.
    pub reference: String,
    pub credentials: Option<RegistryCredentials>,
}

#[derive(Debug, Clone)]
pub struct RegistryCredentials {
    pub username: String,
    pub password: SecretString,
}

/// None: whatever the machine has. Containers are held to them. `process` is not: a server there is tuned to its limits,
/// and nothing enforces them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Cores; 0.5 is half of one.
    pub cpus: Option<f64>,
    pub memory_bytes: Option<u64>,
    /// What the scheduler sets aside.
    pub reserved_cpus: Option<f64>,
    pub reserved_memory_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// The platform's own: a directory under its data directory, a named volume.
    Volume,
    /// `<path>/<service name>` on the node, made with this mode for the user PostgreSQL runs as.
    Directory { path: PathBuf, mode: u32 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// Reached as `host:port`, where `host` is how others reach the platform's node.
    Port { host: String, port: u16 },
    /// Reached by the service's name on port 5432, by whoever is on this network too.
    Overlay { network: String },
}

/// Restarts of what ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    pub attempts: u32,
    pub window: Duration,
    pub delay: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        Self { attempts: 3, window: Duration::from_secs(300), delay: Duration::from_secs(5) }
    }
}

/// What was last seen of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    pub phase: Phase,
    /// Of the definition that the platform has.
    pub generation: u64,
    pub host: String,
    pub port: u16,
    /// Where its data is.
    pub node: Option<String>,
    /// Of `Failing` and `Stopped`: what the platform or the program's last words say.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not there as a service; its data may be.
    Absent,
    /// On its way up, recovery included.
    Starting,
    Running,
    /// Because it was asked to.
    Stopped,
    /// Ended by itself, and the platform's attempts are used up, or it cannot be started; or it is there and does nothing,
    /// because somebody holds it (SIGSTOP, a pause): then it is `Running` again when he lets go, and nothing is restarted.
    Failing,
}
