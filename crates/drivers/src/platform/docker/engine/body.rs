//! The definition of a server's container. Pure.

use std::io;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType,
    NetworkingConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use secrecy::ExposeSecret;

use super::super::connection::Connection;
use super::super::labels;
use crate::platform::{Limits, Network, Service, container};

pub(super) fn server(connection: &Connection, service: &Service, definition: &str) -> ContainerCreateBody {
    let options = &connection.options;
    let port = format!("{}/tcp", container::PORT);
    let mut host = HostConfig {
        mounts: Some(vec![data_mount(&service.name)]),
        // The engine's reason to try again is any end that nobody asked for, a reboot of the machine included. It waits
        // twice as long each time, up to a minute, and counts: observe compares with the attempts that were allowed.
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::UNLESS_STOPPED), ..Default::default() }),
        shm_size: Some(signed(container::shm_bytes(service))),
        cap_drop: Some(vec!["ALL".into()]),
        security_opt: Some(vec!["no-new-privileges".into()]),
        log_config: log_config(&options.log_driver),
        ..limited(&service.limits)
    };
    let mut networking = None;
    match &service.network {
        Network::Port { port: published, .. } => {
            let binding =
                PortBinding { host_ip: Some(options.bind_address.clone()), host_port: Some(published.to_string()) };
            host.port_bindings = Some([(port.clone(), Some(vec![binding]))].into());
        }
        Network::Overlay { network } => {
            host.network_mode = Some(network.clone());
            let endpoint = EndpointSettings { aliases: Some(vec![service.name.clone()]), ..Default::default() };
            networking = Some(NetworkingConfig { endpoints_config: Some([(network.clone(), endpoint)].into()) });
        }
    }
    let mut labels = labels::of_service(connection, service, definition);
    labels.insert("freehold.attempts".into(), service.restart.attempts.to_string());
    ContainerCreateBody {
        image: service.image.as_ref().map(|image| image.reference.clone()),
        env: Some(container::pairs(container::environment(service))),
        labels: Some(labels),
        exposed_ports: Some(vec![port]),
        healthcheck: Some(health(options.health_interval_seconds)),
        stop_signal: Some("SIGINT".into()),
        stop_timeout: Some(service.stop_grace.as_secs().try_into().unwrap_or(i64::MAX)),
        host_config: Some(host),
        networking_config: networking,
        ..Default::default()
    }
}

pub(super) fn data_mount(volume: &str) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.to_owned()),
        target: Some(container::ROOT.into()),
        ..Default::default()
    }
}

pub(in super::super) fn limited(limits: &Limits) -> HostConfig {
    let cpus = |cpus: Option<f64>, unit: f64| cpus.map(|cpus| (cpus * unit).round() as i64);
    let memory = limits.memory_bytes.map(signed);
    HostConfig {
        nano_cpus: cpus(limits.cpus, 1e9),
        memory,
        // No swap on top: a database that swaps is worse than one that is told.
        memory_swap: memory,
        memory_reservation: limits.reserved_memory_bytes.map(signed),
        // One Engine has no scheduler; the share counts when processors are short.
        cpu_shares: cpus(limits.reserved_cpus, 1024.0).map(|shares| shares.max(2)),
        ..Default::default()
    }
}

pub(in super::super) fn health(interval_seconds: u32) -> HealthConfig {
    let nanoseconds = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    let test = ["CMD"].into_iter().chain(container::HEALTH).map(str::to_owned).collect();
    HealthConfig {
        test: Some(test),
        interval: Some(nanoseconds(Duration::from_secs(interval_seconds.max(1).into()))),
        timeout: Some(nanoseconds(container::HEALTH_TIMEOUT)),
        retries: Some(container::HEALTH_RETRIES),
        start_period: Some(nanoseconds(container::HEALTH_START)),
        ..Default::default()
    }
}

pub(in super::super) fn log_config(driver: &str) -> Option<HostConfigLogConfig> {
    Some(HostConfigLogConfig { typ: Some(driver.to_owned()), config: log_options(driver) })
}

pub(in super::super) fn log_options(driver: &str) -> Option<std::collections::HashMap<String, String>> {
    matches!(driver, "local" | "json-file")
        .then(|| [("max-size", "20m"), ("max-file", "5")].map(|(k, v)| (k.to_owned(), v.to_owned())).into())
}

pub(in super::super) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

pub(super) fn archive(files: &[container::File]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for file in files {
        let text = file.text.expose_secret().as_bytes();
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o400);
        header.set_uid(container::USER.into());
        header.set_gid(container::USER.into());
        archive.append_data(&mut header, file.name, text)?;
    }
    archive.into_inner()
}
