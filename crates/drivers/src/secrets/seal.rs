//! Seals secrets for the control store: AES-256-GCM, bound to the place where the secret belongs.
//!
//! The associated data is the secret's immutable id, its field and its version, so that a sealed value copied to
//! another row does not open there. Absent: rotation of the key itself; whoever rotates opens with one sealer and
//! seals with the other.

use std::fmt;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use sha2::{Digest, Sha256};
use thiserror::Error;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::key::{self, KEY_LEN, KeyError};
use super::password::Password;
use super::sign::Signer;

/// The place a secret belongs to. A value sealed for one place does not open for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    pub id: Uuid,
    pub field: &'static str,
    pub version: u32,
}

/// Holds the key. Cloning is not offered: share it in an `Arc`.
pub struct Sealer {
    key: RandomizedNonceKey,
    fingerprint: String,
    is_guessable: bool,
    signer: Signer,
}

#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum OpenError {
    #[error("the sealed value is cut short ({len} bytes)")]
    Truncated { len: usize },
    #[error("the sealed value has format {format}, which this version does not know")]
    UnknownFormat { format: u8 },
    #[error("the sealed value does not open with key {fingerprint}: another key, another place, or altered")]
    Refused { fingerprint: String },
    #[error("the sealed value is not text")]
    NotText,
}

/// First byte of everything sealed, so that the format can change one day.
const FORMAT: u8 = 1;

impl Sealer {
    /// Writes a new key to `path` (mode 0600) and answers its sealer. Refuses to overwrite: the old key may be the
    /// only thing that opens what is stored.
    pub fn create_file(path: &Path) -> Result<Self, KeyError> {
        let bytes = key::random();
        key::write(path, &bytes)?;
        Self::from_key(&bytes, path)
    }

    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        Self::from_key(&*key::read(path)?, path)
    }

    /// A key that somebody else keeps: base64 of 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        Self::from_key(&*key::from_text(text)?, Path::new("(given)"))
    }

    /// A key that is never stored.
    pub fn random() -> Self {
        Self::from_key(&key::random(), Path::new("(memory)")).expect("AES-256-GCM takes any 32 bytes")
    }

    /// Recognises a key without telling anything about it.
    pub fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    /// Whether the key was typed or counted rather than drawn.
    pub fn is_guessable(&self) -> bool {
        self.is_guessable
    }

    /// Signs the audit's checkpoints.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    pub fn seal(&self, place: &Context, plain: &[u8]) -> Vec<u8> {
        let mut body = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
        body.extend_from_slice(plain);
        // Fails for 64 GiB and more, or without random numbers: neither leaves anything sensible to do.
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(associated(place)), &mut body)
            .expect("AES-256-GCM seals what fits in memory");
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + body.len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&body);
        sealed
    }

    pub fn open(&self, place: &Context, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let truncated = || OpenError::Truncated { len: sealed.len() };
        let (&format, rest) = sealed.split_first().ok_or_else(truncated)?;
        if format != FORMAT {
            return Err(OpenError::UnknownFormat { format });
        }
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(truncated)?;
        let mut body = Zeroizing::new(body.to_vec());
        let len = self
            .key
            .open_in_place(Nonce::from(nonce), Aad::from(associated(place)), &mut body)
            .map_err(|_| OpenError::Refused { fingerprint: self.fingerprint.clone() })?
            .len();
        body.truncate(len);
        Ok(body)
    }

    pub fn seal_password(&self, place: &Context, password: &Password) -> Vec<u8> {
        self.seal(place, password.expose().as_bytes())
    }

    pub fn open_password(&self, place: &Context, sealed: &[u8]) -> Result<Password, OpenError> {
        let plain = self.open(place, sealed)?;
        std::str::from_utf8(&plain).map(Password::new).map_err(|_| OpenError::NotText)
    }

    fn from_key(bytes: &[u8; KEY_LEN], path: &Path) -> Result<Self, KeyError> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, bytes)
            .map_err(|_| KeyError::Malformed { path: path.to_owned(), why: "AES-256-GCM refuses it".into() })?;
        let digest = Sha256::new().chain_update(b"freehold sealing key").chain_update(bytes).finalize();
        let fingerprint = crate::hex(&digest[..6]);
        let is_guessable = key::is_guessable(bytes);
        Ok(Self { key, fingerprint, is_guessable, signer: Signer::derive(bytes, "freehold audit checkpoints") })
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({})", self.fingerprint)
    }
}

/// Fixed widths first, so that no two places spell the same bytes.
fn associated(place: &Context) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20 + place.field.len());
    bytes.extend_from_slice(place.id.as_bytes());
    bytes.extend_from_slice(&place.version.to_be_bytes());
    bytes.extend_from_slice(place.field.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Context {
        Context { id: Uuid::from_u128(7), field: "password", version: 1 }
    }

    #[test]
    fn seal_opens_only_in_its_own_place_and_with_its_own_key() {
        let sealer = Sealer::random();
        let sealed = sealer.seal(&place(), b"hunter2");
        assert_eq!(sealer.open(&place(), &sealed).unwrap().as_slice(), b"hunter2");
        assert_ne!(sealed, sealer.seal(&place(), b"hunter2"), "a fresh nonce each time");
        for other in [
            Context { id: Uuid::from_u128(8), ..place() },
            Context { field: "verifier", ..place() },
            Context { version: 2, ..place() },
        ] {
            assert!(matches!(sealer.open(&other, &sealed), Err(OpenError::Refused { .. })));
        }
        assert!(matches!(Sealer::random().open(&place(), &sealed), Err(OpenError::Refused { .. })));
    }

    #[test]
    fn seal_notices_every_flipped_bit_and_every_cut() {
        let sealer = Sealer::random();
        let sealed = sealer.seal(&place(), b"x");
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(sealer.open(&place(), &altered).is_err(), "byte {at}");
            assert!(sealer.open(&place(), &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn seal_keeps_passwords_and_prints_only_the_fingerprint() {
        let sealer = Sealer::random();
        let password = Password::random(43);
        let sealed = sealer.seal_password(&place(), &password);
        assert_eq!(sealer.open_password(&place(), &sealed).unwrap().expose(), password.expose());
        assert_eq!(format!("{sealer:?}"), format!("Sealer({})", sealer.fingerprint()));
        assert_eq!(sealer.fingerprint().len(), 12);
    }
}
