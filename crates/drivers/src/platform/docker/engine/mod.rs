//! Containers of one Engine. A container is thrown away and made again for every change; what has to outlive it is in the
//! records.

mod body;
mod image;
mod observe;
mod once;
mod records;

use std::time::Duration;

use bollard::body_full;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveVolumeOptions, StopContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};

use super::connection::{Connection, text};
use super::fault::{fault, gone, is_missing};
use super::labels;
use crate::platform::{PlatformError, PlatformErrorKind, Program, Service, Storage, container, refusal};
pub(super) use body::{health, limited, log_config, log_options, signed};
pub(super) use image::{ensure_image, missing};
pub(super) use observe::{observe, paused};
pub(super) use once::parent_mount;

pub(super) async fn ensure(connection: &Connection, service: &Service) -> Result<(), PlatformError> {
    let name = &service.name;
    let found = find(connection, name).await?;
    let recorded = records::generation(connection, name).await?;
    let there = recorded.max(found.as_ref().and_then(generation));
    if let Some(there) = there.filter(|there| *there > service.generation) {
        return Err(refusal::outdated(name, there, service.generation));
    }
    image::ensure(connection, service).await?;
    data(connection, service).await?;
    let definition = definition(connection, service);
    records::write(connection, service, &definition).await?;

    let is_same =
        |found: &ContainerInspectResponse| labels::get(labels_of(found), labels::DEFINITION) == Some(&definition);
    match found {
        Some(found) if is_same(&found) && began(&found) => up(connection, name, &found).await?,
        // One that never began may lack its files: whoever made it was interrupted before they were in it.
        Some(_) => {
            take_away(connection, name).await?;
            make(connection, service, &definition).await?;
        }
        None => {
            once::prepare(connection, service).await?;
            make(connection, service, &definition).await?;
        }
    }
    records::forget_stopped(connection, name).await
}

pub(super) async fn stop(connection: &Connection, name: &str) -> Result<(), PlatformError> {
    let Some(found) = find(connection, name).await? else { return Ok(()) };
    // Recorded first: what is stopped and not recorded would be called dead.
    records::write_stopped(connection, name).await?;
    halt(connection, name, &found).await
}

pub(super) async fn remove(connection: &Connection, name: &str) -> Result<(), PlatformError> {
    once::remove(connection, name, "prepare").await?;
    take_away(connection, name).await?;
    records::forget_stopped(connection, name).await
}

pub(super) async fn purge(connection: &Connection, name: &str) -> Result<(), PlatformError> {
    if own(connection, name).await?.is_some() {
        return Err(refusal::still_there(name));
    }
    let client = connection.client().await?;
    match client.inspect_volume(name).await {
        Err(error) if is_missing(&error) => {}
        Err(error) => return Err(fault(&format!("inspect volume {name}"), error)),
        Ok(volume) if !labels::is_own(connection, name, labels::OF, Some(&volume.labels)) => {}
        Ok(volume) => {
            if labels::get(Some(&volume.labels), labels::DIRECTORY).is_some() {
                once::purge(connection, name, &volume.labels).await?;
            }
            let removed = client.remove_volume(name, None::<RemoveVolumeOptions>).await;
            gone(removed, &format!("volume {name}"))?;
        }
    }
    records::forget(connection, name).await
}

pub(super) async fn list(connection: &Connection) -> Result<Vec<String>, PlatformError> {
    let filters = labels::matching(&[(labels::INSTANCE, &connection.options.instance)]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let found = connection.client().await?.list_containers(Some(options)).await;
    let found = found.map_err(|error| fault("list containers", error))?;
    let mut names: Vec<String> = found.into_iter().filter_map(|found| found.labels?.remove(labels::SERVICE)).collect();
    names.sort();
    Ok(names)
}

pub(super) async fn last_words(connection: &Connection, name: &str) -> Result<String, PlatformError> {
    match find(connection, name).await? {
        Some(_) => log(connection, name, 50).await,
        None => Ok(String::new()),
    }
}

pub(super) async fn log(connection: &Connection, container: &str, lines: u32) -> Result<String, PlatformError> {
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&lines.to_string()).build();
    Ok(text(connection.client().await?.logs(container, Some(options))).await)
}

/// The service's container; one of that name that is somebody else's is an error.
async fn find(connection: &Connection, name: &str) -> Result<Option<ContainerInspectResponse>, PlatformError> {
    let found = inspect(connection, name).await?;
    if let Some(found) = &found {
        labels::check_own(connection, "container", name, labels::SERVICE, labels_of(found))?;
    }
    Ok(found)
}

/// The service's container; one of that name that is somebody else's is not there.
async fn own(connection: &Connection, name: &str) -> Result<Option<ContainerInspectResponse>, PlatformError> {
    let found = inspect(connection, name).await?;
    Ok(found.filter(|found| labels::is_own(connection, name, labels::SERVICE, labels_of(found))))
}

pub(super) async fn inspect(
    connection: &Connection,
    name: &str,
) -> Result<Option<ContainerInspectResponse>, PlatformError> {
    match connection.client().await?.inspect_container(name, None).await {
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(fault(&format!("inspect container {name}"), error)),
        // An id's beginning finds a container as well.
        Ok(found) if found.name.as_deref().is_none_or(|named| named.trim_start_matches('/') != name) => Ok(None),
        Ok(found) => Ok(Some(found)),
    }
}

pub(super) fn labels_of(found: &ContainerInspectResponse) -> Option<&labels::Labels> {
    found.config.as_ref()?.labels.as_ref()
}

