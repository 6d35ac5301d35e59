//! Services of a Swarm. Changes are guarded by the version that they were decided on, so that of two Freeholds one looks
//! again.

mod files;
mod home;
mod job;
mod observe;
mod spec;
mod tasks;

use std::time::Duration;

use bollard::models::{Service as Found, ServiceSpec, TaskState};
use bollard::query_parameters::{ListServicesOptionsBuilder, LogsOptionsBuilder, UpdateServiceOptionsBuilder};
use tokio::time::{Instant, sleep};

use super::connection::{Connection, credentials, text};
use super::fault::{fault, gone, is_missing, is_out_of_sequence};
use super::labels;
use crate::platform::{PlatformError, PlatformErrorKind, Service, container, refusal};
use home::Home;
pub(super) use observe::observe;

/// Of changes that came in between.
const TURNS: u32 = 5;

pub(super) async fn ensure(connection: &Connection, service: &Service) -> Result<(), PlatformError> {
    for _ in 0..TURNS {
        if ensure_once(connection, service).await? == Turn::Done {
            return Ok(());
        }
    }
    Err(busy(&service.name))
}

#[derive(PartialEq, Eq)]
enum Turn {
    Done,
    /// What was looked at has changed meanwhile.
    Again,
}

async fn ensure_once(connection: &Connection, service: &Service) -> Result<Turn, PlatformError> {
    let name = &service.name;
    let found = find(connection, name).await?;
    let home = Home::find(connection, name).await?;
    let generations = [found.as_ref().and_then(generation), home.as_ref().map(|home| home.generation)];
    if let Some(there) = generations.into_iter().flatten().max().filter(|there| *there > service.generation) {
        return Err(refusal::outdated(name, there, service.generation));
    }
    if let Some(home) = &home {
        refusal::check_storage(service, labels::get(Some(&home.labels), labels::DIRECTORY))?;
    }
    spec::check_network(connection, service).await?;

    let node = match (&found, &home) {
        (Some(_), Some(home)) => home.node.clone(),
        // Somebody removed the record: the service says as well where it is pinned.
        (Some(found), None) => labels::get(labels_of(found), labels::NODE).unwrap_or_default().to_owned(),
        (None, home) => job::prepare(connection, service, home.as_ref().map(|home| home.node.as_str())).await?,
    };
    if Home::save(connection, service, &node, home).await? == Turn::Again {
        return Ok(Turn::Again);
    }
    job::remove(connection, name, "prepare").await?;

    let mounted = files::ensure(connection, service).await?;
    let wanted = spec::server(connection, service, &node, &mounted);
    let before = found.as_ref().map(files::names_in).unwrap_or_default();
    let turn = match found {
        None => create(connection, service, wanted).await?,
        Some(found) => change(connection, service, found, wanted).await?,
    };
    if turn == Turn::Done {
        // What the service used until now stays while its task may be running: an update in progress.
        let keep = before.into_iter().chain(mounted.names()).collect::<Vec<_>>();
        files::tidy(connection, name, &keep).await?;
        observe::unpause(connection, name).await;
    }
    Ok(turn)
}

async fn create(connection: &Connection, service: &Service, wanted: ServiceSpec) -> Result<Turn, PlatformError> {
    let client = connection.client().await?;
    match client.create_service(wanted, service.image.as_ref().and_then(credentials)).await {
        Ok(_) => Ok(Turn::Done),
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 409, .. }) => Ok(Turn::Again),
        Err(error) => Err(fault(&format!("create service {}", service.name), error)),
    }
}

