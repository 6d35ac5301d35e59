//! `[platform.…]`: where servers of pools run.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use freehold_drivers::platform::docker::{DockerMode, DockerOptions};
use freehold_drivers::platform::nomad::NomadOptions;
use freehold_drivers::secrets::Password;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::secret::Secret;
use super::server_pool::ServerPool;
use super::size::Ports;

#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Platforms {
    /// PostgreSQL as processes of this machine.
    pub process: Option<ProcessPlatform>,
    /// Containers of one Engine, or services of a Swarm.
    pub docker: Option<DockerPlatform>,
    /// Jobs of a Nomad cluster.
    pub nomad: Option<NomadPlatform>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessPlatform {
    /// Each server of this machine has a directory of its own in it.
    #[schema(value_type = String, format = "path")]
    pub data_dir: PathBuf,
    /// What servers listen on, and where tenants reach this machine.
    #[serde(default = "loopback")]
    pub address: String,
    /// A port for each server.
    #[serde(default = "ports")]
    #[schema(value_type = String, format = "first-last")]
    pub ports: Ports,
    /// Where the programs of a major version are, for those that are not where distributions put them.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    pub binaries: BTreeMap<String, PathBuf>,
    /// The user PostgreSQL runs as, where Freehold is root; postgres, else nobody, when absent.
    #[serde(default)]
    pub run_as: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DockerPlatform {
    /// Where tenants reach the ports that servers are given; needed by pools without a network.
    pub address: Option<String>,
    /// A port for each server.
    #[schema(value_type = String, format = "first-last")]
    pub ports: Ports,
    /// Containers of one Engine, or services of a Swarm.
    #[schema(value_type = String, pattern = "^(engine|swarm)$")]
    pub mode: DockerMode,
    /// `unix://…` or `https://…`: the Engine; of a Swarm, a manager.
    pub host: String,
    /// Directory with ca.pem, cert.pem and key.pem, for https.
    #[schema(value_type = Option<String>, format = "path")]
    pub certificates: Option<PathBuf>,
    /// Whose services these are, where several share an engine.
    #[schema(format = "name")]
    pub instance: String,
    /// What published ports of one Engine listen on.
    pub bind_address: String,
    /// Where the engine keeps what servers print.
    #[schema(format = "name")]
    pub log_driver: String,
    /// Between two health checks of a container.
    pub health_interval_seconds: u32,
    /// For directory and cluster, the image's download included.
    pub prepare_deadline_seconds: u32,
}

impl Default for DockerPlatform {
    fn default() -> Self {
        let options = DockerOptions::default();
        Self {
            address: None,
            ports: ports(),
            mode: options.mode,
            host: options.host,
            certificates: options.certificates,
            instance: options.instance,
            bind_address: options.bind_address,
            log_driver: options.log_driver,
            health_interval_seconds: options.health_interval_seconds,
            prepare_deadline_seconds: options.prepare_deadline_seconds,
        }
    }
}

impl DockerPlatform {
    pub fn options(&self) -> DockerOptions {
        DockerOptions {
            mode: self.mode,
            host: self.host.clone(),
            certificates: self.certificates.clone(),
            instance: self.instance.clone(),
            bind_address: self.bind_address.clone(),
            log_driver: self.log_driver.clone(),
            health_interval_seconds: self.health_interval_seconds,
            prepare_deadline_seconds: self.prepare_deadline_seconds,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NomadPlatform {
    /// Where tenants reach the ports that servers are given; needed by pools without a network.
    pub address: Option<String>,
    /// A port for each server.
    #[schema(value_type = String, format = "first-last")]
    pub ports: Ports,
    /// Of any agent.
    #[schema(format = "http(s)://…")]
    pub url: String,
    /// PEM file with the authority of its certificate.
    #[schema(value_type = Option<String>, format = "path")]
    pub ca_file: Option<PathBuf>,
    /// A token for jobs, logs and variables of the namespace.
    pub token: Option<Secret>,
    /// A file with a token for jobs, logs and variables of the namespace.
    #[schema(value_type = Option<String>, format = "path")]
    pub token_file: Option<PathBuf>,
    /// Where its jobs are.
    #[schema(format = "name")]
    pub namespace: String,
    /// The agent's own when absent.
    #[schema(format = "name")]
    pub region: Option<String>,
    /// Where jobs may run.
    pub datacenters: Vec<String>,
    /// Whose services these are, where several share a namespace.
    #[schema(format = "name")]
    pub instance: String,
    /// What a core is worth in Nomad's unit, megahertz.
    pub mhz_per_core: u32,
    /// For directory and cluster, the image's download included.
    pub prepare_deadline_seconds: u32,
}

impl Default for NomadPlatform {
    fn default() -> Self {
        let options = NomadOptions::default();
        Self {
            address: None,
            ports: ports(),
            url: options.url,
            ca_file: options.ca_file,
            token: None,
            token_file: options.token_file,
            namespace: options.namespace,
            region: options.region,
            datacenters: options.datacenters,
            instance: options.instance,
            mhz_per_core: options.mhz_per_core,
            prepare_deadline_seconds: options.prepare_deadline_seconds,
        }
    }
}

impl NomadPlatform {
    pub fn options(&self) -> NomadOptions {
        NomadOptions {
            url: self.url.clone(),
            ca_file: self.ca_file.clone(),
            token: self.token.as_ref().map(|token| Password::new(token.expose_secret())),
            token_file: self.token_file.clone(),
            namespace: self.namespace.clone(),
            region: self.region.clone(),
            datacenters: self.datacenters.clone(),
            instance: self.instance.clone(),
            mhz_per_core: self.mhz_per_core,
            prepare_deadline_seconds: self.prepare_deadline_seconds,
        }
    }
}

fn loopback() -> String {
    "127.0.0.1".into()
}
fn ports() -> Ports {
    Ports { first: 8600, last: 8799 }
}

/// What a pool has to know of its platform.
pub struct Declared<'a> {
    /// Address and range. None: servers are reached by name on a network of the pool's.
    pub ports: Option<(&'a str, Ports)>,
    pub has_images: bool,
}

impl Platforms {
    pub fn declared(&self, name: &str) -> Option<Declared<'_>> {
        match name {
            "process" => {
                let process = self.process.as_ref()?;
                Some(Declared { ports: Some((&process.address, process.ports)), has_images: false })
            }
            "docker" => {
                let docker = self.docker.as_ref()?;
                Some(Declared { ports: docker.address.as_deref().zip(Some(docker.ports)), has_images: true })
            }
            "nomad" => {
                let nomad = self.nomad.as_ref()?;
                Some(Declared { ports: nomad.address.as_deref().zip(Some(nomad.ports)), has_images: true })
            }
            _ => None,
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let docker = self.docker.as_ref().and_then(|docker| Some(("docker", docker.address.as_ref()?)));
        let nomad = self.nomad.as_ref().and_then(|nomad| Some(("nomad", nomad.address.as_ref()?)));
        for (name, address) in docker.into_iter().chain(nomad) {
            check_address(name, address)?;
        }
        if self.nomad.as_ref().is_some_and(|nomad| nomad.token.is_some() && nomad.token_file.is_some()) {
            return Err("nomad.token and nomad.token_file are both there; leave one out".into());
        }
        let Some(process) = &self.process else { return Ok(()) };
        if !process.data_dir.is_absolute() {
            return Err("process.data_dir must be an absolute path".into());
        }
        check_address("process", &process.address)?;
        for major in process.binaries.keys() {
            if !matches!(major.as_str(), "15" | "16" | "17" | "18") {
                return Err(format!("process.binaries: {major:?} is no major version; use 15, 16, 17 or 18"));
            }
        }
        Ok(())
    }

    /// What a pool asks of a platform that it has not, in words for `[[server_pool]] "name": …`.
    pub(super) fn check_pool(&self, pool: &ServerPool) -> Result<(), String> {
        let name = pool.platform.as_str();
        let Some(platform) = self.declared(name) else {
            return Err(match name {
                "process" | "docker" | "nomad" => format!("its platform is {name}, and there is no [platform.{name}]"),
                _ => format!("platform is {name:?}; use process, docker or nomad"),
            });
        };
        match (platform.has_images, &pool.image) {
            (true, None) => return Err(format!("{name} makes servers from an image, and image is missing")),
            (false, Some(_)) => return Err(format!("{name} runs this machine's programs; leave image out")),
            _ => {}
        }
        if !platform.has_images && (pool.network.is_some() || !pool.constraints.is_empty()) {
            return Err(format!("{name} is one machine; leave network and constraints out"));
        }
        let is_loopback = |address: &str| {
            address == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        };
        let is_here = name == "process" && platform.ports.is_some_and(|(address, _)| is_loopback(address));
        if !pool.tls && !is_here {
            return Err("tls = false is for platform process with an address on loopback alone".into());
        }
        if platform.ports.is_none() && pool.network.is_none() {
            return Err(format!("network is missing, and [platform.{name}] has no address and ports"));
        }
        Ok(())
    }

    /// Every server that pools may have must find a port.
    pub(super) fn check_ports(&self, pools: &[ServerPool]) -> Result<(), String> {
        for name in ["process", "docker", "nomad"] {
            let Some((_, ports)) = self.declared(name).and_then(|platform| platform.ports) else { continue };
            let of_range = pools.iter().filter(|pool| pool.platform == name && pool.network.is_none());
            let wanted: u32 = of_range.map(|pool| pool.maximum_servers).sum();
            if wanted > ports.count() {
                return Err(format!(
                    "{name}.ports {ports} are {} ports, and its server pools may have {wanted} servers",
                    ports.count()
                ));
            }
        }
        Ok(())
    }
}

fn check_address(platform: &str, address: &str) -> Result<(), String> {
    let is_name = !address.is_empty() && address.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    match is_name || address.parse::<IpAddr>().is_ok() {
        true => Ok(()),
        false => Err(format!("{platform}.address is {address:?}; expected a host name or an address, without a port")),
    }
}
