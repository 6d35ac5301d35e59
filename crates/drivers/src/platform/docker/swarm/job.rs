//! Services that end, once, because they are not restarted. (Swarm's own jobs leave their tasks behind when they are removed,
//! pending ones too, which run later; tried on 20.10.) *prepare* makes directory and cluster on a node that the scheduler chooses, with the constraints,
//! reservations and port of the server that comes after it; from then on that node is the server's. *purge* removes them.

use std::time::Duration;

use bollard::models::{
    EndpointSpec, Mount, Service as Found, ServiceSpec, Task, TaskSpec, TaskSpecContainerSpec, TaskSpecPlacement,
    TaskSpecResources, TaskSpecRestartPolicy, TaskSpecRestartPolicyConditionEnum, TaskState,
};
use tokio::time::{Instant, sleep};

use super::super::connection::{Connection, credentials};
use super::super::engine::{missing, parent_mount};
use super::super::fault::{fault, gone, kind_of_words};
use super::super::labels::{self, Labels};
use super::home::{self, Home};
use super::{halt, inspect, labels_of, spec, task_log, tasks, why};
use crate::platform::{Limits, PlatformError, PlatformErrorKind, Service, container};

/// A scheduler that has just begun knows no nodes for a moment.
const PENDING: Duration = Duration::from_secs(4);

/// The node that has the data afterwards. It stays as a service until it is removed: a killed Freehold finds it, and the
/// node that was chosen.
pub(super) async fn prepare(
    connection: &Connection,
    service: &Service,
    node: Option<&str>,
) -> Result<String, PlatformError> {
    let volume = || spec::volume_mount(connection, &service.name);
    let mount = service.directory().map_or_else(volume, |path| parent_mount(&path));
    let job = Job {
        verb: "prepare",
        name: &service.name,
        image: service.image_reference().to_owned(),
        labels: home::facts(service),
        environment: container::pairs(container::prepare_environment(service, &connection.options.instance)),
        mount,
        placement: spec::placement(service, node),
        resources: spec::resources(&service.limits),
        endpoint: Some(spec::endpoint(service)),
    };
    job.run(connection, service.image.as_ref().and_then(credentials)).await
}

pub(super) async fn purge(connection: &Connection, name: &str, home: &Home) -> Result<(), PlatformError> {
    let recorded = |label| labels::get(Some(&home.labels), label);
    let directory = recorded(labels::DIRECTORY);
    let mount = directory.map_or_else(|| spec::volume_mount(connection, name), parent_mount);
    let environment = container::purge_environment(name, &connection.options.instance, directory.is_some());
    let constraints = Some(vec![format!("node.id=={}", home.node)]);
    let job = Job {
        verb: "purge",
        name,
        image: recorded(labels::IMAGE).unwrap_or_default().to_owned(),
        labels: Labels::new(),
        environment: container::pairs(environment),
        mount,
        placement: TaskSpecPlacement { constraints, ..Default::default() },
        resources: spec::resources(&Limits::default()),
        endpoint: None,
    };
    job.run(connection, None).await?;
    remove(connection, name, "purge").await
}

/// Unless it is somebody else's. Of a *prepare* that may have made something the node is recorded first, and it is over
/// afterwards: so that it can be purged there.
pub(super) async fn remove(connection: &Connection, name: &str, verb: &str) -> Result<(), PlatformError> {
    let job = format!("{name}-{verb}");
    let Some(found) = inspect(connection, &job).await? else { return Ok(()) };
    if !labels::is_own(connection, name, labels::OF, labels_of(&found)) {
        return Ok(());
    }
    let tasks = tasks::of_service(connection, &job).await?;
    if makes_data(&found)
        && let Some(node) = tasks.iter().find_map(tasks::wrote_on)
    {
        home::remember(connection, name, labels_of(&found), node).await?;
        if !tasks.iter().all(tasks::is_over) {
            halt(connection, &job, &found).await?;
        }
    }
    gone(connection.client().await?.delete_service(&job).await, &format!("service {job}"))
}

/// *purge* and a *prepare* that finds its data make none.
fn makes_data(job: &Found) -> bool {
    let container = job.spec.as_ref().and_then(|spec| spec.task_template.as_ref()?.container_spec.as_ref());
    let environment = container.and_then(|container| container.env.as_deref()).unwrap_or_default();
    environment.iter().any(|pair| pair == "FREEHOLD_INITIALISE=yes")
}

struct Job<'a> {
    verb: &'static str,
    name: &'a str,
    image: String,
    /// Beside those that it is known by.
    labels: Labels,
    environment: Vec<String>,
    mount: Mount,
    placement: TaskSpecPlacement,
    resources: TaskSpecResources,
    endpoint: Option<EndpointSpec>,
}

