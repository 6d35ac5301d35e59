//! The definition of a service.

use std::time::Duration;

use bollard::models::{
    EndpointPortConfig, EndpointPortConfigProtocolEnum, EndpointPortConfigPublishModeEnum, EndpointSpec,
    EndpointSpecModeEnum, Limit, Mount, MountTmpfsOptions, MountType, MountVolumeOptions, NetworkAttachmentConfig,
    ResourceObject, ServiceSpec, ServiceSpecMode, ServiceSpecModeReplicated, ServiceSpecRollbackConfig,
    ServiceSpecRollbackConfigFailureActionEnum, ServiceSpecRollbackConfigOrderEnum, ServiceSpecUpdateConfig,
    ServiceSpecUpdateConfigFailureActionEnum, ServiceSpecUpdateConfigOrderEnum, TaskSpec, TaskSpecContainerSpec,
    TaskSpecLogDriver, TaskSpecPlacement, TaskSpecResources, TaskSpecRestartPolicy, TaskSpecRestartPolicyConditionEnum,
};

use super::super::connection::Connection;
use super::super::engine::{health, log_options, signed};
use super::super::fault::{fault, is_missing};
use super::super::labels;
use super::files::Mounted;
use crate::platform::{Limits, Network, PlatformError, PlatformErrorKind, Service, Storage, container};

pub(super) fn server(connection: &Connection, service: &Service, node: &str, mounted: &Mounted) -> ServiceSpec {
    let options = &connection.options;
    let own = format!("{node} {} {}", options.log_driver, options.health_interval_seconds);
    let definition = container::definition(service, &own);
    let mut all = labels::of_service(connection, service, &definition);
    all.insert(labels::NODE.into(), node.to_owned());
    // Of the container only what never changes: anything else would restart it.
    let in_container = [(labels::SERVICE, &service.name), (labels::INSTANCE, &options.instance)];
    let shm = Mount {
        typ: Some(MountType::TMPFS),
        target: Some("/dev/shm".into()),
        tmpfs_options: Some(MountTmpfsOptions {
            size_bytes: Some(signed(container::shm_bytes(service))),
            mode: Some(0o1777),
            ..Default::default()
        }),
        ..Default::default()
    };
    let container = TaskSpecContainerSpec {
        image: service.image.as_ref().map(|image| image.reference.clone()),
        labels: Some(in_container.map(|(name, value)| (name.to_owned(), value.clone())).into()),
        hostname: Some(service.name.clone()),
        env: Some(container::pairs(container::environment(service))),
        mounts: Some(vec![data_mount(connection, service), shm]),
        stop_signal: Some("SIGINT".into()),
        stop_grace_period: Some(nanoseconds(service.stop_grace)),
        health_check: Some(health(options.health_interval_seconds)),
        secrets: Some(mounted.secrets.clone()),
        configs: Some(mounted.configs.clone()),
        capability_drop: Some(vec!["ALL".into()]),
        ..Default::default()
    };
    let restart = TaskSpecRestartPolicy {
        condition: Some(TaskSpecRestartPolicyConditionEnum::ANY),
        delay: Some(nanoseconds(service.restart.delay)),
        max_attempts: Some(service.restart.attempts.into()),
        window: Some(nanoseconds(service.restart.window)),
    };
    ServiceSpec {
        name: Some(service.name.clone()),
        labels: Some(all),
        task_template: Some(TaskSpec {
            container_spec: Some(container),
            resources: Some(resources(&service.limits)),
            restart_policy: Some(restart),
            placement: Some(placement(service, Some(node))),
            networks: networks(service),
            log_driver: Some(TaskSpecLogDriver {
                name: Some(options.log_driver.clone()),
                options: log_options(&options.log_driver),
            }),
            ..Default::default()
        }),
        mode: Some(replicated(1)),
        // The old one is down before the new one begins: they would share the data. What does not start stays down, and is
        // seen; taken back, it would be called done.
        update_config: Some(ServiceSpecUpdateConfig {
            parallelism: Some(1),
            order: Some(ServiceSpecUpdateConfigOrderEnum::STOP_FIRST),
            failure_action: Some(ServiceSpecUpdateConfigFailureActionEnum::PAUSE),
            ..Default::default()
        }),
        rollback_config: Some(ServiceSpecRollbackConfig {
            parallelism: Some(1),
            order: Some(ServiceSpecRollbackConfigOrderEnum::STOP_FIRST),
            failure_action: Some(ServiceSpecRollbackConfigFailureActionEnum::PAUSE),
            ..Default::default()
        }),
        endpoint_spec: Some(endpoint(service)),
        ..Default::default()
    }
}

