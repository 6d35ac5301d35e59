//! The platform that the settings name for poolers, and what is asked of it for one of them.

use std::sync::Arc;

use freehold_api::pooler::PoolerPlatform as Kind;
use freehold_drivers::platform::docker::{DockerAgents, DockerAgentsOptions};
use freehold_drivers::platform::{Limits, PlatformError, PlatformErrorKind};
use freehold_drivers::pooler::agents::{
    AgentPlatform, Certificate, ManagedAgent, ProcessAgents, ProcessAgentsOptions, ToServers,
};
use freehold_durable::Failure;

use super::key;
use super::store::ServiceRow;
use crate::plane::Core;
use crate::settings::{DockerPlatform, PoolerPlatform, ServerTls, Settings};

pub type Agents = Option<Arc<dyn AgentPlatform>>;

/// Needs a tokio runtime. `instance` tells this Freehold's agents from others'.
pub fn of(settings: &Settings, instance: &str) -> Result<Agents, PlatformError> {
    let Some(platform) = &settings.pooler.platform else { return Ok(None) };
    Ok(Some(match platform.kind {
        Kind::Process => {
            let program = std::env::current_exe().map_err(|error| {
                PlatformError::because(PlatformErrorKind::Other, "find the program that agents are started with", error)
            })?;
            let options = ProcessAgentsOptions {
                data_dir: platform.data_dir.clone().unwrap_or_default(),
                program,
                pgbouncer: platform.pgbouncer.clone(),
                run_as: platform.run_as.clone(),
                instance: instance.to_owned(),
            };
            Arc::new(ProcessAgents::new(options)?)
        }
        Kind::Docker => {
            let docker = settings.platform.docker.as_ref().map(DockerPlatform::options).unwrap_or_default();
            let options = DockerAgentsOptions {
                image: platform.image.clone().unwrap_or_default(),
                network: platform.network.clone(),
                limits: Limits {
                    cpus: platform.cpus,
                    memory_bytes: platform.memory.map(|size| size.0),
                    ..Limits::default()
                },
            };
            Arc::new(DockerAgents::new(docker, options))
        }
    }))
}

impl Core {
    /// With the settings that declare it.
    pub fn agents(&self) -> Result<(&Arc<dyn AgentPlatform>, &PoolerPlatform), Failure> {
        self.agents.as_ref().zip(self.settings.pooler.platform.as_ref()).ok_or_else(|| {
            let detail = "there is no [pooler.platform] in the settings of this process, and a pooler runs there";
            // Another process may have it, or the next version of the settings.
            Failure::transient("platform_missing", detail)
        })
    }

    /// The platform, if it is the one that this pooler was begun on.
    pub async fn agents_of(&self, row: &ServiceRow) -> Result<(&Arc<dyn AgentPlatform>, &PoolerPlatform), Failure> {
        let (agents, settings) = self.agents()?;
        let here = agents.place().await.map_err(failure)?;
        if row.place.as_deref().is_some_and(|place| place == here) {
            return Ok((agents, settings));
        }
        let detail = format!("pooler {} was begun on another machine: a plane there goes on with it", row.id);
        Err(Failure::transient("platform_elsewhere", detail))
    }
}

/// As the settings want it now.
pub fn agent(core: &Core, settings: &PoolerPlatform, row: &ServiceRow) -> Result<ManagedAgent, Failure> {
    let tls = settings.certificate.clone().zip(settings.certificate_key.clone());
    let server_tls = match (settings.server_tls, &settings.server_ca) {
        (None | Some(ServerTls::Verified), Some(ca)) => ToServers::Verified { ca: ca.clone() },
        (Some(ServerTls::Offered), _) => ToServers::Offered,
        (None | Some(ServerTls::Off | ServerTls::Verified), _) => ToServers::Off,
    };
    Ok(ManagedAgent {
        name: row.id.clone(),
        plane: settings.plane_url(core.settings.listen),
        key: key::open(&core.sealer, row)?,
        host: row.host.clone(),
        port: u16::try_from(row.port).unwrap_or(0),
        client_tls: tls.map(|(certificate, key)| Certificate { certificate, key }),
        server_tls,
    })
}

/// What an error of the platform means to an operation.
pub fn failure(error: PlatformError) -> Failure {
    crate::server_pool::platforms::failure(error)
}
