//! Docker: containers of one Engine, or services of a Swarm. What is asked for ends as labels, records and secrets of the
//! engine itself, so that a Freehold that starts anew finds all of it there.
//!
//! The data comes first. *prepare*, a container that ends, makes directory and cluster and is the only one that may; the
//! server itself refuses to start where its data is not. In a Swarm that container's place is the server's from then on:
//! its node is recorded before the service exists, and stays recorded until the data is purged.
//!
//! Nothing without Freehold's labels is touched. Absent: images made here (`deploy/images`), networks, Swarms.

mod agents;
mod connection;
mod engine;
mod fault;
mod labels;
mod options;
mod swarm;

use async_trait::async_trait;

use super::{Observed, Platform, PlatformError, Service};
pub use agents::{DockerAgents, DockerAgentsOptions};
use connection::Connection;
pub use options::{DockerMode, DockerOptions};

pub struct Docker {
    connection: Connection,
}

impl Docker {
    /// Connects with the first request.
    pub fn new(options: DockerOptions) -> Self {
        Self { connection: Connection::new(options) }
    }
}

/// The same verb of whichever mode it is.
macro_rules! in_mode {
    ($self:ident, $verb:ident($($argument:expr),*)) => {
        match $self.connection.options.mode {
            DockerMode::Engine => engine::$verb(&$self.connection $(, $argument)*).await,
            DockerMode::Swarm => swarm::$verb(&$self.connection $(, $argument)*).await,
        }
    };
}

#[async_trait]
impl Platform for Docker {
    fn kind(&self) -> &'static str {
        "docker"
    }

    async fn ensure(&self, service: &Service) -> Result<(), PlatformError> {
        super::container::check(service)?;
        in_mode!(self, ensure(service))
    }

    async fn observe(&self, name: &str) -> Result<Observed, PlatformError> {
        in_mode!(self, observe(name))
    }

    async fn stop(&self, name: &str) -> Result<(), PlatformError> {
        in_mode!(self, stop(name))
    }

    async fn remove(&self, name: &str) -> Result<(), PlatformError> {
        in_mode!(self, remove(name))
    }

    async fn purge(&self, name: &str) -> Result<(), PlatformError> {
        in_mode!(self, purge(name))
    }

    async fn list(&self) -> Result<Vec<String>, PlatformError> {
        in_mode!(self, list())
    }

    async fn last_words(&self, name: &str) -> Result<String, PlatformError> {
        in_mode!(self, last_words(name))
    }
}
