//! Containers that end: *prepare* makes directory and cluster, *purge* removes a directory. Root inside, without a network,
//! and with the powers for that alone.

use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use tokio::time::{Instant, sleep};

use super::super::connection::Connection;
use super::super::fault::{fault, gone};
use super::super::labels::{self, Labels};
use super::{body, inspect, labels_of, log};
use crate::platform::{PlatformError, PlatformErrorKind, Service, container};

pub(super) async fn prepare(connection: &Connection, service: &Service) -> Result<(), PlatformError> {
    let mount = service.directory().map_or_else(|| body::data_mount(&service.name), |path| parent_mount(&path));
    let once = Once {
        verb: "prepare",
        name: &service.name,
        image: service.image_reference().to_owned(),
        environment: container::pairs(container::prepare_environment(service, &connection.options.instance)),
        mount,
        host: body::limited(&service.limits),
    };
    once.run(connection).await
}

/// Of a directory; a volume goes as a whole.
pub(super) async fn purge(connection: &Connection, name: &str, recorded: &Labels) -> Result<(), PlatformError> {
    let label = |label| labels::get(Some(recorded), label).unwrap_or_default().to_owned();
    let environment = container::pairs(container::purge_environment(name, &connection.options.instance, true));
    let once = Once {
        verb: "purge",
        name,
        image: label(labels::IMAGE),
        environment,
        mount: parent_mount(&label(labels::DIRECTORY)),
        host: HostConfig::default(),
    };
    once.run(connection).await
}

/// Unless it is somebody else's.
pub(super) async fn remove(connection: &Connection, name: &str, verb: &str) -> Result<(), PlatformError> {
    match inspect(connection, &format!("{name}.{verb}")).await? {
        Some(found) if labels::is_own(connection, name, labels::OF, labels_of(&found)) => {}
        _ => return Ok(()),
    }
    let options = RemoveContainerOptionsBuilder::new().force(true).build();
    let container = format!("{name}.{verb}");
    gone(
        connection.client().await?.remove_container(&container, Some(options)).await,
        &format!("container {container}"),
    )
}

/// Of the directory that servers' directories are in.
pub(in super::super) fn parent_mount(path: &str) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(path.to_owned()),
        target: Some(container::PARENT.into()),
        ..Default::default()
    }
}

struct Once<'a> {
    verb: &'static str,
    name: &'a str,
    image: String,
    environment: Vec<String>,
    mount: Mount,
    host: HostConfig,
}

impl Once<'_> {
    async fn run(self, connection: &Connection) -> Result<(), PlatformError> {
        let client = connection.client().await?;
        let Self { verb, name, .. } = self;
        let container = format!("{name}.{verb}");
        if let Some(found) = inspect(connection, &container).await? {
            labels::check_own(connection, "container", name, labels::OF, labels_of(&found))?;
        }
        // One that a killed Freehold left behind may be at work: it is ended, and its work begun again.
        remove(connection, name, verb).await?;
        let options = CreateContainerOptionsBuilder::new().name(&container).build();
        let body = ContainerCreateBody {
            image: Some(self.image),
            cmd: Some(vec![verb.into()]),
            user: Some("0:0".into()),
            env: Some(self.environment),
            labels: Some(labels::belonging(connection, name, verb)),
            host_config: Some(HostConfig {
                mounts: Some(vec![self.mount]),
                network_mode: Some("none".into()),
                cap_drop: Some(vec!["ALL".into()]),
                cap_add: Some(container::ROOT_CAPABILITIES.map(str::to_owned).into()),
                ..self.host
            }),
            ..Default::default()
        };
        let doing = format!("{verb} {name}");
        client.create_container(Some(options), body).await.map_err(|error| fault(&doing, error))?;
        let ended = async {
            client.start_container(&container, None).await.map_err(|error| fault(&doing, error))?;
            self::ended(connection, &container, verb, &doing).await
        }
        .await;
        remove(connection, name, verb).await?;
        ended
    }
}

async fn ended(connection: &Connection, container: &str, verb: &str, doing: &str) -> Result<(), PlatformError> {
    let client = connection.client().await?;
    let deadline = Instant::now() + Duration::from_secs(connection.options.prepare_deadline_seconds.into());
    loop {
        let found = client.inspect_container(container, None).await.map_err(|error| fault(doing, error))?;
        let state = found.state.unwrap_or_default();
        if state.running != Some(true) && state.finished_at.as_deref().is_some_and(|at| !at.starts_with("0001")) {
            let code = state.exit_code.unwrap_or(-1);
            if code == 0 || (code == container::FOREIGN && verb == "purge") {
                return Ok(());
            }
            let said = container::gist(&log(connection, container, 20).await?);
            let said = if state.oom_killed == Some(true) { format!("out of memory; {said}") } else { said };
            let kind = container::kind_of_exit(code);
            return Err(PlatformError::new(kind, format!("{doing}: ended with code {code}: {said}")));
        }
        if Instant::now() > deadline {
            return Err(PlatformError::new(
                PlatformErrorKind::Other,
                format!("{doing}: not done within {} s", connection.options.prepare_deadline_seconds),
            ));
        }
        sleep(Duration::from_millis(100)).await;
    }
}
