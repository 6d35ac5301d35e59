//! The only thing about a password that a pooler's configuration can hold.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// `SCRAM-SHA-256$4096:salt$stored:server`. It prints as `Verifier(…)`: with one in hand passwords can be guessed offline.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Verifier(String);

#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[error(
    "expected a SCRAM-SHA-256 verifier, which looks like SCRAM-SHA-256$4096:salt$key:key; a pooler is given no passwords"
)]
pub struct NotAVerifier;

impl Verifier {
    pub fn parse(text: impl Into<String>) -> Result<Self, NotAVerifier> {
        let text = text.into();
        match is_verifier(&text) {
            true => Ok(Self(text)),
            false => Err(NotAVerifier),
        }
    }

    /// One that no password fits: its stored key is no hash of any key that is known. The same for a role every time,
    /// so that files do not change by themselves, and with a salt that looks like anybody's.
    pub fn unusable(role: &str) -> Self {
        let salt = Sha256::digest(format!("freehold unusable {role}"));
        let nothing = STANDARD.encode([0u8; 32]);
        Self(format!("SCRAM-SHA-256$4096:{}${nothing}:{nothing}", STANDARD.encode(&salt[..16])))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_verifier(text: &str) -> bool {
    let parts = || {
        let (iterations, rest) = text.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
        let (salt, keys) = rest.split_once('$')?;
        let (stored, server) = keys.split_once(':')?;
        Some((iterations, salt, stored, server))
    };
    let Some((iterations, salt, stored, server)) = parts() else { return false };
    let bytes = |text: &str| STANDARD.decode(text).unwrap_or_default().len();
    iterations.parse::<u32>().is_ok_and(|count| count >= 1 && iterations.bytes().all(|byte| byte.is_ascii_digit()))
        && bytes(salt) > 0
        && bytes(stored) == 32
        && bytes(server) == 32
}

impl TryFrom<String> for Verifier {
    type Error = NotAVerifier;

    fn try_from(text: String) -> Result<Self, NotAVerifier> {
        Self::parse(text)
    }
}

impl From<Verifier> for String {
    fn from(verifier: Verifier) -> Self {
        verifier.0
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::{Password, scram_verifier};

    #[test]
    fn verifier_is_scram_or_nothing() {
        let real = scram_verifier(&Password::random(20));
        let verifier = Verifier::parse(real.clone()).unwrap();
        assert_eq!(verifier.as_str(), real);
        assert_eq!(format!("{verifier:?}"), "Verifier(…)");
        for other in ["", "secret", "md50123456789abcdef0123456789abcdef", "SCRAM-SHA-256$4096:x$y:z"] {
            assert_eq!(Verifier::parse(other), Err(NotAVerifier), "{other}");
        }
        let quoted = format!("{real}\"\n\"admin\" \"secret");
        assert_eq!(Verifier::parse(quoted), Err(NotAVerifier));
        assert!(serde_json::from_str::<Verifier>("\"secret\"").is_err());
    }

    #[test]
    fn unusable_verifier_has_the_form_and_stays_the_same() {
        let one = Verifier::unusable("acme");
        assert_eq!(Verifier::parse(one.as_str()).unwrap(), one);
        assert_eq!(one, Verifier::unusable("acme"));
        assert_ne!(one, Verifier::unusable("other"));
    }
}
