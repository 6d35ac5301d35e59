//! The certificate that clients are shown, and its key: beside PgBouncer's own files, for its user alone.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::super::PoolerError;
use super::super::seal::replace;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl CertificateFiles {
    /// `directory` is PgBouncer's, and there: [`super::Supervised::prepare`].
    pub fn of(directory: &Path) -> Self {
        Self { certificate: directory.join("client.crt"), key: directory.join("client.key") }
    }

    /// Each is written whole or not at all. Nobody reloads meanwhile: a certificate and another one's key serve no client.
    pub fn write(&self, certificate_pem: &str, key_pem: &SecretString) -> Result<(), PoolerError> {
        replace(&self.key, key_pem.expose_secret().as_bytes())?;
        replace(&self.certificate, certificate_pem.as_bytes())
    }
}
