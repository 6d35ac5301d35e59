//! Where agents run that Freehold starts itself, each with its PgBouncer: as processes of this machine, or in containers
//! of one Engine.
//!
//! Absent: what a pooler serves. Its agent asks the plane for that, and runs on while the plane is dead.

mod process;
mod supervise;

use std::path::PathBuf;

use async_trait::async_trait;
use secrecy::SecretString;

use crate::platform::process::telling;
use crate::platform::{PlatformError, PlatformErrorKind};

pub use process::{ProcessAgents, ProcessAgentsOptions};

/// An agent as it shall be.
#[derive(Debug, Clone)]
pub struct ManagedAgent {
    /// The pooler's: lowercase letters, digits and dashes.
    pub name: String,
    /// How it reaches the plane.
    pub plane: String,
    /// An API key of scope `pooler`. Handed over in a file, never in an argument or in the environment.
    pub key: SecretString,
    /// Where tenants reach it. On loopback it listens there alone, else on every address.
    pub host: String,
    pub port: u16,
    pub client_tls: Option<Certificate>,
    pub server_tls: ToServers,
}

/// PEM files of the machine that Freehold runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToServers {
    Verified { ca: PathBuf },
    Offered,
    Off,
}

/// What was last seen of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentSeen {
    Absent,
    /// It is there, and on its way up or ending again and again.
    Down {
        reason: String,
    },
    /// `current`: as it shall be.
    Running {
        current: bool,
    },
}

#[async_trait]
pub trait AgentPlatform: Send + Sync {
    /// `process` or `docker`.
    fn kind(&self) -> &'static str;

    /// Which machine or engine this is: what was started on one is not looked for on another.
    async fn place(&self) -> Result<String, PlatformError>;

    /// The agent runs as said afterwards, and its PgBouncer listens. What runs as said already is left alone.
    async fn ensure(&self, agent: &ManagedAgent) -> Result<(), PlatformError>;

    async fn observe(&self, agent: &ManagedAgent) -> Result<AgentSeen, PlatformError>;

    /// Agent and PgBouncer end, and everything that they kept goes with them. What has the name and is somebody else's is
    /// left alone.
    async fn remove(&self, name: &str) -> Result<(), PlatformError>;

    /// The last lines that the agent wrote, for the person who asks why it does not start.
    async fn last_words(&self, name: &str) -> Result<String, PlatformError>;
}

/// Where the agent keeps what it is handed.
pub(crate) struct Handed {
    pub key: PathBuf,
    pub directory: PathBuf,
    pub client_tls: Option<Certificate>,
    pub server_tls: ToServers,
}

impl ManagedAgent {
    /// What `freehold` is started with. Nothing of it is secret.
    pub(crate) fn arguments(&self, listen: &str, handed: &Handed) -> Vec<String> {
        let path = |path: &PathBuf| path.display().to_string();
        let mut arguments: Vec<String> =
            ["pooler", "agent", "--plane", &self.plane, "--pooler", &self.name].map(str::to_owned).into();
        let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        add("--key-file", path(&handed.key));
        add("--directory", path(&handed.directory));
        add("--listen", format!("{listen}:{}", self.port));
        match &handed.client_tls {
            Some(Certificate { certificate, key }) => {
                add("--tls-certificate", path(certificate));
                add("--tls-key", path(key));
            }
            None => add("--tls", "off".into()),
        }
        match &handed.server_tls {
            ToServers::Verified { ca } => {
                add("--server-tls", "verified".into());
                add("--server-ca", path(ca));
            }
            ToServers::Offered => add("--server-tls", "offered".into()),
            ToServers::Off => add("--server-tls", "off".into()),
        }
        arguments
    }
}

/// What to listen on so that it is reached as `host`: a host on loopback is this machine's alone, every other name is
/// somebody else's way here.
pub(crate) fn listen_address(host: &str) -> &str {
    match host {
        "localhost" => "127.0.0.1",
        "::1" => "[::1]",
        host if host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()) => host,
        _ => "*",
    }
}

/// Of an agent's log: the lines that say why it ended.
pub(crate) fn telling_lines(log: &str) -> String {
    telling(log, &["error:", "ERROR", "WARN"])
}

/// What an agent that does not come up said, as a kind: another port may help, or what is missing has to be installed.
pub(crate) fn why_it_ended(said: &str) -> PlatformErrorKind {
    match said {
        said if said.contains("is taken") || said.contains("in use") => PlatformErrorKind::PortTaken,
        said if said.contains("no pgbouncer") => PlatformErrorKind::Unsupported,
        _ => PlatformErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_hold_no_secret_and_say_everything_else() {
        let agent = ManagedAgent {
            name: "pooler-1".into(),
            plane: "http://127.0.0.1:8400".into(),
            key: SecretString::from("fh_secret".to_owned()),
            host: "db.example".into(),
            port: 6432,
            client_tls: None,
            server_tls: ToServers::Offered,
        };
        let handed = Handed {
            key: "/p/key".into(),
            directory: "/p".into(),
            client_tls: None,
            server_tls: ToServers::Verified { ca: "/ca.pem".into() },
        };
        let said = agent.arguments(listen_address(&agent.host), &handed).join(" ");
        assert_eq!(
            said,
            "pooler agent --plane http://127.0.0.1:8400 --pooler pooler-1 --key-file /p/key --directory /p \
             --listen *:6432 --tls off --server-tls verified --server-ca /ca.pem"
        );
        assert!(!format!("{agent:?}").contains("fh_secret"));
    }

    #[test]
    fn loopback_is_listened_on_alone() {
        for (host, listen) in [("localhost", "127.0.0.1"), ("127.0.0.2", "127.0.0.2"), ("::1", "[::1]"), ("a.b", "*")] {
            assert_eq!(listen_address(host), listen);
        }
    }
}