async fn change(
    connection: &Connection,
    service: &Service,
    found: Found,
    mut wanted: ServiceSpec,
) -> Result<Turn, PlatformError> {
    let name = &service.name;
    let current = found.spec.clone().unwrap_or_default();
    let is_same =
        labels::get(labels_of(&found), labels::DEFINITION) == labels::get(wanted.labels.as_ref(), labels::DEFINITION);
    let is_up = spec::replicas(&current) == 1;
    let is_dead = is_up && observe::is_dead(connection, &found).await?;
    if is_same && is_up && !is_dead && generation(&found) == Some(service.generation) {
        return Ok(Turn::Done);
    }
    let forced = current.task_template.as_ref().and_then(|task| task.force_update).unwrap_or(0);
    // Of the same definition the very same task is rendered, which Swarm leaves alone. What it answers is no task to send
    // back: fields that were absent come filled.
    if let Some(task) = &mut wanted.task_template {
        task.force_update = Some(forced + u64::from(is_dead));
    }
    put(connection, name, &found, wanted, service.image.as_ref().and_then(credentials)).await
}

async fn put(
    connection: &Connection,
    name: &str,
    found: &Found,
    wanted: ServiceSpec,
    credentials: Option<bollard::auth::DockerCredentials>,
) -> Result<Turn, PlatformError> {
    let version = found.version.as_ref().and_then(|version| version.index).unwrap_or(0);
    let options = UpdateServiceOptionsBuilder::new().version(i32::try_from(version).unwrap_or(i32::MAX)).build();
    match connection.client().await?.update_service(name, wanted, options, credentials).await {
        Ok(_) => Ok(Turn::Done),
        Err(error) if is_out_of_sequence(&error) => Ok(Turn::Again),
        Err(error) => Err(fault(&format!("update service {name}"), error)),
    }
}

pub(super) async fn stop(connection: &Connection, name: &str) -> Result<(), PlatformError> {
    for _ in 0..TURNS {
        let Some(found) = find(connection, name).await? else { return Ok(()) };
        let mut wanted = found.spec.clone().unwrap_or_default();
        if spec::replicas(&wanted) != 0 {
            // A paused container takes no signal.
            observe::unpause(connection, name).await;
            wanted.mode = Some(spec::replicated(0));
            if put(connection, name, &found, wanted, None).await? == Turn::Again {
                continue;
            }
        }
        return until_stopped(connection, name, &found).await;
    }
    Err(busy(name))
}

