//! What became of a service, from its tasks; and of its container, where that is on the node that answers here.

use std::time::Duration;

use bollard::models::{ContainerStateStatusEnum, HealthStatusEnum, Service as Found, Task, TaskState};
use tokio::time::sleep;

use super::super::connection::Connection;
use super::super::engine::{missing, paused};
use super::super::fault::fault;
use super::super::labels;
use super::home::{Home, this_node};
use super::{find, generation, labels_of, spec, task_log, tasks, why};
use crate::platform::{Observed, Phase, PlatformError, PlatformErrorKind, container};

pub(in super::super) async fn observe(connection: &Connection, name: &str) -> Result<Observed, PlatformError> {
    let home = Home::find(connection, name).await?;
    let node = match &home {
        Some(home) => Node::find(connection, &home.node).await?,
        None => Node::default(),
    };
    let found = find(connection, name).await?;
    let place = found.as_ref().and_then(labels_of).or(home.as_ref().map(|home| &home.labels));
    let host = labels::get(place, labels::HOST).unwrap_or_default();
    let (phase, reason) = match &found {
        None => (Phase::Absent, None),
        Some(found) => phase(connection, name, found, &node).await?,
    };
    Ok(Observed {
        phase,
        generation: found.as_ref().and_then(generation).or(home.as_ref().map(|home| home.generation)).unwrap_or(0),
        // A pool of several nodes has no host of its own: the node's then.
        host: if host.is_empty() { node.address.clone() } else { host.to_owned() },
        port: labels::number(place, labels::PORT).unwrap_or(0),
        node: Some(node.name).filter(|name| !name.is_empty()),
        reason,
    })
}

/// An error that is gone by then was none.
const PENDING: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Node {
    /// As `docker node ls` shows it.
    name: String,
    address: String,
    is_down: bool,
    is_here: bool,
}

impl Node {
    async fn find(connection: &Connection, id: &str) -> Result<Self, PlatformError> {
        let node = match connection.client().await?.inspect_node(id).await {
            Ok(node) => node,
            // Removed from the Swarm.
            Err(error) if super::super::fault::is_missing(&error) => {
                return Ok(Self { name: id.to_owned(), is_down: true, ..Self::default() });
            }
            Err(error) => return Err(fault(&format!("inspect node {id}"), error)),
        };
        let status = node.status.unwrap_or_default();
        let state = status.state.map(|state| state.to_string()).unwrap_or_default();
        Ok(Self {
            name: node.description.and_then(|description| description.hostname).unwrap_or_else(|| id.to_owned()),
            address: status.addr.unwrap_or_default(),
            is_down: state == "down" || state == "disconnected",
            is_here: this_node(connection).await? == id,
        })
    }
}

async fn phase(
    connection: &Connection,
    name: &str,
    found: &Found,
    node: &Node,
) -> Result<(Phase, Option<String>), PlatformError> {
    let tasks = tasks::of_service(connection, name).await?;
    if found.spec.as_ref().is_none_or(|spec| spec::replicas(spec) == 0) {
        let is_stopping = tasks.iter().any(|task| !tasks::is_over(task));
        let words = if is_stopping { "it is being stopped" } else { "stopped by Freehold, or scaled to none" };
        return Ok((Phase::Stopped, Some(words.into())));
    }
    let Some(task) = tasks.first() else { return Ok((Phase::Starting, None)) };
    let status = task.status.clone().unwrap_or_default();
    let error = status.err.unwrap_or_default();
    Ok(match status.state {
        _ if node.is_down => {
            let text = format!("its data is on node {}, which is down", node.name);
            (Phase::Failing, Some(container::reason(PlatformErrorKind::NoNode, &text)))
        }
        // The one before still has the port, the memory and the data.
        Some(TaskState::PENDING) if tasks.iter().skip(1).any(|task| !tasks::is_over(task)) => (Phase::Starting, None),
        Some(TaskState::PENDING) if !error.is_empty() => {
            // The scheduler learns a moment later that something has become free.
            sleep(PENDING).await;
            let later = tasks::of_service(connection, name).await?;
            if later.first().map(tasks::summary) != Some(tasks::summary(task)) {
                return Ok((Phase::Starting, None));
            }
            let kind = super::super::fault::kind_of_words(&error).unwrap_or(PlatformErrorKind::NoNode);
            let text = format!("{error}; its data is on node {}", node.name);
            (Phase::Failing, Some(container::reason(kind, &text)))
        }
        Some(TaskState::RUNNING) if node.is_here => running(connection, name, task).await?,
        Some(TaskState::RUNNING) => (Phase::Running, None),
        // Between an end and the attempt that follows it Swarm takes a moment.
        _ if given_up(task) => (Phase::Failing, Some(ended(connection, task).await?)),
        _ => (Phase::Starting, None),
    })
}

