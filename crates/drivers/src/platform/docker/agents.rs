//! Agents of poolers in containers of one Engine: agent and PgBouncer in each, restarted by the Engine.
//!
//! The key and certificates are put into the container's own layer: neither its definition nor its environment has them.
//! What the agent keeps is in a volume, so that another container of it goes on where that one was.

use std::time::Duration;

use async_trait::async_trait;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, HealthConfig, HealthStatusEnum,
    HostConfig, Mount, MountType, PortBinding, RestartPolicy, RestartPolicyNameEnum, VolumeCreateRequest,
};
use bollard::query_parameters::{RemoveContainerOptionsBuilder, RemoveVolumeOptions};
use secrecy::ExposeSecret;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use super::connection::Connection;
use super::fault::{fault, gone, is_missing};
use super::labels::{self, Labels};
use super::{DockerOptions, engine};
use crate::platform::container::{self, File};
use crate::platform::{Image, Limits, PlatformError, PlatformErrorKind};
use crate::pooler::agents::{
    AgentPlatform, AgentSeen, Certificate, Handed, ManagedAgent, ToServers, listen_address, telling_lines, why_it_ended,
};

/// On containers: the pooler's name.
const POOLER: &str = "freehold.pooler";
const HOME: &str = "/var/lib/freehold-pooler";
/// The network of the Engine's own machine.
const HOST: &str = "host";
/// How long an agent and its PgBouncer may take until they listen.
const READY: Duration = Duration::from_secs(60);
/// Transactions end, pauses before that.
const GRACE: i64 = 20;

#[derive(Debug, Clone)]
pub struct DockerAgentsOptions {
    pub image: String,
    /// One of the Engine's, `host`, or its default when absent.
    pub network: Option<String>,
    pub limits: Limits,
}

pub struct DockerAgents {
    connection: Connection,
    options: DockerAgentsOptions,
    /// The engine's id.
    place: OnceCell<String>,
}

impl DockerAgents {
    /// Connects with the first request. The Engine is not one of a Swarm's: its containers are this machine's.
    pub fn new(docker: DockerOptions, options: DockerAgentsOptions) -> Self {
        Self { connection: Connection::new(docker), options, place: OnceCell::new() }
    }
}

#[async_trait]
impl AgentPlatform for DockerAgents {
    fn kind(&self) -> &'static str {
        "docker"
    }

    async fn place(&self) -> Result<String, PlatformError> {
        let asked = self.place.get_or_try_init(|| async {
            let info = self.connection.client().await?.info().await;
            let info = info.map_err(|error| fault("ask the engine who it is", error))?;
            Ok(format!("docker:{}", info.id.unwrap_or_default()))
        });
        asked.await.cloned()
    }

    async fn ensure(&self, agent: &ManagedAgent) -> Result<(), PlatformError> {
        let name = &agent.name;
        let files = files(agent)?;
        let definition = self.definition(agent, &files);
        match self.find(name).await? {
            Some(found) if is(&found, &definition) && engine::began(&found) => {
                engine::up(&self.connection, name, &found).await?;
            }
            // One that never began may lack its files: whoever made it was interrupted before they were in it.
            found => {
                let image = Image { reference: self.options.image.clone(), credentials: None };
                engine::ensure_image(&self.connection, &image, "deploy/images/pooler/build").await?;
                if let Some(found) = found {
                    self.take_away(name, &found).await?;
                }
                self.volume(name).await?;
                engine::begin(&self.connection, name, self.body(agent, &definition), &files).await?;
            }
        }
        self.until_it_listens(name).await
    }

    async fn observe(&self, agent: &ManagedAgent) -> Result<AgentSeen, PlatformError> {
        let Some(found) = self.own(&agent.name).await? else { return Ok(AgentSeen::Absent) };
        let is_current = |files: Vec<File>| is(&found, &self.definition(agent, &files));
        Ok(match engine::status(&found) {
            Some(ContainerStateStatusEnum::RUNNING) => {
                AgentSeen::Running { current: files(agent).is_ok_and(is_current) }
            }
            Some(ContainerStateStatusEnum::RESTARTING) => {
                AgentSeen::Down { reason: self.last_words(&agent.name).await? }
            }
            Some(ContainerStateStatusEnum::PAUSED) => AgentSeen::Down { reason: engine::paused(&agent.name) },
            // Stopped by somebody, or never begun: the Engine leaves it so.
            _ => AgentSeen::Absent,
        })
    }

    async fn remove(&self, name: &str) -> Result<(), PlatformError> {
        if let Some(found) = self.own(name).await? {
            self.take_away(name, &found).await?;
        }
        let client = self.connection.client().await?;
        match client.inspect_volume(name).await {
            Ok(volume) if labels::is_own(&self.connection, name, labels::OF, Some(&volume.labels)) => {
                let removed = client.remove_volume(name, None::<RemoveVolumeOptions>).await;
                gone(removed, &format!("volume {name}"))
            }
            Ok(_) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(fault(&format!("inspect volume {name}"), error)),
        }
    }

    async fn last_words(&self, name: &str) -> Result<String, PlatformError> {
        match self.own(name).await? {
            Some(_) => Ok(telling_lines(&engine::log(&self.connection, name, 20).await?)),
            None => Ok(String::new()),
        }
    }
}

