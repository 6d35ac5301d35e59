//! A checkpoint says, signed and outside the store, which hash the chain had at a place. From then on nobody can rewrite what
//! comes before, or put an older store in its place, without its being seen.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freehold_api::audit::{AuditBeginning, AuditFinding, AuditFindingKind};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::bytes::Hash;

/// One line of a file of checkpoints is its JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The control store's, made with its schema.
    pub store: Uuid,
    pub place: i64,
    /// Of the record at that place.
    pub hash: Hash,
    pub at: Timestamp,
    /// The chain begins after that place: what came before was removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begins: bool,
    /// Which key signed it.
    pub key: String,
    /// Ed25519, in base64.
    pub signature: String,
}

impl Checkpoint {
    /// What is signed.
    pub fn message(&self) -> Vec<u8> {
        let Self { store, place, hash, at, begins, key, signature: _ } = self;
        // Or whoever owns the store could take its head away up to any checkpoint.
        let what = if *begins { "beginning" } else { "checkpoint" };
        format!("freehold audit {what} 1\n{store}\n{place}\n{hash}\n{at}\n{key}\n").into_bytes()
    }

    /// As the API tells it; signed, or not.
    pub fn beginning(store: Uuid, told: &AuditBeginning) -> Result<Self, String> {
        let AuditBeginning { place, hash, at, key, signature } = told;
        let (hash, key, signature) = (hash.parse()?, key.clone(), signature.clone());
        Ok(Self { store, place: *place, hash, at: *at, begins: true, key, signature })
    }

    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        let Ok(signature) = STANDARD.decode(&self.signature) else { return false };
        self.key == key.id() && UnparsedPublicKey::new(&ED25519, key.0).verify(&self.message(), &signature).is_ok()
    }
}

/// As `freehold audit key` prints it: base64 of 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Recognises a key in a checkpoint.
    pub fn id(&self) -> String {
        Sha256::digest(self.0)[..6].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl FromStr for PublicKey {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = STANDARD.decode(text.trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| "expected base64 of 32 bytes, as freehold audit key prints them".into())
    }
}

/// The checkpoints of a file, by place, and what is wrong with the others. Signed by this key, or they prove nothing.
pub fn read_checkpoints(text: &str, key: &PublicKey, store: Option<Uuid>) -> (Vec<Checkpoint>, Vec<AuditFinding>) {
    let (mut good, mut findings) = (Vec::<Checkpoint>::new(), Vec::new());
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line_number = number + 1;
        let mut wrong = |place, why: String| {
            let message = format!("line {line_number} of the checkpoints {why}");
            findings.push(AuditFinding { kind: AuditFindingKind::Checkpoint, place, message });
        };
        let checkpoint = match serde_json::from_str::<Checkpoint>(line) {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                wrong(None, format!("cannot be read: {error}"));
                continue;
            }
        };
        let place = Some(checkpoint.place);
        if checkpoint.key != key.id() {
            wrong(place, format!("is signed by key {}, and not by {}", checkpoint.key, key.id()));
        } else if !checkpoint.is_signed_by(key) {
            wrong(place, "has a signature that is not its key's: it was changed, or forged".into());
        } else if store.is_some_and(|store| store != checkpoint.store) {
            wrong(place, format!("is about another store, {}", checkpoint.store));
        } else {
            good.push(checkpoint);
        }
    }
    good.sort_by_key(|checkpoint| checkpoint.place);
    (good, findings)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;
    use crate::bytes::Digits;

    fn signed(place: i64) -> (Checkpoint, PublicKey) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let key = PublicKey(pair.public_key().as_ref().try_into().unwrap());
        let at = "2026-01-10T12:00:00Z".parse().unwrap();
        let mut checkpoint = Checkpoint {
            store: Uuid::from_u128(1),
            place,
            hash: Digits([3; 32]),
            at,
            begins: false,
            key: key.id(),
            signature: String::new(),
        };
        checkpoint.signature = STANDARD.encode(pair.sign(&checkpoint.message()));
        (checkpoint, key)
    }

    #[test]
    fn a_checkpoint_of_which_anything_was_changed_is_not_signed() {
        let (checkpoint, key) = signed(5);
        assert!(checkpoint.is_signed_by(&key));
        assert_eq!(key.to_string().parse(), Ok(key));
        let other = |change: fn(&mut Checkpoint)| {
            let mut changed = checkpoint.clone();
            change(&mut changed);
            changed
        };
        for changed in [
            other(|c| c.place = 6),
            other(|c| c.hash.0[0] ^= 1),
            other(|c| c.store = Uuid::nil()),
            other(|c| c.at = "2026-01-10T12:00:01Z".parse().unwrap()),
            other(|c| c.begins = true),
            other(|c| c.key = "000000000000".into()),
            other(|c| c.signature.insert(0, 'A')),
        ] {
            assert!(!changed.is_signed_by(&key), "{changed:?}");
        }
    }

    #[test]
    fn lines_that_prove_nothing_are_told_and_left_out() {
        let (good, key) = signed(5);
        let mut forged = good.clone();
        forged.place = 9;
        let line = |checkpoint: &Checkpoint| serde_json::to_string(checkpoint).unwrap();
        let text = format!("{}\n{}\n\nnothing\n{}\n", line(&signed(8).0), line(&forged), line(&good));
        let (read, findings) = read_checkpoints(&text, &key, Some(good.store));
        assert_eq!(read.iter().map(|read| read.place).collect::<Vec<_>>(), [5, 8]);
        let told: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
        assert!(told[0].starts_with("line 2") && told[0].contains("forged"), "{told:?}");
        assert!(told[1].starts_with("line 4") && told[1].contains("cannot be read"), "{told:?}");
        let (read, findings) = read_checkpoints(&text, &key, Some(Uuid::nil()));
        assert!(read.is_empty() && findings.iter().any(|finding| finding.message.contains("another store")));
    }
}