async fn until_stopped(connection: &Connection, name: &str, found: &Found) -> Result<(), PlatformError> {
    let container = found.spec.as_ref().and_then(|spec| spec.task_template.as_ref()?.container_spec.as_ref());
    let grace = container.and_then(|container| container.stop_grace_period).unwrap_or(120_000_000_000);
    let deadline = Instant::now() + Duration::from_nanos(grace.unsigned_abs()) + Duration::from_secs(60);
    loop {
        let tasks = tasks::of_service(connection, name).await?;
        let Some(left) = tasks.iter().find(|task| !tasks::is_over(task)) else { return Ok(()) };
        if Instant::now() > deadline {
            let node = left.node_id.as_deref().unwrap_or("no node");
            return Err(PlatformError::new(
                PlatformErrorKind::Unreachable,
                format!("{name} is still stopping on node {node}: does that node answer? docker node ls"),
            ));
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// No task of it works afterwards.
async fn halt(connection: &Connection, name: &str, found: &Found) -> Result<(), PlatformError> {
    let mut wanted = found.spec.clone().unwrap_or_default();
    wanted.mode = Some(spec::replicated(0));
    match put(connection, name, found, wanted, None).await? {
        Turn::Done => until_stopped(connection, name, found).await,
        Turn::Again => Err(busy(name)),
    }
}

pub(super) async fn remove(connection: &Connection, name: &str) -> Result<(), PlatformError> {
    if own(connection, name).await?.is_some() {
        stop(connection, name).await?;
        gone(connection.client().await?.delete_service(name).await, &format!("service {name}"))?;
    }
    job::remove(connection, name, "prepare").await?;
    files::tidy(connection, name, &[]).await
}

pub(super) async fn purge(connection: &Connection, name: &str) -> Result<(), PlatformError> {
    if own(connection, name).await?.is_some() {
        return Err(refusal::still_there(name));
    }
    let Some(home) = Home::own(connection, name).await? else { return Ok(()) };
    job::purge(connection, name, &home).await?;
    home::remove_volume(connection, name, &home).await?;
    home.forget(connection).await
}

pub(super) async fn list(connection: &Connection) -> Result<Vec<String>, PlatformError> {
    let filters = labels::matching(&[(labels::INSTANCE, &connection.options.instance)]);
    let options = ListServicesOptionsBuilder::new().filters(&filters).build();
    let found = connection.client().await?.list_services(Some(options)).await;
    let found = found.map_err(|error| fault("list services", error))?;
    let name = |found: Found| found.spec?.labels?.remove(labels::SERVICE);
    let mut names: Vec<String> = found.into_iter().filter_map(name).collect();
    names.sort();
    Ok(names)
}

pub(super) async fn last_words(connection: &Connection, name: &str) -> Result<String, PlatformError> {
    if find(connection, name).await?.is_none() {
        return Ok(String::new());
    }
    // Of the latest task: what an earlier one said was another definition's, perhaps.
    let tasks = tasks::of_service(connection, name).await?;
    let spoke = tasks.iter().find(|task| tasks::began(task));
    match spoke.and_then(|task| task.id.as_deref()) {
        Some(task) => task_log(connection, task, 50).await,
        None => Ok(String::new()),
    }
}

async fn task_log(connection: &Connection, task: &str, lines: u32) -> Result<String, PlatformError> {
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&lines.to_string()).build();
    Ok(text(connection.client().await?.task_logs(task, Some(options))).await)
}

/// The service; one of that name that is somebody else's is an error.
async fn find(connection: &Connection, name: &str) -> Result<Option<Found>, PlatformError> {
    match inspect(connection, name).await? {
        Some(found) => {
            labels::check_own(connection, "service", name, labels::SERVICE, labels_of(&found))?;
            Ok(Some(found))
        }
        None => Ok(None),
    }
}

/// The service; one of that name that is somebody else's is not there.
async fn own(connection: &Connection, name: &str) -> Result<Option<Found>, PlatformError> {
    let found = inspect(connection, name).await?;
    Ok(found.filter(|found| labels::is_own(connection, name, labels::SERVICE, labels_of(found))))
}

async fn inspect(connection: &Connection, name: &str) -> Result<Option<Found>, PlatformError> {
    match connection.client().await?.inspect_service(name, None).await {
        // An id's beginning finds a service as well.
        Ok(found) => {
            Ok(Some(found).filter(|found| found.spec.as_ref().and_then(|spec| spec.name.as_deref()) == Some(name)))
        }
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(fault(&format!("inspect service {name}"), error)),
    }
}

fn labels_of(found: &Found) -> Option<&labels::Labels> {
    found.spec.as_ref()?.labels.as_ref()
}

fn generation(found: &Found) -> Option<u64> {
    labels::number(labels_of(found), labels::GENERATION)
}

fn busy(name: &str) -> PlatformError {
    PlatformError::new(
        PlatformErrorKind::Other,
        format!("{name} is being changed by somebody else again and again: is another Freehold at work with it?"),
    )
}

/// A sentence about a task that did not do.
fn why(task: &bollard::models::Task, said: &str) -> (PlatformErrorKind, String) {
    let status = task.status.clone().unwrap_or_default();
    let error = status.err.unwrap_or_default();
    let code = status.container_status.and_then(|status| status.exit_code).unwrap_or(0);
    if let Some(kind) = super::fault::kind_of_words(&error) {
        return (kind, error);
    }
    let how = match (status.state, code) {
        (Some(TaskState::ORPHANED), _) => "its node is gone".to_owned(),
        (_, 0) if error.is_empty() => "it ended by itself".to_owned(),
        (_, 0) => error,
        (_, 137) => "killed".to_owned(),
        (_, code) => format!("ended with code {code}"),
    };
    let text = if said.is_empty() { how } else { format!("{how}: {said}") };
    (container::kind_of_exit(code), text)
}