impl DockerAgents {
    /// One of that name that is somebody else's is an error.
    async fn find(&self, name: &str) -> Result<Option<ContainerInspectResponse>, PlatformError> {
        let found = engine::inspect(&self.connection, name).await?;
        if let Some(found) = &found {
            labels::check_own(&self.connection, "container", name, POOLER, engine::labels_of(found))?;
        }
        Ok(found)
    }

    /// One of that name that is somebody else's is not there.
    async fn own(&self, name: &str) -> Result<Option<ContainerInspectResponse>, PlatformError> {
        let found = engine::inspect(&self.connection, name).await?;
        Ok(found.filter(|found| labels::is_own(&self.connection, name, POOLER, engine::labels_of(found))))
    }

    async fn take_away(&self, name: &str, found: &ContainerInspectResponse) -> Result<(), PlatformError> {
        engine::halt(&self.connection, name, found).await?;
        let options = RemoveContainerOptionsBuilder::new().force(true).build();
        let removed = self.connection.client().await?.remove_container(name, Some(options)).await;
        gone(removed, &format!("container {name}"))
    }

    async fn volume(&self, name: &str) -> Result<(), PlatformError> {
        let client = self.connection.client().await?;
        match client.inspect_volume(name).await {
            Ok(volume) => labels::check_own(&self.connection, "volume", name, labels::OF, Some(&volume.labels)),
            Err(error) if is_missing(&error) => {
                let labels = Some(labels::belonging(&self.connection, name, "pooler"));
                let request = VolumeCreateRequest { name: Some(name.to_owned()), labels, ..Default::default() };
                let made = client.create_volume(request).await;
                made.map(drop).map_err(|error| fault(&format!("create volume {name}"), error))
            }
            Err(error) => Err(fault(&format!("inspect volume {name}"), error)),
        }
    }

    fn is_on_host(&self) -> bool {
        self.options.network.as_deref() == Some(HOST)
    }

    fn arguments(&self, agent: &ManagedAgent) -> Vec<String> {
        let path = |name: &str| format!("{}/{name}", container::FILES).into();
        let handed = Handed {
            key: path("key"),
            directory: HOME.into(),
            client_tls: agent
                .client_tls
                .as_ref()
                .map(|_| Certificate { certificate: path("client.crt"), key: path("client.key") }),
            server_tls: match &agent.server_tls {
                ToServers::Verified { .. } => ToServers::Verified { ca: path("servers.pem") },
                other => other.clone(),
            },
        };
        // Its port is published where it shall be reached; on the machine's own network it is there by itself.
        let listen = if self.is_on_host() { listen_address(&agent.host) } else { "*" };
        let mut arguments = agent.arguments(listen, &handed);
        arguments.push("--stop-with-me".into());
        arguments
    }

