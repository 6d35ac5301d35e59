//! Where a service's data is, kept in the labels of an empty config: the one object of a Swarm that every manager knows, that
//! outlives the service, and whose labels change under a version.

use bollard::models::{Config, ConfigSpec};
use bollard::query_parameters::{RemoveVolumeOptions, UpdateConfigOptionsBuilder};
use tokio::time::{Duration, sleep};

use super::super::connection::Connection;
use super::super::fault::{fault, is_missing, is_out_of_sequence};
use super::super::labels::{self, Labels};
use super::Turn;
use crate::platform::{PlatformError, Service};

pub(super) struct Home {
    pub node: String,
    pub generation: u64,
    pub labels: Labels,
    config: Config,
}

fn config_name(service: &str) -> String {
    format!("{service}.home")
}

impl Home {
    pub(super) async fn find(connection: &Connection, service: &str) -> Result<Option<Self>, PlatformError> {
        let name = config_name(service);
        let config = match connection.client().await?.inspect_config(&name).await {
            Ok(config) => config,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(fault(&format!("inspect config {name}"), error)),
        };
        let labels = config.spec.as_ref().and_then(|spec| spec.labels.clone()).unwrap_or_default();
        labels::check_own(connection, "config", service, labels::OF, Some(&labels))?;
        Ok(Some(Self {
            node: labels::get(Some(&labels), labels::NODE).unwrap_or_default().to_owned(),
            generation: labels::number(Some(&labels), labels::GENERATION).unwrap_or(0),
            labels,
            config,
        }))
    }

    pub(super) async fn save(
        connection: &Connection,
        service: &Service,
        node: &str,
        before: Option<Self>,
    ) -> Result<Turn, PlatformError> {
        let client = connection.client().await?;
        let name = config_name(&service.name);
        let doing = format!("record the node of {}", service.name);
        let mut wanted = labels::belonging(connection, &service.name, "record");
        wanted.extend(labels::place(service));
        wanted.insert(labels::NODE.into(), node.to_owned());
        wanted.insert(labels::GENERATION.into(), service.generation.to_string());
        let Some(before) = before else {
            // Swarm keeps nothing that is empty: a line break.
            let spec =
                ConfigSpec { name: Some(name), labels: Some(wanted), data: Some("Cg==".into()), ..Default::default() };
            return match client.create_config(spec).await {
                Ok(_) => Ok(Turn::Done),
                Err(bollard::errors::Error::DockerResponseServerError { status_code: 409, .. }) => Ok(Turn::Again),
                Err(error) => Err(fault(&doing, error)),
            };
        };
        if before.labels == wanted {
            return Ok(Turn::Done);
        }
        let version = before.config.version.and_then(|version| version.index).unwrap_or(0);
        let mut spec = before.config.spec.unwrap_or_default();
        spec.labels = Some(wanted);
        let options = UpdateConfigOptionsBuilder::new().version(version.try_into().unwrap_or(i64::MAX)).build();
        match client.update_config(&name, spec, options).await {
            Ok(()) => Ok(Turn::Done),
            Err(error) if is_out_of_sequence(&error) || is_missing(&error) => Ok(Turn::Again),
            Err(error) => Err(fault(&doing, error)),
        }
    }

    pub(super) async fn forget(self, connection: &Connection) -> Result<(), PlatformError> {
        let id = self.config.id.unwrap_or_default();
        match connection.client().await?.delete_config(&id).await {
            Ok(()) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(fault(&format!("remove config {id}"), error)),
        }
    }
}

/// The node that answers here; empty outside of Swarms.
pub(super) async fn this_node(connection: &Connection) -> Result<String, PlatformError> {
    let info = connection.client().await?.info().await.map_err(|error| fault("ask the engine what it is", error))?;
    Ok(info.swarm.and_then(|swarm| swarm.node_id).unwrap_or_default())
}

/// Of a volume on another node only the content goes: its engine does not answer here.
pub(super) async fn remove_volume(connection: &Connection, name: &str, home: &Home) -> Result<(), PlatformError> {
    if labels::get(Some(&home.labels), labels::DIRECTORY).is_some() || this_node(connection).await? != home.node {
        return Ok(());
    }
    let client = connection.client().await?;
    let doing = format!("remove volume {name}");
    match client.inspect_volume(name).await {
        Err(error) if is_missing(&error) => return Ok(()),
        Err(error) => return Err(fault(&doing, error)),
        Ok(volume) => labels::check_own(connection, "volume", name, labels::OF, Some(&volume.labels))?,
    }
    let mut turns = 0;
    loop {
        match client.remove_volume(name, None::<RemoveVolumeOptions>).await {
            Ok(()) => return Ok(()),
            Err(error) if is_missing(&error) => return Ok(()),
            // Swarm takes the containers of a removed service away in its own time.
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 409, .. }) if turns < 150 => {
                turns += 1
            }
            Err(error) => return Err(fault(&doing, error)),
        }
        sleep(Duration::from_millis(200)).await;
    }
}
