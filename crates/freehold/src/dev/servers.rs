//! The clusters of `freehold dev`: `local-1`, which also holds the control store, and as many more as are asked for.
//! All end together.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};

use freehold_control::plane::Plane;
use freehold_control::server::dev as local;
use freehold_drivers::platform::process::{Binaries, Cluster, ClusterOptions, ProcessError};
use futures::future::{join_all, try_join_all};

use super::directory::{Directory, Other, Remembered};
use crate::prerequisite::Missing;

pub const FIRST: &str = "local-1";
const PORT_DEFAULT: u16 = 8432;
const MOST: u32 = 64;

/// What is asked for, and what there was before.
pub struct Servers {
    binaries: Binaries,
    run_as: Option<String>,
    /// None: as before.
    count: Option<u32>,
    capacity: u32,
    remembered: Remembered,
    running: Vec<Running>,
    first_was_there: bool,
}

struct Running {
    name: String,
    cluster: Cluster,
    /// It was not started the last time.
    was_parked: bool,
}

impl Servers {
    pub fn new(
        dir: &Directory,
        binaries: Binaries,
        run_as: Option<String>,
        count: Option<u32>,
        port: Option<u16>,
        capacity: u32,
    ) -> Result<Self, Missing> {
        if count.is_some_and(|count| count == 0 || count > MOST) {
            return Err(Missing::new(format!("--servers must be from 1 to {MOST}")));
        }
        let mut remembered = dir.remembered()?;
        let first = port.or(remembered.postgres_port).unwrap_or(PORT_DEFAULT);
        remembered.postgres_port = Some(first);
        if let Some(other) = remembered.others.iter().find(|other| other.port == first) {
            return Err(Missing::new(format!("port {first} is {}'s: choose another with --postgres-port", other.name)));
        }
        let first_was_there = dir.server(FIRST).exists();
        Ok(Self { binaries, run_as, count, capacity, remembered, running: Vec::new(), first_was_there })
    }

    pub fn first_port(&self) -> u16 {
        self.remembered.postgres_port.unwrap_or(PORT_DEFAULT)
    }

