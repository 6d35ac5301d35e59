use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bollard::query_parameters::{ListContainersOptionsBuilder, LogsOptionsBuilder};
use freehold_drivers::platform::docker::{self, DockerMode, DockerOptions};
use freehold_drivers::platform::{Image, Network, Platform, Storage};
use freehold_drivers::server::managed::{Log, Transport};
use freehold_testkit::{DockerEngine, Port};
use futures::StreamExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::case::World;

/// Everything that carries this label is a test's.
const INSTANCE: &str = "freehold-tests";

pub struct Docker {
    pub major: u16,
    pub mode: DockerMode,
    pub storage: Storage,
    pub socket: String,
    engine: DockerEngine,
    ports: Mutex<Vec<Port>>,
}

impl Docker {
    pub fn engine(major: u16) -> Self {
        Self::new(major, DockerMode::Engine)
    }

    pub fn swarm(major: u16) -> Self {
        Self::new(major, DockerMode::Swarm)
    }

    fn new(major: u16, mode: DockerMode) -> Self {
        let engine = DockerEngine::start(INSTANCE, major);
        let socket = engine.socket.clone();
        Self { major, mode, storage: Storage::Volume, socket, engine, ports: Mutex::default() }
    }

    pub fn options(&self) -> DockerOptions {
        DockerOptions {
            mode: self.mode,
            host: format!("unix://{}", self.socket),
            instance: INSTANCE.into(),
            bind_address: "127.0.0.1".into(),
            health_interval_seconds: 1,
            ..DockerOptions::default()
        }
    }

    pub fn client(&self) -> bollard::Docker {
        // What the engine of the tests understands.
        let version = bollard::ClientVersion { major_version: 1, minor_version: 41 };
        bollard::Docker::connect_with_unix(&self.socket, 30, &version).unwrap()
    }

    /// The one container of a service that runs, or is paused.
    pub async fn container(&self, service: &str) -> String {
        let filters: HashMap<String, Vec<String>> =
            [("label".into(), vec![format!("freehold.service={service}"), format!("freehold.instance={INSTANCE}")])]
                .into();
        let options = ListContainersOptionsBuilder::new().filters(&filters).build();
        let found = self.client().list_containers(Some(options)).await.unwrap();
        assert_eq!(found.len(), 1, "the containers of {service}: {found:?}");
        found[0].id.clone().unwrap()
    }

    pub async fn pid(&self, service: &str) -> Pid {
        let id = self.container(service).await;
        let found = self.client().inspect_container(&id, None).await.unwrap();
        let pid = found.state.unwrap().pid.unwrap();
        assert!(pid > 1, "{service} runs");
        Pid::from_raw(pid.try_into().unwrap())
    }

    /// Its output; fails with what it said.
    pub fn docker(&self, arguments: &[&str]) -> String {
        self.engine.docker(arguments)
    }
}

#[async_trait]
impl World for Docker {
    fn major(&self) -> u16 {
        self.major
    }

    fn log(&self) -> Log {
        Log::Output
    }

    fn transport(&self) -> Transport {
        Transport::Tls
    }

    fn image(&self) -> Option<Image> {
        Some(Image { reference: DockerEngine::image(self.major), credentials: None })
    }

    fn storage(&self) -> Storage {
        self.storage.clone()
    }

    fn network(&self) -> Network {
        let port = Port::reserve();
        let number = port.number;
        self.ports.lock().unwrap().push(port);
        Network::Port { host: "127.0.0.1".into(), port: number }
    }

    async fn platform(&self) -> Arc<dyn Platform> {
        Arc::new(docker::Docker::new(self.options()))
    }

    async fn kill(&self, service: &str) {
        kill(self.pid(service).await, Signal::SIGKILL).unwrap();
    }

    async fn hold(&self, service: &str) {
        self.client().pause_container(&self.container(service).await).await.unwrap();
    }

    async fn release(&self, service: &str) {
        self.client().unpause_container(&self.container(service).await).await.unwrap();
    }

    async fn visible(&self, service: &str) -> Vec<(String, String)> {
        let id = self.container(service).await;
        let mut seen = vec![("docker inspect".to_owned(), self.docker(&["inspect", &id]))];
        let pid = self.pid(service).await;
        for what in ["cmdline", "environ"] {
            let text = std::fs::read(format!("/proc/{pid}/{what}")).unwrap();
            seen.push((what.to_owned(), String::from_utf8_lossy(&text).into_owned()));
        }
        seen.push(("docker top".into(), self.docker(&["top", &id])));
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        let log: Vec<_> = self.client().logs(&id, Some(options)).collect().await;
        seen.push(("docker logs".into(), log.into_iter().flatten().map(|line| line.to_string()).collect()));
        if self.mode == DockerMode::Swarm {
            seen.push(("docker service inspect".into(), self.docker(&["service", "inspect", service])));
            for kind in ["secret", "config"] {
                for id in self.engine.ids(&[kind, "ls"]) {
                    seen.push((format!("docker {kind} inspect"), self.docker(&[kind, "inspect", &id])));
                }
            }
        }
        seen
    }
}
