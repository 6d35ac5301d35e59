//! What a pooler's configuration has of its agent: where it listens, with which certificates, and who may enter its console.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use freehold_control::pooler::mind::Wanted;
use freehold_drivers::pooler::pgbouncer::Release;
use freehold_drivers::pooler::{ClientTls, Configuration, Console, Limits, Listen, ServerTls};

use crate::prerequisite::Missing;

pub struct Own {
    pub listen: Listen,
    pub console: Console,
    pub client_tls: ClientTls,
    pub server_tls: ServerTls,
    /// It decides what a plan that does not say gets.
    pub release: Release,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tls {
    /// Nobody gets in without
    Required,
    /// Who asks for it gets it
    Offered,
    /// Nobody gets it
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ToServers {
    /// Always, and only to a server that --server-ca vouches for by its name
    Verified,
    /// Where the server has it, whoever it is: for development
    Offered,
    /// Never
    Off,
}

impl Own {
    pub fn configuration(&self, wanted: &Wanted) -> Configuration {
        let Self { listen, console, client_tls, server_tls, .. } = self;
        Configuration {
            generation: wanted.generation,
            listen: listen.clone(),
            console: console.clone(),
            client_tls: client_tls.clone(),
            server_tls: server_tls.clone(),
            limits: Limits { default_mode: self.release.features().default_mode(), ..wanted.served.limits.clone() },
            extra: BTreeMap::new(),
            entries: wanted.served.entries.clone(),
        }
    }
}

/// `ADDRESS:PORT`, once for each address; the port is the same.
pub fn listen(places: &[String]) -> Result<Listen, Missing> {
    let mut addresses = Vec::new();
    let mut ports = Vec::new();
    for place in places {
        let parsed = place.rsplit_once(':').and_then(|(address, port)| {
            let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
            Some((address, port.parse::<u16>().ok().filter(|port| *port > 0)?))
                .filter(|(address, _)| !address.is_empty())
        });
        let Some((address, port)) = parsed else {
            return Err(Missing::new(format!(
                "--listen {place:?} is no ADDRESS:PORT: expected for example 10.0.0.7:6432, [::1]:6432 or *:6432"
            )));
        };
        addresses.push(address.to_owned());
        ports.push(port);
    }
    match ports.as_slice() {
        [port, others @ ..] if others.iter().all(|other| other == port) => Ok(Listen { addresses, port: *port }),
        _ => Err(Missing::new("--listen names two ports: PgBouncer has one, on all its addresses")),
    }
}

/// Unencrypted is what nobody gets by not saying anything, but on this machine.
pub fn client_tls(
    tls: Option<Tls>,
    certificate: Option<&Path>,
    key: Option<&Path>,
    listen: &Listen,
) -> Result<ClientTls, Missing> {
    let files = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((readable(certificate)?, readable(key)?)),
        (None, None) => None,
        _ => return Err(Missing::new("--tls-certificate and --tls-key belong together: name both, or neither")),
    };
    match (tls, files) {
        (None | Some(Tls::Required), Some((certificate, key))) => Ok(ClientTls::Required { certificate, key }),
        (Some(Tls::Offered), Some((certificate, key))) => Ok(ClientTls::Offered { certificate, key }),
        (Some(Tls::Off), None) => Ok(ClientTls::Off),
        (Some(Tls::Off), Some(_)) => {
            Err(Missing::new("--tls off has no use for a certificate: leave out --tls-certificate and --tls-key"))
        }
        (Some(Tls::Required | Tls::Offered), None) => {
            Err(Missing::new("TLS needs a certificate: name it with --tls-certificate and --tls-key"))
        }
        (None, None) if listen.addresses.iter().all(|address| is_loopback(address)) => Ok(ClientTls::Off),
        (None, None) => Err(Missing::new(format!(
            "who connects to {} would do so unencrypted: name --tls-certificate and --tls-key, or say --tls off",
            listen.addresses.join(", ")
        ))),
    }
}

pub fn server_tls(tls: Option<ToServers>, ca: Option<&Path>) -> Result<ServerTls, Missing> {
    match (tls, ca) {
        (None | Some(ToServers::Verified), Some(ca)) => Ok(ServerTls::VerifyFull { ca: readable(ca)? }),
        (Some(ToServers::Verified), None) => {
            Err(Missing::new("servers are verified with an authority: name it with --server-ca"))
        }
        (Some(ToServers::Offered), None) => Ok(ServerTls::Offered),
        (None | Some(ToServers::Off), None) => Ok(ServerTls::Off),
        (Some(ToServers::Offered | ToServers::Off), Some(_)) => {
            Err(Missing::new("--server-ca goes with --server-tls verified alone: leave out one of them"))
        }
    }
}

/// PgBouncer has another working directory, and says little about a file that is not there.
fn readable(path: &Path) -> Result<PathBuf, Missing> {
    let failed = |error: std::io::Error| Missing::because(&format!("read {}", path.display()), &error);
    std::fs::File::open(path).map_err(failed)?;
    std::path::absolute(path).map_err(failed)
}

fn is_loopback(address: &str) -> bool {
    address == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(places: &[&str]) -> Result<Listen, Missing> {
        listen(&places.iter().map(|&place| place.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn places_to_listen_at_have_one_port() {
        let found = places(&["10.0.0.7:6432", "[::1]:6432"]).unwrap();
        assert_eq!(found, Listen { addresses: vec!["10.0.0.7".into(), "::1".into()], port: 6432 });
        assert_eq!(places(&["*:6432"]).unwrap().addresses, ["*"]);
        for wrong in [&["6432"][..], &[":6432"], &["x:0"], &["x:y"], &["a:1", "b:2"], &[]] {
            assert!(places(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn unencrypted_is_said_or_stays_on_this_machine() {
        let (here, there) = (places(&["127.0.0.1:1", "localhost:1"]).unwrap(), places(&["*:1"]).unwrap());
        assert_eq!(client_tls(None, None, None, &here).unwrap(), ClientTls::Off);
        assert!(client_tls(None, None, None, &there).unwrap_err().to_string().contains("--tls off"));
        assert_eq!(client_tls(Some(Tls::Off), None, None, &there).unwrap(), ClientTls::Off);
        let file = Path::new("/dev/null");
        let with = |tls| client_tls(tls, Some(file), Some(file), &there);
        assert!(matches!(with(None).unwrap(), ClientTls::Required { .. }));
        assert!(matches!(with(Some(Tls::Offered)).unwrap(), ClientTls::Offered { .. }));
        assert!(with(Some(Tls::Off)).is_err());
        assert!(client_tls(Some(Tls::Required), None, None, &here).is_err());
        assert!(client_tls(None, Some(file), None, &here).is_err());
        assert!(client_tls(None, Some(Path::new("/nowhere")), Some(file), &here).is_err());
    }

    #[test]
    fn servers_are_verified_where_an_authority_is_named() {
        let ca = Some(Path::new("/dev/null"));
        assert!(matches!(server_tls(None, ca).unwrap(), ServerTls::VerifyFull { .. }));
        assert_eq!(server_tls(None, None).unwrap(), ServerTls::Off);
        assert_eq!(server_tls(Some(ToServers::Offered), None).unwrap(), ServerTls::Offered);
        for (tls, ca) in [(ToServers::Verified, None), (ToServers::Offered, ca), (ToServers::Off, ca)] {
            assert!(server_tls(Some(tls), ca).is_err(), "{tls:?}");
        }
    }
}