impl Job<'_> {
    async fn run(
        self,
        connection: &Connection,
        credentials: Option<bollard::auth::DockerCredentials>,
    ) -> Result<String, PlatformError> {
        let client = connection.client().await?;
        let (verb, name) = (self.verb, self.name.to_owned());
        let service = format!("{name}-{verb}");
        let doing = format!("{verb} {name}");
        let wanted = self.spec(connection, &service);
        // One that a killed Freehold left behind is waited for, if it is the very same.
        let definition = |labels| labels::get(labels, labels::DEFINITION).map(str::to_owned);
        let is_there = match inspect(connection, &service).await? {
            None => false,
            Some(found) => {
                labels::check_own(connection, "service", &name, labels::OF, labels_of(&found))?;
                let is_same = definition(labels_of(&found)) == definition(wanted.labels.as_ref());
                if !is_same {
                    remove(connection, &name, verb).await?;
                }
                is_same
            }
        };
        if !is_there {
            client.create_service(wanted, credentials).await.map_err(|error| fault(&doing, error))?;
        }
        let ended = ended(connection, &service, &doing).await;
        // What is merely not done yet goes on.
        if ended.as_ref().is_err_and(|error| error.kind != PlatformErrorKind::Unreachable) {
            remove(connection, &name, verb).await?;
        }
        match ended {
            Err(error) if verb == "purge" && error.kind == PlatformErrorKind::Conflict => {
                tracing::warn!(service = name, %error, "its storage is somebody else's: left alone");
                Ok(String::new())
            }
            ended => ended,
        }
    }

    fn spec(self, connection: &Connection, service: &str) -> ServiceSpec {
        let mut all = labels::belonging(connection, self.name, self.verb);
        let parts = format!("{} {:?} {:?} {:?}", self.image, self.environment, self.mount, self.placement);
        let own = format!("{parts} {:?} {:?}", self.resources, self.endpoint);
        let in_container = all.clone();
        all.extend(self.labels);
        all.insert(labels::DEFINITION.into(), container::hex(&[&own], 16));
        let mut capabilities = container::ROOT_CAPABILITIES.map(|name| format!("CAP_{name}")).to_vec();
        capabilities.sort();
        ServiceSpec {
            name: Some(service.to_owned()),
            labels: Some(all),
            task_template: Some(TaskSpec {
                container_spec: Some(TaskSpecContainerSpec {
                    image: Some(self.image),
                    labels: Some(in_container),
                    args: Some(vec![self.verb.into()]),
                    user: Some("0:0".into()),
                    env: Some(self.environment),
                    mounts: Some(vec![self.mount]),
                    capability_drop: Some(vec!["ALL".into()]),
                    capability_add: Some(capabilities),
                    ..Default::default()
                }),
                resources: Some(self.resources),
                placement: Some(self.placement),
                restart_policy: Some(TaskSpecRestartPolicy {
                    condition: Some(TaskSpecRestartPolicyConditionEnum::NONE),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            mode: Some(spec::replicated(1)),
            endpoint_spec: self.endpoint,
            ..Default::default()
        }
    }
}

async fn ended(connection: &Connection, job: &str, doing: &str) -> Result<String, PlatformError> {
    let begun = Instant::now();
    let patience = Duration::from_secs(connection.options.prepare_deadline_seconds.into());
    loop {
        let tasks = tasks::of_service(connection, job).await?;
        let task = tasks.first();
        let status = task.and_then(|task| task.status.clone()).unwrap_or_default();
        let error = status.err.unwrap_or_default();
        match (task, status.state) {
            (Some(task), Some(TaskState::COMPLETE)) => return Ok(task.node_id.clone().unwrap_or_default()),
            (Some(task), Some(TaskState::FAILED | TaskState::REJECTED | TaskState::ORPHANED | TaskState::SHUTDOWN)) => {
                return Err(failed(connection, task, doing).await?);
            }
            (Some(_), Some(TaskState::PENDING)) if !error.is_empty() && begun.elapsed() > PENDING => {
                let kind = kind_of_words(&error).unwrap_or(PlatformErrorKind::NoNode);
                return Err(PlatformError::new(kind, format!("{doing}: {error}")));
            }
            _ if begun.elapsed() > patience => {
                let now = status.state.map_or("unscheduled".to_owned(), |state| state.to_string());
                return Err(PlatformError::new(
                    PlatformErrorKind::Unreachable,
                    format!("{doing}: still {now} after {} s; it goes on", patience.as_secs()),
                ));
            }
            _ => sleep(Duration::from_millis(150)).await,
        }
    }
}

async fn failed(connection: &Connection, task: &Task, doing: &str) -> Result<PlatformError, PlatformError> {
    let said = match task.id.as_deref().filter(|_| tasks::began(task)) {
        Some(id) => container::gist(&task_log(connection, id, 20).await?),
        None => String::new(),
    };
    let (kind, text) = why(task, &said);
    let image = task.spec.as_ref().and_then(|spec| spec.container_spec.as_ref()?.image.as_deref());
    Ok(match (kind, image) {
        (PlatformErrorKind::ImageMissing, Some(image)) => missing(image, &text),
        _ => PlatformError::new(kind, format!("{doing}: {text}")),
    })
}
