//! `[pooler.platform]`: poolers that Freehold starts itself, and where.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use freehold_api::id::PoolerId;
use freehold_api::pooler::PoolerPlatform as Kind;
use freehold_drivers::server::sql::SslMode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::platform::Platforms;
use super::size::{Ports, Size};
use freehold_drivers::platform::docker::DockerMode;

/// Leaves room for the number that a pooler's name ends with.
const NAME_MAX: usize = 40;
/// What a pooler of a few hundred databases needs, with its agent.
const MEMORY_MIN: u64 = 64 << 20;

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = settings::PoolerPlatform)]
pub struct PoolerPlatform {
    /// `process`: this machine's programs. `docker`: containers of one Engine.
    pub kind: Kind,
    /// How many there may be at most.
    #[serde(default = "maximum")]
    pub maximum_poolers: u32,
    /// Databases that must fit at any time: with fewer another pooler is started. A tenth of `pooler.capacity` when absent.
    #[serde(default)]
    pub headroom: Option<u32>,
    /// What their names begin with.
    #[serde(default = "name")]
    pub name: String,
    /// Where tenants reach them. On loopback they listen there alone.
    #[serde(default = "loopback")]
    pub address: String,
    /// A port for each; it keeps it for life.
    #[serde(default = "ports")]
    #[schema(value_type = String, format = "first-last")]
    pub ports: Ports,
    /// How agents reach the plane; this process where absent, which `docker` may not leave out.
    #[serde(default)]
    #[schema(format = "http(s)://…")]
    pub plane_url: Option<String>,
    /// What tenants use, as libpq spells it: `verify-full` with a certificate when absent, else `disable`.
    #[serde(default)]
    #[schema(pattern = "^(disable|allow|prefer|require|verify-ca|verify-full)$")]
    pub sslmode: Option<String>,
    /// PEM file that clients are shown; PgBouncer's user reads it.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "path")]
    pub certificate: Option<PathBuf>,
    /// PEM file with its key.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "path")]
    pub certificate_key: Option<PathBuf>,
    /// PEM file that tenants are told to verify it with, where the authority is not a public one.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "path")]
    pub ca_certificate: Option<PathBuf>,
    /// Towards all servers: verified with `server_ca` when absent, else off. Servers that Freehold runs admit TLS alone: name
    /// `server_ca`, or say offered.
    #[serde(default)]
    pub server_tls: Option<ServerTls>,
    /// PEM file with the authority that vouches for the servers.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "path")]
    pub server_ca: Option<PathBuf>,
    /// Of `process`, required: each has a directory of its own in it. At most some 60 bytes long.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "path")]
    pub data_dir: Option<PathBuf>,
    /// Of `process`: the program; from `PATH`, else `/usr/sbin`, when absent.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "path")]
    pub pgbouncer: Option<PathBuf>,
    /// Of `process`: the user PgBouncer runs as where Freehold is root; postgres, else nobody, when absent.
    #[serde(default)]
    pub run_as: Option<String>,
    /// Of `docker`, required: made by `deploy/images/pooler/build`.
    #[serde(default)]
    pub image: Option<String>,
    /// Of `docker`: a network of the Engine's, or `host`; how they reach servers and the plane.
    #[serde(default)]
    pub network: Option<String>,
    /// Of `docker`; PgBouncer uses one. Unlimited when absent.
    #[serde(default)]
    #[schema(format = "cores")]
    pub cpus: Option<f64>,
    /// Of `docker`; at least 64M. Unlimited when absent.
    #[serde(default)]
    #[schema(value_type = Option<Size>)]
    pub memory: Option<Size>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerTls {
    Verified,
    Offered,
    Off,
}

fn maximum() -> u32 {
    4
}
fn name() -> String {
    "pooler".into()
}
fn loopback() -> String {
    "127.0.0.1".into()
}
fn ports() -> Ports {
    Ports { first: 6432, last: 6531 }
}

impl PoolerPlatform {
    pub fn headroom(&self, capacity: u32) -> u32 {
        self.headroom.unwrap_or((capacity / 10).max(1))
    }

    pub fn sslmode(&self) -> &str {
        match &self.sslmode {
            Some(said) => said,
            None if self.certificate.is_some() => "verify-full",
            None => "disable",
        }
    }

