//! Where a service's data is, kept in the labels of an empty config: the one object of a Swarm that every manager knows, that
//! outlives the service, and whose labels change under a version.

use bollard::models::{Config, ConfigSpec};
use bollard::query_parameters::{RemoveVolumeOptions, UpdateConfigOptionsBuilder};
use tokio::time::{Duration, sleep};

use super::super::connection::Connection;
use super::super::fault::{fault, gone, is_missing, is_out_of_sequence};
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
    /// One that is somebody else's is an error.
    pub(super) async fn find(connection: &Connection, service: &str) -> Result<Option<Self>, PlatformError> {
        let found = Self::inspect(connection, service).await?;
        if let Some(home) = &found {
            labels::check_own(connection, "config", service, labels::OF, Some(&home.labels))?;
        }
        Ok(found)
    }

    /// One that is somebody else's is not there.
    pub(super) async fn own(connection: &Connection, service: &str) -> Result<Option<Self>, PlatformError> {
        let found = Self::inspect(connection, service).await?;
        Ok(found.filter(|home| labels::is_own(connection, service, labels::OF, Some(&home.labels))))
    }

    async fn inspect(connection: &Connection, service: &str) -> Result<Option<Self>, PlatformError> {
        let name = config_name(service);
        let config = match connection.client().await?.inspect_config(&name).await {
            Ok(config) => config,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(fault(&format!("inspect config {name}"), error)),
        };
        let labels = config.spec.as_ref().and_then(|spec| spec.labels.clone()).unwrap_or_default();
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
        let mut wanted = labels::belonging(connection, &service.name, "record");
        wanted.extend(facts(service));
        wanted.insert(labels::NODE.into(), node.to_owned());
        let Some(before) = before else { return create(connection, &service.name, wanted).await };
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
            Err(error) => Err(fault(&doing(&service.name), error)),
        }
    }

    pub(super) async fn forget(self, connection: &Connection) -> Result<(), PlatformError> {
        let id = self.config.id.unwrap_or_default();
        gone(connection.client().await?.delete_config(&id).await, &format!("config {id}"))
    }
}

/// What is to be known of a service without one.
pub(super) fn facts(service: &Service) -> Labels {
    let mut facts = labels::place(service);
    facts.insert(labels::GENERATION.into(), service.generation.to_string());
    facts
}

/// Where a *prepare* was, of which these are the labels; unless it is known already.
pub(super) async fn remember(
    connection: &Connection,
    service: &str,
    prepare: Option<&Labels>,
    node: &str,
) -> Result<(), PlatformError> {
    // One of an earlier version says nothing of what it is made from.
    if labels::get(prepare, labels::IMAGE).is_none() || Home::own(connection, service).await?.is_some() {
        return Ok(());
    }
    let mut wanted = labels::belonging(connection, service, "record");
    let kept = [labels::HOST, labels::PORT, labels::IMAGE, labels::DIRECTORY, labels::GENERATION];
    wanted.extend(kept.iter().filter_map(|name| Some(((*name).to_owned(), labels::get(prepare, name)?.to_owned()))));
    wanted.insert(labels::NODE.into(), node.to_owned());
    create(connection, service, wanted).await.map(drop)
}

async fn create(connection: &Connection, service: &str, labels: Labels) -> Result<Turn, PlatformError> {
    let name = Some(config_name(service));
    // Swarm keeps nothing that is empty: a line break.
    let spec = ConfigSpec { name, labels: Some(labels), data: Some("Cg==".into()), ..Default::default() };
    match connection.client().await?.create_config(spec).await {
        Ok(_) => Ok(Turn::Done),
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 409, .. }) => Ok(Turn::Again),
        Err(error) => Err(fault(&doing(service), error)),
    }
}

fn doing(service: &str) -> String {
    format!("record the node of {service}")
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
    match client.inspect_volume(name).await {
        Err(error) if is_missing(&error) => return Ok(()),
        Err(error) => return Err(fault(&format!("inspect volume {name}"), error)),
        Ok(volume) if labels::is_own(connection, name, labels::OF, Some(&volume.labels)) => {}
        // Somebody else's, which has been left alone.
        Ok(_) => return Ok(()),
    }
    let mut turns = 0;
    loop {
        match client.remove_volume(name, None::<RemoveVolumeOptions>).await {
            // Swarm takes the containers of a removed service away in its own time.
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 409, .. }) if turns < 150 => {
                turns += 1
            }
            removed => return gone(removed, &format!("volume {name}")),
        }
        sleep(Duration::from_millis(200)).await;
    }
}