    /// Of all that were and are.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        std::iter::once(self.first_port()).chain(self.remembered.others.iter().map(|other| other.port))
    }

    pub fn pooler_port(&self) -> Option<u16> {
        self.remembered.pooler_port
    }

    pub fn keep_pooler_port(&mut self, dir: &Directory, port: u16) -> Result<(), Missing> {
        self.remembered.pooler_port = Some(port);
        dir.remember(&self.remembered)
    }

    pub fn first(&self) -> &Cluster {
        &self.running[0].cluster
    }

    /// The one with the control store, which knows whom the others hold.
    pub async fn start_first(&mut self, dir: &Directory) -> Result<(), Missing> {
        let cluster = self.cluster(dir, FIRST, self.first_port())?;
        cluster.ensure_initialised().await.map_err(first_not_started)?;
        cluster.start().await.map_err(first_not_started)?;
        self.running.push(Running { name: FIRST.into(), cluster, was_parked: false });
        dir.remember(&self.remembered)
    }

    /// The others, all at once: those that are asked for, and those that tenants live on.
    pub async fn start_others(&mut self, dir: &Directory, plane: &Plane, taken: &[SocketAddr]) -> Result<(), Missing> {
        let with_tenants = local::with_tenants(plane).await.map_err(|refused| Missing::new(refused.0.to_string()))?;
        let before = self.remembered.others.clone();
        self.plan(&with_tenants, taken)?;
        let mut clusters = Vec::new();
        for other in self.remembered.others.iter().filter(|other| other.started) {
            let was_parked = before.iter().any(|before| before.name == other.name && !before.started);
            clusters.push(Running {
                name: other.name.clone(),
                cluster: self.cluster(dir, &other.name, other.port)?,
                was_parked,
            });
        }
        let started = join_all(clusters.iter().map(|running| running.cluster.start())).await;
        let outcomes: Vec<(String, Result<(), ProcessError>)> =
            clusters.iter().map(|running| running.name.clone()).zip(started).collect();
        self.running.extend(clusters);
        for (name, outcome) in outcomes {
            outcome.map_err(|error| Missing::because(&format!("start server {name}"), &error))?;
        }
        Ok(())
    }

    /// Tells the plane where they are, and keeps it for the next start. Those that are not started are out of the way.
    pub async fn register(&self, dir: &Directory, plane: &Plane) -> Result<(), Missing> {
        let refused = |refused: freehold_control::http::problem::Refused| Missing::new(refused.0.to_string());
        try_join_all(self.running.iter().map(|running| {
            let (host, port) = running.cluster.address();
            let dsn = running.cluster.admin_dsn().public();
            local::ensure(plane, &running.name, dsn, host, port, self.capacity)
        }))
        .await
        .map_err(refused)?;
        for running in self.running.iter().filter(|running| running.was_parked) {
            local::unpark(plane, &running.name).await.map_err(refused)?;
        }
        for other in self.remembered.others.iter().filter(|other| !other.started) {
            local::park(plane, &other.name).await.map_err(refused)?;
        }
        dir.remember(&self.remembered)
    }

    /// Cleanly, all at once.
    pub async fn stop(&self) {
        join_all(self.running.iter().map(|running| running.cluster.stop())).await;
    }

    /// For people: what runs where, and what does not and why.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .running
            .iter()
            .map(|running| {
                let (host, port) = running.cluster.address();
                format!("{host}:{port}  ({})", running.name)
            })
            .collect();
        let asked = self.count.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
        for (index, other) in self.remembered.others.iter().enumerate() {
            match (other.started, index + 1 < asked) {
                (true, true) => {}
                (true, false) => {
                    lines.push(format!("{} is more than --servers asks for: tenants live there", other.name))
                }
                (false, _) => lines.push(format!(
                    "{} is not started: no tenant lives there (it is kept; --servers {} starts it)",
                    other.name,
                    index + 2
                )),
            }
        }
        lines
    }

    pub fn was_there(&self) -> bool {
        self.first_was_there
    }

    /// Which of the others are to run. Names and ports, once given, stay.
    fn plan(&mut self, with_tenants: &BTreeSet<String>, taken: &[SocketAddr]) -> Result<(), Missing> {
        let others = &mut self.remembered.others;
        let Some(count) = self.count else { return Ok(()) };
        let wanted = usize::try_from(count).unwrap_or(1).saturating_sub(1);
        while others.len() < wanted {
            let name = format!("local-{}", others.len() + 2);
            let last = others.last().map_or(self.remembered.postgres_port.unwrap_or(PORT_DEFAULT), |other| other.port);
            let is_free = |port: &u16| {
                !others.iter().any(|other| other.port == *port)
                    && !taken.iter().any(|address| address.port() == *port)
                    && TcpListener::bind(("127.0.0.1", *port)).is_ok()
            };
            let port = (last.saturating_add(1)..u16::MAX).find(is_free);
            let port = port.ok_or_else(|| Missing::new(format!("no port above {last} is free for {name}")))?;
            others.push(Other { name, port, started: true });
        }
        for (index, other) in others.iter_mut().enumerate() {
            other.started = index < wanted || with_tenants.contains(&other.name);
        }
        Ok(())
    }

    fn cluster(&self, dir: &Directory, name: &str, port: u16) -> Result<Cluster, Missing> {
        let mut options = ClusterOptions::new(self.binaries.clone(), dir.server(name), dir.sockets(), port);
        options.run_as.clone_from(&self.run_as);
        options.neighbours = self.count.unwrap_or(1).max(u32::try_from(self.remembered.others.len()).unwrap_or(0) + 1);
        Ok(Cluster::new(options)?)
    }
}

fn first_not_started(error: ProcessError) -> Missing {
    match &error {
        ProcessError::PortTaken { .. } => Missing::new(format!("{error} with --postgres-port")),
        _ => Missing::from(error),
    }
}