fn generation(found: &ContainerInspectResponse) -> Option<u64> {
    labels::number(labels_of(found), labels::GENERATION)
}

pub(super) fn status(found: &ContainerInspectResponse) -> Option<ContainerStateStatusEnum> {
    found.state.as_ref()?.status
}

pub(super) fn began(found: &ContainerInspectResponse) -> bool {
    let started = found.state.as_ref().and_then(|state| state.started_at.as_deref());
    started.is_some_and(|at| !at.starts_with("0001"))
}

/// What the container is made from besides the service itself is part of what it is.
fn definition(connection: &Connection, service: &Service) -> String {
    let options = &connection.options;
    let own = format!("{} {} {}", options.bind_address, options.log_driver, options.health_interval_seconds);
    container::definition(service, &own)
}

/// The volume that the data is in: of its own, or the name of a directory. It outlives the container and carries the
/// labels that tell whose it is.
async fn data(connection: &Connection, service: &Service) -> Result<(), PlatformError> {
    let client = connection.client().await?;
    let name = &service.name;
    match client.inspect_volume(name).await {
        Ok(volume) => {
            labels::check_own(connection, "volume", name, labels::OF, Some(&volume.labels))?;
            return refusal::check_storage(service, labels::get(Some(&volume.labels), labels::DIRECTORY));
        }
        Err(error) if is_missing(&error) => {}
        Err(error) => return Err(fault(&format!("inspect volume {name}"), error)),
    }
    let mut labels = labels::belonging(connection, name, "data");
    labels.extend(labels::place(service));
    let driver_opts = match &service.storage {
        Storage::Volume => None,
        Storage::Directory { path, .. } => {
            let device = path.join(name).display().to_string();
            Some(
                [("type", "none".to_owned()), ("o", "bind".to_owned()), ("device", device)]
                    .map(|(k, v)| (k.into(), v))
                    .into(),
            )
        }
    };
    let request =
        VolumeCreateRequest { name: Some(name.clone()), labels: Some(labels), driver_opts, ..Default::default() };
    client.create_volume(request).await.map_err(|error| fault(&format!("create volume {name}"), error))?;
    Ok(())
}

/// It is what it shall be: on its way up afterwards.
pub(super) async fn up(
    connection: &Connection,
    name: &str,
    found: &ContainerInspectResponse,
) -> Result<(), PlatformError> {
    let client = connection.client().await?;
    let doing = format!("start container {name}");
    match status(found) {
        Some(ContainerStateStatusEnum::PAUSED) => client.unpause_container(name).await,
        Some(ContainerStateStatusEnum::RUNNING) => Ok(()),
        // Its attempts are given back: a start by hand counts from none.
        Some(ContainerStateStatusEnum::RESTARTING) => {
            halt(connection, name, found).await?;
            client.start_container(name, None).await
        }
        _ => client.start_container(name, None).await,
    }
    .map_err(|error| fault(&doing, error))
}

async fn make(connection: &Connection, service: &Service, definition: &str) -> Result<(), PlatformError> {
    let Program::Postgres(postgres) = &service.program;
    let body = body::server(connection, service, definition);
    begin(connection, &service.name, body, &container::files(postgres)).await
}

/// Makes a container and starts it, with files in its own layer that its user alone reads: neither its definition nor its
/// environment has them.
pub(super) async fn begin(
    connection: &Connection,
    name: &str,
    body: ContainerCreateBody,
    files: &[container::File],
) -> Result<(), PlatformError> {
    let client = connection.client().await?;
    let options = CreateContainerOptionsBuilder::new().name(name).build();
    let made = client.create_container(Some(options), body).await;
    made.map_err(|error| fault(&format!("create container {name}"), error))?;

    let archive = body::archive(files).map_err(|error| {
        PlatformError::because(PlatformErrorKind::Other, format!("pack the files of {name}"), error)
    })?;
    let options = UploadToContainerOptionsBuilder::new().path(container::FILES).build();
    let sent = client.upload_to_container(name, Some(options), body_full(archive.into())).await;
    sent.map_err(|error| fault(&format!("put the files of {name} into its container"), error))?;

    client.start_container(name, None).await.map_err(|error| fault(&format!("start container {name}"), error))
}

async fn take_away(connection: &Connection, name: &str) -> Result<(), PlatformError> {
    let Some(found) = own(connection, name).await? else { return Ok(()) };
    halt(connection, name, &found).await?;
    let options = RemoveContainerOptionsBuilder::new().force(true).build();
    gone(connection.client().await?.remove_container(name, Some(options)).await, &format!("container {name}"))
}

/// Not running afterwards; killed when its grace is over.
pub(super) async fn halt(
    connection: &Connection,
    name: &str,
    found: &ContainerInspectResponse,
) -> Result<(), PlatformError> {
    let client = connection.client().await?;
    let doing = format!("stop container {name}");
    if status(found) == Some(ContainerStateStatusEnum::PAUSED) {
        client.unpause_container(name).await.map_err(|error| fault(&doing, error))?;
    }
    let grace = found.config.as_ref().and_then(|config| config.stop_timeout).unwrap_or(120);
    let options = StopContainerOptionsBuilder::new().t(i32::try_from(grace).unwrap_or(i32::MAX)).build();
    let patient = client.with_timeout(Duration::from_secs(grace.unsigned_abs() + 60));
    match patient.stop_container(name, Some(options)).await {
        Ok(()) => Ok(()),
        // 304: it is stopped.
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 304, .. }) => Ok(()),
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) => Err(fault(&doing, error)),
    }
}