/// The container's own directory, on its node.
pub(super) fn data_mount(connection: &Connection, service: &Service) -> Mount {
    let name = &service.name;
    let target = Some(container::ROOT.to_owned());
    match &service.storage {
        Storage::Volume => volume_mount(connection, name),
        Storage::Directory { path, .. } => Mount {
            typ: Some(MountType::BIND),
            source: Some(path.join(name).display().to_string()),
            target,
            ..Default::default()
        },
    }
}

pub(super) fn volume_mount(connection: &Connection, name: &str) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name.to_owned()),
        target: Some(container::ROOT.into()),
        volume_options: Some(MountVolumeOptions {
            labels: Some(labels::belonging(connection, name, "data")),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(super) fn placement(service: &Service, node: Option<&str>) -> TaskSpecPlacement {
    let mut constraints = service.constraints.clone();
    constraints.extend(node.map(|node| format!("node.id=={node}")));
    TaskSpecPlacement { constraints: Some(constraints), ..Default::default() }
}

pub(super) fn resources(limits: &Limits) -> TaskSpecResources {
    let cpus = |cpus: Option<f64>| cpus.map(|cpus| (cpus * 1e9).round() as i64);
    TaskSpecResources {
        limits: Some(Limit {
            nano_cpus: cpus(limits.cpus),
            memory_bytes: limits.memory_bytes.map(signed),
            ..Default::default()
        }),
        reservations: Some(ResourceObject {
            nano_cpus: cpus(limits.reserved_cpus),
            memory_bytes: limits.reserved_memory_bytes.map(signed),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// In host mode: the node that has the data answers, with no proxy in between that forgets idle connections.
pub(super) fn endpoint(service: &Service) -> EndpointSpec {
    let ports = match &service.network {
        Network::Overlay { .. } => None,
        Network::Port { port, .. } => Some(vec![EndpointPortConfig {
            protocol: Some(EndpointPortConfigProtocolEnum::TCP),
            target_port: Some(container::PORT.into()),
            published_port: Some(i64::from(*port)),
            publish_mode: Some(EndpointPortConfigPublishModeEnum::HOST),
            ..Default::default()
        }]),
    };
    EndpointSpec { mode: Some(EndpointSpecModeEnum::DNSRR), ports }
}

fn networks(service: &Service) -> Option<Vec<NetworkAttachmentConfig>> {
    match &service.network {
        Network::Port { .. } => None,
        Network::Overlay { network } => Some(vec![NetworkAttachmentConfig {
            target: Some(network.clone()),
            aliases: Some(vec![service.name.clone()]),
            ..Default::default()
        }]),
    }
}

pub(super) fn replicated(replicas: i64) -> ServiceSpecMode {
    ServiceSpecMode { replicated: Some(ServiceSpecModeReplicated { replicas: Some(replicas) }), ..Default::default() }
}

pub(super) fn replicas(spec: &ServiceSpec) -> i64 {
    spec.mode.as_ref().and_then(|mode| mode.replicated.as_ref()?.replicas).unwrap_or(0)
}

pub(super) fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// A service on a network that is not there would wait for it without a word.
pub(super) async fn check_network(connection: &Connection, service: &Service) -> Result<(), PlatformError> {
    let Network::Overlay { network } = &service.network else { return Ok(()) };
    let unsupported = |message| Err(PlatformError::new(PlatformErrorKind::Unsupported, message));
    match connection.client().await?.inspect_network(network, None).await {
        Ok(found) if found.scope.as_deref() == Some("swarm") => Ok(()),
        Ok(_) => unsupported(format!(
            "network {network} is not the Swarm's: docker network create --driver overlay makes one"
        )),
        Err(error) if is_missing(&error) => unsupported(format!(
            "there is no network {network}: docker network create --driver overlay --attachable {network}"
        )),
        Err(error) => Err(fault(&format!("inspect network {network}"), error)),
    }
}
