//! A password that prints as `Password(…)` and is wiped when dropped, and the verifier that stands in for it.

use std::fmt;

use rand::TryRng;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

/// A plain password. Whoever needs the text says so: [`Password::expose`].
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

/// Letters and digits only: it survives URLs, shells, pgpass files and INI files without quoting.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

impl Password {
    pub fn new(plain: impl Into<String>) -> Self {
        Self(Zeroizing::new(plain.into()))
    }

    /// `len` characters from the operating system's random numbers; 43 of them carry 256 bits.
    pub fn random(len: usize) -> Self {
        let mut plain = Zeroizing::new(String::with_capacity(len));
        let mut bytes = Zeroizing::new([0u8; 64]);
        while plain.len() < len {
            // Without random numbers nothing may go on: there is no weaker password to fall back to.
            SysRng.try_fill_bytes(bytes.as_mut_slice()).expect("the operating system gives random numbers");
            // Bytes from 248 on are thrown away, otherwise the first letters would come up more often.
            for byte in bytes.iter().filter(|byte| **byte < 248).take(len - plain.len()) {
                plain.push(char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
            }
        }
        Self(plain)
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Password {
    fn from(plain: String) -> Self {
        Self::new(plain)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// The SCRAM-SHA-256 verifier, with a fresh salt: make it once and store it, for the pooler and every server
/// must hold the identical string.
pub fn scram_verifier(password: &Password) -> String {
    postgres_protocol::password::scram_sha_256(password.expose().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_is_random_alphanumeric_and_never_printed() {
        let (one, two) = (Password::random(43), Password::random(43));
        assert_eq!(one.expose().len(), 43);
        assert!(one.expose().bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(one.expose(), two.expose());
        assert_eq!(format!("{one:?}"), "Password(…)");
        assert_eq!(Password::random(0).expose(), "");
        assert_eq!(Password::random(500).expose().len(), 500);
    }

    #[test]
    fn verifier_is_scram_and_does_not_contain_the_password() {
        let password = Password::random(43);
        let verifier = scram_verifier(&password);
        assert!(verifier.starts_with("SCRAM-SHA-256$4096:"));
        assert!(!verifier.contains(password.expose()));
    }
}