    /// How agents reach the plane that listens there.
    pub fn plane_url(&self, listen: SocketAddr) -> String {
        let here = || {
            let ip = match listen.ip() {
                ip if !ip.is_unspecified() => ip,
                IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
                IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            };
            format!("http://{}", SocketAddr::new(ip, listen.port()))
        };
        self.plane_url.clone().unwrap_or_else(here)
    }

    pub(super) fn check(&self, capacity: u32, platforms: &Platforms) -> Result<(), String> {
        if self.maximum_poolers == 0 {
            return Err("maximum_poolers must be at least 1; leave [pooler.platform] out for none".into());
        }
        if self.maximum_poolers > self.ports.count() {
            let (count, wanted) = (self.ports.count(), self.maximum_poolers);
            return Err(format!("ports {} are {count} ports, and there may be {wanted} poolers", self.ports));
        }
        let headroom = self.headroom(capacity);
        if headroom > capacity {
            return Err(format!("headroom is {headroom}, and one pooler holds {capacity} databases (pooler.capacity)"));
        }
        if self.name.len() > NAME_MAX || format!("{}-1", self.name).parse::<PoolerId>().is_err() {
            let name = &self.name;
            return Err(format!("name is {name:?}; expected lowercase letters, digits and dashes, at most {NAME_MAX}"));
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
        let address = &self.address;
        if address.is_empty() || !address.bytes().all(is_name) && address.parse::<IpAddr>().is_err() {
            return Err(format!("address is {address:?}; expected a host name or an address, without a port"));
        }
        self.check_tls()?;
        if let Some(url) = &self.plane_url
            && !(url.starts_with("http://") || url.starts_with("https://"))
        {
            return Err(format!("plane_url is {url:?}; expected for example https://freehold.example.com"));
        }
        match self.kind {
            Kind::Process => self.check_process(platforms),
            Kind::Docker => self.check_docker(platforms),
        }
    }

    fn check_tls(&self) -> Result<(), String> {
        if self.certificate.is_some() != self.certificate_key.is_some() {
            return Err("certificate and certificate_key belong together: name both, or neither".into());
        }
        let is_loopback =
            self.address == "localhost" || self.address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if self.certificate.is_none() && !is_loopback && self.sslmode.is_none() {
            return Err(format!(
                "tenants would reach {} unencrypted: name certificate and certificate_key, or say sslmode = \"disable\"",
                self.address
            ));
        }
        if self.sslmode().parse::<SslMode>().is_err() {
            let modes = SslMode::ALL.map(SslMode::as_str).join(", ");
            return Err(format!("sslmode is {:?}; use one of libpq's: {modes}", self.sslmode()));
        }
        let requires = ["require", "verify-ca", "verify-full"].contains(&self.sslmode());
        if requires && self.certificate.is_none() {
            return Err(format!(
                "sslmode {} takes a certificate: name certificate and certificate_key",
                self.sslmode()
            ));
        }
        match (self.server_tls, &self.server_ca) {
            (Some(ServerTls::Verified), None) => {
                Err("server_tls = \"verified\" takes an authority: name it with server_ca".into())
            }
            (Some(ServerTls::Offered | ServerTls::Off), Some(_)) => {
                Err("server_ca goes with server_tls = \"verified\" alone: leave out one of them".into())
            }
            _ => Ok(()),
        }
    }

    fn check_process(&self, platforms: &Platforms) -> Result<(), String> {
        if self.image.is_some() || self.network.is_some() || self.cpus.is_some() || self.memory.is_some() {
            return Err("process runs this machine's programs; leave image, network, cpus and memory out".into());
        }
        match &self.data_dir {
            None => return Err("process needs data_dir, a directory for the poolers".into()),
            Some(dir) if !dir.is_absolute() => return Err("data_dir must be an absolute path".into()),
            Some(_) => {}
        }
        let servers = platforms.process.as_ref().map(|process| process.ports);
        match servers.filter(|servers| servers.first <= self.ports.last && self.ports.first <= servers.last) {
            Some(servers) => Err(format!("ports {} overlap with those of [platform.process], {servers}", self.ports)),
            None => Ok(()),
        }
    }

    fn check_docker(&self, platforms: &Platforms) -> Result<(), String> {
        if self.data_dir.is_some() || self.pgbouncer.is_some() || self.run_as.is_some() {
            return Err("docker runs an image; leave data_dir, pgbouncer and run_as out".into());
        }
        let Some(docker) = &platforms.docker else {
            return Err("its kind is docker, and there is no [platform.docker]".into());
        };
        if docker.mode != DockerMode::Engine {
            return Err("poolers run on one Engine; [platform.docker] has mode = \"swarm\"".into());
        }
        if self.image.is_none() {
            return Err("docker makes poolers from an image, and image is missing".into());
        }
        if self.plane_url.is_none() {
            return Err("docker needs plane_url: how a container reaches this plane".into());
        }
        match (self.memory, self.cpus) {
            (Some(memory), _) if memory.0 < MEMORY_MIN => Err("memory must be at least 64M".into()),
            (_, Some(cpus)) if !(cpus.is_finite() && cpus > 0.0) => Err("cpus must be more than 0".into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<PoolerPlatform, String> {
        let platform: PoolerPlatform = toml::from_str(text).map_err(|error| error.to_string())?;
        let docker = || toml::from_str("[docker]\nmode = \"engine\"").unwrap();
        let process = || toml::from_str("[process]\ndata_dir = \"/s\"").unwrap();
        let platforms = if platform.kind == Kind::Docker { docker() } else { process() };
        platform.check(500, &platforms).map(|()| platform)
    }

    #[test]
    fn a_platform_for_poolers_needs_little() {
        let process = check("kind = \"process\"\ndata_dir = \"/p\"").unwrap();
        assert_eq!((process.headroom(500), process.headroom(3), process.sslmode()), (50, 1, "disable"));
        let urls =
            ["127.0.0.1:8400", "0.0.0.0:8400", "[::]:1", "10.0.0.7:1"].map(|at| process.plane_url(at.parse().unwrap()));
        assert_eq!(urls, ["http://127.0.0.1:8400", "http://127.0.0.1:8400", "http://[::1]:1", "http://10.0.0.7:1"]);
        let tls = "kind = \"process\"\ndata_dir = \"/p\"\naddress = \"p.example\"\ncertificate = \"c\"\ncertificate_key = \"k\"";
        assert_eq!(check(tls).unwrap().sslmode(), "verify-full");
        check("kind = \"docker\"\nimage = \"i\"\nplane_url = \"http://p:1\"\nmemory = \"256M\"\ncpus = 1").unwrap();
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (text, why) in [
            ("kind = \"process\"", "data_dir"),
            ("kind = \"nomad\"", "unknown variant"),
            ("kind = \"process\"\ndata_dir = \"p\"", "absolute"),
            ("kind = \"process\"\ndata_dir = \"/p\"\nimage = \"i\"", "leave image"),
            ("kind = \"process\"\ndata_dir = \"/p\"\nports = \"8700-8899\"", "overlap"),
            ("kind = \"process\"\ndata_dir = \"/p\"\nports = \"6432-6433\"\nmaximum_poolers = 3", "2 ports"),
            ("kind = \"process\"\ndata_dir = \"/p\"\nmaximum_poolers = 0", "at least 1"),
            ("kind = \"process\"\ndata_dir = \"/p\"\nheadroom = 501", "headroom"),
            ("kind = \"process\"\ndata_dir = \"/p\"\nname = \"No\"", "lowercase"),
            ("kind = \"process\"\ndata_dir = \"/p\"\naddress = \"a:1\"", "without a port"),
            ("kind = \"process\"\ndata_dir = \"/p\"\naddress = \"p.example\"", "unencrypted"),
            ("kind = \"process\"\ndata_dir = \"/p\"\ncertificate = \"c\"", "belong together"),
            ("kind = \"process\"\ndata_dir = \"/p\"\nsslmode = \"require\"", "takes a certificate"),
            ("kind = \"process\"\ndata_dir = \"/p\"\nsslmode = \"maybe\"", "libpq"),
            ("kind = \"process\"\ndata_dir = \"/p\"\nserver_tls = \"verified\"", "server_ca"),
            ("kind = \"process\"\ndata_dir = \"/p\"\nplane_url = \"p:1\"", "plane_url"),
            ("kind = \"docker\"\nplane_url = \"http://p:1\"", "image is missing"),
            ("kind = \"docker\"\nimage = \"i\"", "needs plane_url"),
            ("kind = \"docker\"\nimage = \"i\"\nplane_url = \"http://p\"\nmemory = \"1M\"", "at least 64M"),
            ("kind = \"docker\"\nimage = \"i\"\nplane_url = \"http://p\"\nrun_as = \"x\"", "leave data_dir"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
