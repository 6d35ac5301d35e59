//! Tasks: the runs of a service, the latest first.

use bollard::models::{Task, TaskState};
use bollard::query_parameters::ListTasksOptionsBuilder;

use super::super::connection::Connection;
use super::super::fault::{fault, is_missing};
use crate::platform::PlatformError;

pub(super) async fn of_service(connection: &Connection, service: &str) -> Result<Vec<Task>, PlatformError> {
    let filters = [("service".to_owned(), vec![service.to_owned()])].into();
    let options = ListTasksOptionsBuilder::new().filters(&filters).build();
    let mut tasks = match connection.client().await?.list_tasks(Some(options)).await {
        Ok(tasks) => tasks,
        Err(error) if is_missing(&error) => Vec::new(),
        Err(error) => return Err(fault(&format!("list the tasks of {service}"), error)),
    };
    // RFC 3339 in UTC sorts as text, but for fractions whose last zeros are left out.
    tasks.sort_by_key(|task| {
        std::cmp::Reverse(task.created_at.as_deref().and_then(|at| at.parse::<jiff::Timestamp>().ok()))
    });
    Ok(tasks)
}

fn state(task: &Task) -> Option<TaskState> {
    task.status.as_ref()?.state
}

/// Its container is not there any more, or never was.
pub(super) fn is_over(task: &Task) -> bool {
    use TaskState::{COMPLETE, FAILED, ORPHANED, REJECTED, REMOVE, SHUTDOWN};
    let never = task.node_id.as_deref().unwrap_or_default().is_empty() && is_unwanted(task);
    never || matches!(state(task), Some(COMPLETE | SHUTDOWN | FAILED | REJECTED | REMOVE | ORPHANED))
}

/// Swarm has given it up, or replaced it.
pub(super) fn is_unwanted(task: &Task) -> bool {
    matches!(task.desired_state, Some(TaskState::SHUTDOWN | TaskState::REMOVE))
}

/// It had a container that may have written something.
pub(super) fn began(task: &Task) -> bool {
    task.status
        .as_ref()
        .and_then(|status| status.container_status.as_ref()?.container_id.as_deref())
        .is_some_and(|id| !id.is_empty())
}

/// The node, if it may have written something there or is about to, and the node is not gone.
pub(super) fn wrote_on(task: &Task) -> Option<&str> {
    let node = task.node_id.as_deref().filter(|node| !node.is_empty())?;
    let may_have = (began(task) || !is_over(task)) && state(task) != Some(TaskState::ORPHANED);
    may_have.then_some(node)
}

/// Which one it is, and how far it has come.
pub(super) fn summary(task: &Task) -> (Option<&str>, Option<TaskState>) {
    (task.id.as_deref(), state(task))
}
