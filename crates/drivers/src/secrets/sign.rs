//! Signs with a key that is derived from the sealing key: nothing more to keep, and whoever verifies needs no secret.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

/// Ed25519.
pub struct Signer(Ed25519KeyPair);

impl Signer {
    /// Another key for each purpose.
    pub(super) fn derive(key: &[u8], purpose: &str) -> Self {
        let seed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), purpose.as_bytes());
        Self(Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).expect("Ed25519 takes any 32 bytes"))
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }

    pub fn public_key(&self) -> [u8; 32] {
        self.0.public_key().as_ref().try_into().expect("public keys of Ed25519 have 32 bytes")
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(…)")
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    #[test]
    fn what_is_signed_is_verified_with_the_public_key_alone() {
        let signer = Signer::derive(&[7; 32], "test");
        let (signature, key) = (signer.sign(b"message"), UnparsedPublicKey::new(&ED25519, signer.public_key()));
        assert!(key.verify(b"message", &signature).is_ok());
        assert!(key.verify(b"massage", &signature).is_err());
        assert_eq!(signer.public_key(), Signer::derive(&[7; 32], "test").public_key());
        assert_ne!(signer.public_key(), Signer::derive(&[7; 32], "another").public_key());
        assert_ne!(signer.public_key(), Signer::derive(&[8; 32], "test").public_key());
        assert_eq!(format!("{signer:?}"), "Signer(…)");
    }
}