/// It has ended, and Swarm has no successor for it.
fn given_up(latest: &Task) -> bool {
    tasks::is_over(latest) && tasks::is_unwanted(latest)
}

/// Nothing runs, and nothing will.
pub(super) async fn is_dead(connection: &Connection, found: &Found) -> Result<bool, PlatformError> {
    let name = found.spec.as_ref().and_then(|spec| spec.name.as_deref()).unwrap_or_default();
    Ok(tasks::of_service(connection, name).await?.first().is_some_and(given_up))
}

async fn running(connection: &Connection, name: &str, task: &Task) -> Result<(Phase, Option<String>), PlatformError> {
    let Some(id) = container_of(task) else { return Ok((Phase::Running, None)) };
    let Ok(found) = connection.client().await?.inspect_container(&id, None).await else {
        return Ok((Phase::Starting, None));
    };
    let state = found.state.unwrap_or_default();
    let health = state.health.and_then(|health| health.status);
    Ok(match (state.status, health) {
        (Some(ContainerStateStatusEnum::PAUSED), _) => {
            let container = found.name.unwrap_or_else(|| name.to_owned());
            (Phase::Failing, Some(paused(container.trim_start_matches('/'))))
        }
        (Some(ContainerStateStatusEnum::RUNNING), Some(HealthStatusEnum::STARTING)) => (Phase::Starting, None),
        (Some(ContainerStateStatusEnum::RUNNING), _) => (Phase::Running, None),
        // It has just ended, and Swarm does not know yet.
        _ => (Phase::Starting, None),
    })
}

async fn ended(connection: &Connection, task: &Task) -> Result<String, PlatformError> {
    let said = match task.id.as_deref().filter(|_| tasks::began(task)) {
        Some(id) => container::gist(&task_log(connection, id, 20).await?),
        None => String::new(),
    };
    let (kind, mut text) = why(task, &said);
    let image = task.spec.as_ref().and_then(|spec| spec.container_spec.as_ref()?.image.as_deref());
    if let (PlatformErrorKind::ImageMissing, Some(image)) = (kind, image) {
        text = missing(image, &text).message;
    }
    let container = container_of(task);
    if let Some(id) = container
        && let Ok(found) = connection.client().await?.inspect_container(&id, None).await
        && found.state.and_then(|state| state.oom_killed) == Some(true)
    {
        text = format!("killed for want of memory: raise its limit, or lower its settings; {text}");
    }
    Ok(container::reason(kind, &text))
}

fn container_of(task: &Task) -> Option<String> {
    let id = task.status.as_ref()?.container_status.as_ref()?.container_id.clone()?;
    Some(id).filter(|id| !id.is_empty())
}

/// Where its container is on this node and somebody paused it: a signal would wait until it goes on. Elsewhere Swarm kills
/// it after its grace.
pub(super) async fn unpause(connection: &Connection, name: &str) {
    let Ok(client) = connection.client().await else { return };
    let Ok(tasks) = tasks::of_service(connection, name).await else { return };
    for task in tasks.iter().filter(|task| !tasks::is_over(task)) {
        let Some(id) = container_of(task) else { continue };
        let Ok(found) = client.inspect_container(&id, None).await else { continue };
        if found.state.and_then(|state| state.paused) == Some(true)
            && let Err(error) = client.unpause_container(&id).await
        {
            tracing::warn!(service = name, %error, "a paused container does not go on");
        }
    }
}