    fn definition(&self, agent: &ManagedAgent, files: &[File]) -> String {
        let DockerOptions { bind_address, log_driver, health_interval_seconds, .. } = &self.connection.options;
        let mut parts = vec![
            format!("{:?}", self.options),
            format!("{bind_address} {log_driver} {health_interval_seconds}"),
            self.arguments(agent).join("\n"),
        ];
        parts.extend(files.iter().map(|file| container::hex(&[file.name, file.text.expose_secret()], 32)));
        container::hex(&parts.iter().map(String::as_str).collect::<Vec<_>>(), 32)
    }

    fn body(&self, agent: &ManagedAgent, definition: &str) -> ContainerCreateBody {
        let (own, options) = (&self.connection.options, &self.options);
        let port = format!("{}/tcp", agent.port);
        let mut host = HostConfig {
            mounts: Some(vec![Mount {
                typ: Some(MountType::VOLUME),
                source: Some(agent.name.clone()),
                target: Some(HOME.into()),
                ..Default::default()
            }]),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
                ..Default::default()
            }),
            cap_drop: Some(vec!["ALL".into()]),
            security_opt: Some(vec!["no-new-privileges".into()]),
            log_config: engine::log_config(&own.log_driver),
            network_mode: options.network.clone(),
            ..engine::limited(&options.limits)
        };
        if !self.is_on_host() {
            let binding =
                PortBinding { host_ip: Some(own.bind_address.clone()), host_port: Some(agent.port.to_string()) };
            host.port_bindings = Some([(port.clone(), Some(vec![binding]))].into());
            // The plane may be on the Engine's own machine.
            host.extra_hosts = Some(vec!["host.docker.internal:host-gateway".into()]);
        }
        let labels: Labels = [
            (POOLER, agent.name.as_str()),
            (labels::INSTANCE, &own.instance),
            (labels::DEFINITION, definition),
            (labels::HOST, &agent.host),
            (labels::PORT, &agent.port.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let seconds = |seconds: u32| Some(i64::from(seconds) * 1_000_000_000);
        ContainerCreateBody {
            image: Some(options.image.clone()),
            cmd: Some(self.arguments(agent)),
            labels: Some(labels),
            exposed_ports: (!self.is_on_host()).then(|| vec![port]),
            healthcheck: Some(HealthConfig {
                test: Some(vec!["CMD".into(), "freehold-pooler-health".into(), agent.port.to_string()]),
                interval: seconds(own.health_interval_seconds.max(1)),
                timeout: seconds(5),
                retries: Some(3),
                ..Default::default()
            }),
            stop_timeout: Some(GRACE),
            host_config: Some(host),
            ..Default::default()
        }
    }

    async fn until_it_listens(&self, name: &str) -> Result<(), PlatformError> {
        let deadline = Instant::now() + READY;
        loop {
            let found = self.find(name).await?;
            let state = found.and_then(|found| found.state).unwrap_or_default();
            let health = state.health.as_ref().and_then(|health| health.status);
            match state.status {
                Some(ContainerStateStatusEnum::RUNNING) if health == Some(HealthStatusEnum::HEALTHY) => return Ok(()),
                Some(ContainerStateStatusEnum::RUNNING) if Instant::now() < deadline => {}
                _ => {
                    let said = self.last_words(name).await?;
                    let message = format!("container {name} does not come up: {said}");
                    return Err(PlatformError::new(why_it_ended(&said), message));
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

fn is(found: &ContainerInspectResponse, definition: &str) -> bool {
    labels::get(engine::labels_of(found), labels::DEFINITION) == Some(definition)
}

/// What the agent is handed, of this machine's files.
fn files(agent: &ManagedAgent) -> Result<Vec<File>, PlatformError> {
    let read = |name: &'static str, path: &std::path::Path| match std::fs::read_to_string(path) {
        Ok(text) => Ok(File { name, text: text.into(), is_secret: true }),
        Err(error) => {
            let message = format!("read {}: {error}", path.display());
            Err(PlatformError::because(PlatformErrorKind::Storage, message, error))
        }
    };
    let mut files = vec![File { name: "key", text: agent.key.clone(), is_secret: true }];
    if let Some(tls) = &agent.client_tls {
        files.push(read("client.crt", &tls.certificate)?);
        files.push(read("client.key", &tls.key)?);
    }
    if let ToServers::Verified { ca } = &agent.server_tls {
        files.push(read("servers.pem", ca)?);
    }
    Ok(files)
}
