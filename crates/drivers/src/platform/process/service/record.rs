//! What a service shall be and what became of it, kept beside its data: the next Freehold reads it and goes on.
//! No password and no private key is in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::platform::{Network, PlatformError, PlatformErrorKind, Postgres, Program, Service, Storage};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub generation: u64,
    pub desired: Desired,
    pub definition: Definition,
    /// There was a data directory: from then on none is made.
    pub has_data: bool,
    /// Its storage's marker has it too. None: of a version that wrote no markers.
    #[serde(default)]
    pub nonce: Option<String>,
    /// What the postmaster that was started last goes by.
    pub running: Option<Prints>,
    /// The admin as the server was told last.
    pub admin: Option<Admin>,
    /// When it was started again because it had ended by itself, and when it was found ended. By the machine's uptime: a
    /// clock that every process here shares and nobody sets.
    pub restarts: Vec<Duration>,
    pub ended: Option<Duration>,
    /// Why no more attempts are made.
    pub failing: Option<String>,
    /// Why it is not yet as it shall be.
    pub trouble: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Desired {
    Running,
    Stopped,
    Removed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Definition {
    pub major: u16,
    pub settings: BTreeMap<String, String>,
    pub hba: String,
    pub admin: Admin,
    /// Of certificate and key.
    pub certificate_print: String,
    pub host: String,
    pub port: u16,
    /// `<path>/<service>` where an operator says so. None: beside this record.
    pub storage: Option<PathBuf>,
    pub restart_attempts: u32,
    pub restart_window: Duration,
    pub restart_delay: Duration,
    pub stop_grace: Duration,
    /// For people who look here.
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Admin {
    pub role: String,
    pub verifier: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prints {
    /// What takes a restart.
    pub restart: String,
    /// What takes a reload.
    pub reload: String,
}

impl Definition {
    pub(super) fn of(service: &Service) -> Result<Self, PlatformError> {
        let Program::Postgres(postgres) = &service.program;
        let Network::Port { host, port } = &service.network else {
            return Err(PlatformError::new(
                PlatformErrorKind::Unsupported,
                "processes have ports on this machine and no overlay network: give the service a host and a port",
            ));
        };
        Ok(Self {
            major: postgres.major,
            settings: postgres.settings.clone(),
            hba: postgres.hba.clone(),
            admin: Admin { role: postgres.admin_role.clone(), verifier: postgres.admin_verifier.clone() },
            certificate_print: certificate_print(postgres),
            host: host.clone(),
            port: *port,
            storage: match &service.storage {
                Storage::Volume => None,
                Storage::Directory { path, .. } => Some(path.join(&service.name)),
            },
            restart_attempts: service.restart.attempts,
            restart_window: service.restart.window,
            restart_delay: service.restart.delay,
            stop_grace: service.stop_grace,
            labels: service.labels.clone(),
        })
    }

    /// A server whose print differs is restarted by whichever Freehold comes next: what is in them stays as it is.
    pub(super) fn prints(&self) -> Prints {
        Prints {
            restart: print(&(self.major, &self.settings, listen_addresses(&self.host), self.port, &self.storage)),
            reload: print(&(&self.hba, &self.certificate_print)),
        }
    }

    pub(super) fn wants_tls(&self) -> bool {
        self.settings.get("ssl").is_some_and(|value| ["on", "true", "yes", "1"].contains(&value.as_str()))
    }
}

/// A host on loopback is reached from this machine alone; every other name is somebody else's way here.
pub(super) fn listen_addresses(host: &str) -> &'static str {
    match host {
        "localhost" => "127.0.0.1",
        "::1" => "::1",
        host if host.starts_with("127.") => "127.0.0.1",
        _ => "*",
    }
}

fn certificate_print(postgres: &Postgres) -> String {
    use secrecy::ExposeSecret;
    let mut hash = Sha256::new();
    hash.update(postgres.certificate_pem.as_bytes());
    hash.update([0]);
    hash.update(postgres.certificate_key.expose_secret().as_bytes());
    crate::hex(&hash.finalize())
}

fn print(what: &impl Serialize) -> String {
    crate::hex(&Sha256::digest(serde_json::to_vec(what).unwrap_or_default()))
}

impl Record {
    pub(super) fn new(generation: u64, definition: Definition) -> Self {
        Self {
            generation,
            desired: Desired::Running,
            definition,
            has_data: false,
            nonce: None,
            running: None,
            admin: None,
            restarts: Vec::new(),
            ended: None,
            failing: None,
            trouble: None,
        }
    }

    /// None: there is no such service.
    pub(super) fn read(file: &Path) -> Result<Option<Self>, PlatformError> {
        let text = match fs::read(file) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(unreadable(file, error)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| unreadable(file, error))
    }
}

fn unreadable(file: &Path, error: impl std::error::Error + Send + Sync + 'static) -> PlatformError {
    PlatformError::because(
        PlatformErrorKind::Storage,
        format!("the record of a service, {}, cannot be read: {error}", file.display()),
        error,
    )
}

/// How long this machine has been up.
pub(super) fn uptime() -> Duration {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
    Duration::from_secs_f64(seconds.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_are_those_of_earlier_versions() {
        let definition = Definition {
            major: 15,
            settings: BTreeMap::from([("work_mem".into(), "4MB".into())]),
            hba: "host all all all reject\n".into(),
            admin: Admin { role: "a".into(), verifier: "v".into() },
            certificate_print: "c".into(),
            host: "db-1".into(),
            port: 5433,
            storage: None,
            restart_attempts: 3,
            restart_window: Duration::from_secs(300),
            restart_delay: Duration::from_secs(5),
            stop_grace: Duration::from_secs(120),
            labels: BTreeMap::new(),
        };
        let prints = definition.prints();
        assert_eq!((&prints.restart[..16], &prints.reload[..16]), ("15db67c69606c65c", "0e970e282cbd4506"));
        let moved = Definition { storage: Some("/mnt".into()), ..definition.clone() };
        assert_ne!(moved.prints().restart, prints.restart);
        let rotated = Definition { admin: Admin { role: "a".into(), verifier: "w".into() }, ..definition };
        assert_eq!(rotated.prints(), prints, "a verifier is a statement, no restart");
    }
}
