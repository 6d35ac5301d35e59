//! What a postmaster reads: written from the record before each start and each reload.

use std::fs;

use secrecy::ExposeSecret;

use super::super::cluster::{ADMIN_ROLE, Account};
use super::super::settings;
use super::place::{Place, replace};
use super::record::{Record, listen_addresses};
use crate::platform::{PlatformError, Postgres};

/// The certificate and its key, which only its user reads.
pub(super) fn certificate(place: &Place, postgres: &Postgres, account: &Account) -> Result<(), PlatformError> {
    let put = |path: std::path::PathBuf, text: &str| match fs::read(&path) {
        Ok(there) if there == text.as_bytes() => Ok(()),
        _ => replace(&path, text.as_bytes(), Some(account)),
    };
    put(place.key(), postgres.certificate_key.expose_secret())?;
    put(place.certificate(), &postgres.certificate_pem)
}

pub(super) fn configuration(place: &Place, record: &Record, account: &Account) -> Result<(), PlatformError> {
    let definition = &record.definition;
    let data = place.data(definition);
    let mut settings = definition.settings.clone();
    let mut set = |name: &str, value: String| drop(settings.insert(name.to_owned(), value));
    set("listen_addresses", listen_addresses(&definition.host).into());
    set("port", definition.port.to_string());
    set("unix_socket_directories", place.socket_dir().display().to_string());
    set("unix_socket_permissions", "0700".into());
    set("log_directory", place.log_dir().display().to_string());
    if definition.wants_tls() {
        set("ssl_cert_file", place.certificate().display().to_string());
        set("ssl_key_file", place.key().display().to_string());
    }
    let text = settings::file(settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    replace(&data.join(settings::FILE), text.as_bytes(), Some(account))?;
    replace(&data.join("pg_hba.conf"), hba(&definition.hba).as_bytes(), Some(account))?;
    let ident = settings::ident(&account.machine_users());
    replace(&data.join("pg_ident.conf"), ident.as_bytes(), Some(account))
}

/// On the private socket the machine's Freehold is the admin, and nobody else is anybody.
fn hba(network: &str) -> String {
    format!("local all {ADMIN_ROLE} peer map=freehold\nlocal all all reject\nlocal replication all reject\n{network}")
}
