//! What a platform is told of one server: its definition, with settings, certificate and the admin's verifier.

use std::time::Duration;

use freehold_api::server::ServerLimits;
use freehold_drivers::platform::{
    Image, Limits, Network, Postgres, Program, RegistryCredentials, Restart, Service, Storage,
};
use freehold_drivers::server::managed::{self, Log};
use freehold_durable::Failure;
use secrecy::SecretString;

use super::secrets::{self, ADMIN};
use super::store::ManagedRow;
use crate::plane::Core;

/// A clean stop writes everything down; killed before, it starts by recovering.
const STOP_GRACE: Duration = Duration::from_secs(120);

/// `initialise`: whether a data directory may be made, which is so until the server was active once.
pub fn of(core: &Core, row: &ManagedRow) -> Result<Service, Failure> {
    let definition = &row.definition.0;
    let bad = |what: String| Failure::permanent("bad_definition", format!("server {}: {what}", row.id));
    let rendered = definition.rendered(log(&row.platform)).map_err(|error| bad(error.to_string()))?;
    let verifier = row.admin_verifier.clone().ok_or_else(|| bad("its secrets are not made yet".into()))?;
    let postgres = Postgres {
        major: definition.postgres,
        settings: rendered.settings,
        hba: managed::hba(definition.transport()).to_owned(),
        admin_role: ADMIN.into(),
        admin_verifier: verifier,
        certificate_pem: row.certificate.clone().unwrap_or_default(),
        certificate_key: secrets::key(&core.sealer, row)?,
        initialise: row.provisioned_at.is_none(),
    };
    let network = match &definition.network {
        Some(network) => Network::Overlay { network: network.clone() },
        None => {
            let port = row.port.and_then(|port| u16::try_from(port).ok());
            Network::Port { host: row.tenant_host.clone(), port: port.ok_or_else(|| bad("it has no port".into()))? }
        }
    };
    Ok(Service {
        name: row.id.clone(),
        generation: u64::try_from(row.generation).unwrap_or(0),
        program: Program::Postgres(postgres),
        image: image(core, row)?,
        limits: limits(&definition.limits),
        storage: match &definition.storage {
            Some(directory) => Storage::Directory { path: directory.path.clone(), mode: directory.mode },
            None => Storage::Volume,
        },
        network,
        constraints: definition.constraints.clone(),
        labels: definition.labels.clone(),
        restart: Restart::default(),
        stop_grace: STOP_GRACE,
    })
}

/// A platform of containers collects what they print.
pub fn log(platform: &str) -> Log {
    if platform == "process" { Log::Files } else { Log::Output }
}

/// With the registry's credentials of the pool, read anew: they may have been changed.
fn image(core: &Core, row: &ManagedRow) -> Result<Option<Image>, Failure> {
    let Some(reference) = row.definition.image.clone() else { return Ok(None) };
    let pool = core.settings.server_pool(&row.pool);
    let credentials = match pool
        .and_then(|pool| pool.registry_username.as_ref().zip(pool.registry_password_file.as_ref()))
    {
        None => None,
        Some((username, file)) => {
            let password = std::fs::read_to_string(file).map_err(|error| {
                let detail = format!("registry_password_file {} of server pool {}: {error}", file.display(), row.pool);
                Failure::transient("registry_password_unreadable", detail)
            })?;
            let password = SecretString::from(password.trim_end_matches(['\r', '\n']).to_owned());
            Some(RegistryCredentials { username: username.clone(), password })
        }
    };
    Ok(Some(Image { reference, credentials }))
}

fn limits(limits: &ServerLimits) -> Limits {
    Limits {
        cpus: limits.cpus,
        memory_bytes: limits.memory_bytes,
        reserved_cpus: limits.reserved_cpus,
        reserved_memory_bytes: limits.reserved_memory_bytes,
    }
}
