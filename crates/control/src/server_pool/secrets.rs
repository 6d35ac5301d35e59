//! What is made up for a managed server before any of it exists: its admin's password, and a certificate of Freehold's
//! own authority. All of it is sealed in the store first.

use freehold_drivers::secrets::{Context, Password, Sealer, scram_verifier};
use freehold_drivers::server::managed::{Authority, AuthorityError, Issued};
use freehold_drivers::server::sql::Dsn;
use freehold_durable::Failure;
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx;
use secrecy::{ExposeSecret, SecretString};
use sqlx::PgConnection;
use uuid::Uuid;

use super::store::{self, ManagedRow};
use crate::plane::Core;
use crate::server::hands;
use crate::stock::store as clock;

pub const ADMIN: &str = "freehold_admin";
const PASSWORD_LENGTH: usize = 40;
const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(30 * 366 * 24);
/// A server gets a new one whenever it is updated, `dev`'s pooler at each start. A restart for nothing but a certificate
/// would be worse than a long life.
const CERTIFICATE_LIFE: SignedDuration = SignedDuration::from_hours(10 * 366 * 24);

/// What is to be written down about one server.
pub struct Minted {
    pub seal_id: Uuid,
    dsn_sealed: Vec<u8>,
    admin_verifier: String,
    certificate: Option<Certificate>,
}

pub struct Certificate {
    authority: String,
    pem: String,
    key_sealed: Vec<u8>,
    until: Timestamp,
}

/// With the authority that vouches for it, in PEM.
pub struct Vouched {
    pub authority: String,
    pub issued: Issued,
}

pub async fn mint(core: &Core, row: &ManagedRow, dsn: &Dsn) -> Result<Minted, Failure> {
    let seal_id = Uuid::now_v7();
    let certificate = certificate(core, row, seal_id).await?;
    let (sealer, dsn) = (core.sealer.clone(), dsn.clone());
    // A verifier takes milliseconds of CPU.
    let minted = tokio::task::spawn_blocking(move || {
        let password = Password::random(PASSWORD_LENGTH);
        let admin_verifier = scram_verifier(&password);
        let dsn_sealed = seal_dsn(&sealer, seal_id, 1, &dsn.with_user(ADMIN, password));
        Minted { seal_id, dsn_sealed, admin_verifier, certificate }
    });
    minted.await.map_err(|error| Failure::transient("panicked", error.to_string()))
}

pub fn seal_dsn(sealer: &Sealer, seal_id: Uuid, version: i32, dsn: &Dsn) -> Vec<u8> {
    sealer.seal(&hands::dsn_context(seal_id, version), dsn.expose_url().as_bytes())
}

impl Minted {
    pub async fn save(&self, tx: &mut PgConnection, id: &str) -> sqlx::Result<()> {
        let certificate = self.certificate.as_ref();
        let secrets = store::Secrets {
            dsn_sealed: &self.dsn_sealed,
            seal_id: self.seal_id,
            admin_verifier: &self.admin_verifier,
            ca_certificate: certificate.map(|certificate| certificate.authority.as_str()),
            certificate: certificate.map(|certificate| certificate.pem.as_str()),
            certificate_key_sealed: certificate.map(|certificate| certificate.key_sealed.as_slice()),
            certificate_until: certificate.map(|certificate| certificate.until.to_sqlx()),
        };
        store::set_secrets(tx, id, &secrets).await
    }
}

impl Certificate {
    pub async fn save(&self, tx: &mut PgConnection, id: &str) -> sqlx::Result<()> {
        store::set_certificate(tx, id, &self.authority, &self.pem, &self.key_sealed, self.until.to_sqlx()).await
    }
}

/// A new one for where the server is reached; None for a server without TLS. Its key is sealed with the server's seal id.
pub async fn certificate(core: &Core, row: &ManagedRow, seal_id: Uuid) -> Result<Option<Certificate>, Failure> {
    if !row.definition.tls {
        return Ok(None);
    }
    let Vouched { authority, issued } = vouch(core, &[&row.tenant_host]).await?;
    let key = issued.key_pem.expose_secret().as_bytes();
    let key_sealed = core.sealer.seal(&key_context(seal_id), key);
    Ok(Some(Certificate { authority, pem: issued.certificate_pem, key_sealed, until: issued.until }))
}

/// A certificate for these names and addresses, by the authority of all managed servers.
pub async fn vouch(core: &Core, names: &[&str]) -> Result<Vouched, Failure> {
    let now = clock::now(&core.store).await?.to_jiff();
    let authority = authority(core, now).await?;
    let issued = authority.issue(names, now, CERTIFICATE_LIFE).map_err(|error| failure(&error))?;
    Ok(Vouched { authority: authority.certificate_pem().to_owned(), issued })
}

/// The certificate's key, opened.
pub fn key(sealer: &Sealer, row: &ManagedRow) -> Result<SecretString, Failure> {
    let Some(sealed) = &row.certificate_key_sealed else { return Ok(SecretString::from(String::new())) };
    let opened = sealer.open_password(&key_context(row.dsn_seal_id), sealed).map_err(|error| {
        Failure::stuck("sealed_secret_unreadable", format!("certificate key of server {}: {error}", row.id))
    })?;
    Ok(SecretString::from(opened.expose().to_owned()))
}

/// The one that vouches for all managed servers; made when it is first needed.
async fn authority(core: &Core, now: Timestamp) -> Result<Authority, Failure> {
    if let Some(found) = load(core).await? {
        return Ok(found);
    }
    let made = Authority::create(now, AUTHORITY_LIFE).map_err(|error| failure(&error))?;
    let id = Uuid::now_v7();
    let sealed = core.sealer.seal(&authority_context(id), made.key_pem().expose_secret().as_bytes());
    store::put_authority(&core.store, id, made.certificate_pem(), &sealed).await?;
    // Of two that were made at once, the first counts.
    load(core).await?.ok_or_else(|| Failure::transient("authority_missing", "the certificate authority was not kept"))
}

async fn load(core: &Core) -> Result<Option<Authority>, Failure> {
    let Some((id, certificate, sealed)) = store::authority(&core.store).await? else { return Ok(None) };
    let key = core.sealer.open_password(&authority_context(id), &sealed).map_err(|error| {
        Failure::stuck("sealed_secret_unreadable", format!("key of the certificate authority: {error}"))
    })?;
    let key = SecretString::from(key.expose().to_owned());
    Authority::load(&certificate, &key).map(Some).map_err(|error| failure(&error))
}

fn key_context(id: Uuid) -> Context {
    Context { id, field: "certificate_key", version: 1 }
}

fn authority_context(id: Uuid) -> Context {
    Context { id, field: "authority_key", version: 1 }
}

fn failure(error: &AuthorityError) -> Failure {
    Failure::permanent("certificate_failed", hands::chain(error))
}
