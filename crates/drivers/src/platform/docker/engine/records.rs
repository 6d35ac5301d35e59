//! What has to be known of a service while it has no container: its generation, and that it was stopped on purpose. Kept
//! in the labels of empty volumes, the only objects of an Engine that are named, labelled and cost nothing.
//!
//! A record is never changed: the next generation is another one, and the highest counts.

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{ListVolumesOptionsBuilder, RemoveVolumeOptions};

use super::super::connection::Connection;
use super::super::fault::{fault, gone, is_missing};
use super::super::labels::{self, Labels};
use crate::platform::{PlatformError, Service};

pub(super) struct Record {
    pub generation: u64,
    pub labels: Labels,
}

pub(super) async fn generation(connection: &Connection, name: &str) -> Result<Option<u64>, PlatformError> {
    Ok(latest(connection, name).await?.map(|record| record.generation))
}

pub(super) async fn latest(connection: &Connection, name: &str) -> Result<Option<Record>, PlatformError> {
    let records = all(connection, name).await?.into_iter();
    let records = records.filter_map(|(_, labels)| {
        let generation = labels::number(Some(&labels), labels::GENERATION)?;
        Some(Record { generation, labels })
    });
    Ok(records.max_by_key(|record| record.generation))
}

pub(super) async fn write(connection: &Connection, service: &Service, definition: &str) -> Result<(), PlatformError> {
    let name = &service.name;
    let mut labels = labels::belonging(connection, name, "record");
    labels.extend(labels::place(service));
    labels.insert(labels::GENERATION.into(), service.generation.to_string());
    labels.insert(labels::DEFINITION.into(), definition.into());
    // The definition is in its name: the same generation may be asked for with another one.
    create(connection, format!("{name}.g{}.{}", service.generation, &definition[..8]), labels).await?;
    forget_but(connection, name, service.generation, definition).await
}

pub(super) async fn write_stopped(connection: &Connection, name: &str) -> Result<(), PlatformError> {
    create(connection, format!("{name}.stopped"), labels::belonging(connection, name, "stopped")).await
}

pub(super) async fn is_stopped(connection: &Connection, name: &str) -> Result<bool, PlatformError> {
    match connection.client().await?.inspect_volume(&format!("{name}.stopped")).await {
        Ok(volume) => Ok(labels::get(Some(&volume.labels), labels::OF) == Some(name)),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(fault(&format!("look whether {name} was stopped"), error)),
    }
}

pub(super) async fn forget_stopped(connection: &Connection, name: &str) -> Result<(), PlatformError> {
    delete(connection, &format!("{name}.stopped")).await
}

/// All records; that it was stopped is none.
pub(super) async fn forget(connection: &Connection, name: &str) -> Result<(), PlatformError> {
    for (volume, _) in all(connection, name).await? {
        delete(connection, &volume).await?;
    }
    Ok(())
}

async fn forget_but(
    connection: &Connection,
    name: &str,
    generation: u64,
    definition: &str,
) -> Result<(), PlatformError> {
    for (volume, labels) in all(connection, name).await? {
        let there = labels::number::<u64>(Some(&labels), labels::GENERATION).unwrap_or(0);
        let same = there == generation && labels::get(Some(&labels), labels::DEFINITION) == Some(definition);
        if there <= generation && !same {
            delete(connection, &volume).await?;
        }
    }
    Ok(())
}

async fn all(connection: &Connection, name: &str) -> Result<Vec<(String, Labels)>, PlatformError> {
    let filters = labels::matching(&[
        (labels::OF, name),
        (labels::INSTANCE, &connection.options.instance),
        (labels::KIND, "record"),
    ]);
    let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
    let found = connection.client().await?.list_volumes(Some(options)).await;
    let found = found.map_err(|error| fault(&format!("list the records of {name}"), error))?;
    Ok(found.volumes.unwrap_or_default().into_iter().map(|volume| (volume.name, volume.labels)).collect())
}

async fn create(connection: &Connection, volume: String, labels: Labels) -> Result<(), PlatformError> {
    let doing = format!("record {volume}");
    let request = VolumeCreateRequest { name: Some(volume), labels: Some(labels), ..Default::default() };
    connection.client().await?.create_volume(request).await.map_err(|error| fault(&doing, error))?;
    Ok(())
}

async fn delete(connection: &Connection, volume: &str) -> Result<(), PlatformError> {
    let removed = connection.client().await?.remove_volume(volume, None::<RemoveVolumeOptions>).await;
    gone(removed, &format!("record {volume}"))
}
