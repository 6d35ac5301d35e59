//! One record: what of it is hashed, and how that binds it to the one before.
//!
//! hash = SHA-256(format ‖ previous hash ‖ place ‖ what happened ‖ SHA-256(salt ‖ names, addresses and details)). The last part
//! is hashed by itself, so that it can be taken out while the chain goes on proving the rest: its hash stays, its salt goes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::bytes::{Digits, Hash, Salt};

const FORMAT: &[u8] = b"freehold audit record 1\n";
/// The details, and the salt, of a record that was redacted.
const NOTHING: &str = "{}";
const NO_SALT: Salt = Digits([0; 16]);

/// A sealed record; a line of an export is its JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its place in the chain, from 1 on without a gap.
    pub place: i64,
    /// The order in which records were begun: one that began earlier may be committed, and sealed, later.
    pub seq: i64,
    pub id: Uuid,
    pub at: Timestamp,
    pub actor: String,
    pub actor_name: Option<String>,
    pub action: String,
    pub subject: Option<String>,
    pub outcome: String,
    pub reason: Option<String>,
    pub request_id: Option<String>,
    pub client: Option<String>,
    /// JSON, byte by byte as the store writes it.
    #[serde(with = "as_it_came")]
    pub details: String,
    /// Zeros where there is nothing left to be salted.
    pub salt: Salt,
    /// The hash of the names, addresses and details that were taken out: then there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redacted: Option<Hash>,
    /// The hash of the record before it.
    pub previous: Hash,
    pub hash: Hash,
}

/// What the first record of a store has as the hash before it.
pub fn genesis(store: Uuid) -> Hash {
    Digits(Sha256::digest(format!("freehold audit chain of {store}")).into())
}

impl Record {
    /// Gives it its place after the record with this hash.
    pub fn seal(&mut self, place: i64, previous: Hash, salt: Salt) {
        (self.place, self.previous, self.salt) = (place, previous, salt);
        self.hash = self.hash_at(place, previous);
    }

    /// Whether it is what was sealed, where it was sealed; or what a redaction left of that.
    pub fn fits(&self) -> bool {
        (self.redacted.is_none() || self.is_blank()) && self.hash_at(self.place, self.previous) == self.hash
    }

    /// Takes out what is about persons. What stays of it is a hash that nobody can guess the content of.
    pub fn redact(&mut self) {
        if self.redacted.is_none() {
            self.redacted = Some(self.private());
            (self.actor_name, self.client, self.salt) = (None, None, NO_SALT);
            NOTHING.clone_into(&mut self.details);
        }
    }

    fn is_blank(&self) -> bool {
        self.actor_name.is_none() && self.client.is_none() && self.details == NOTHING && self.salt == NO_SALT
    }

    pub fn hash_at(&self, place: i64, previous: Hash) -> Hash {
        hash_of(&self.digest(), place, previous)
    }

    /// Of what it says, wherever it stands.
    pub(crate) fn digest(&self) -> Hash {
        let mut all = Sha256::new();
        all.update(self.seq.to_be_bytes());
        all.update(self.id.as_bytes());
        all.update(self.at.as_microsecond().to_be_bytes());
        for field in [
            Some(self.actor.as_str()),
            Some(&self.action),
            self.subject.as_deref(),
            Some(&self.outcome),
            self.reason.as_deref(),
            self.request_id.as_deref(),
        ] {
            add(&mut all, field);
        }
        all.update(self.redacted.unwrap_or_else(|| self.private()).0);
        Digits(all.finalize().into())
    }

    /// Of its names, addresses and details.
    fn private(&self) -> Hash {
        let mut private = Sha256::new_with_prefix(self.salt.0);
        for field in [self.actor_name.as_deref(), self.client.as_deref(), Some(&self.details)] {
            add(&mut private, field);
        }
        Digits(private.finalize().into())
    }
}

pub(crate) fn hash_of(digest: &Hash, place: i64, previous: Hash) -> Hash {
    let hashed = Sha256::new_with_prefix(FORMAT)
        .chain_update(previous.0)
        .chain_update(place.to_be_bytes())
        .chain_update(digest.0)
        .finalize();
    Digits(hashed.into())
}

/// With its length, so that no two sequences of fields spell the same bytes; absent is not empty.
fn add(hash: &mut Sha256, field: Option<&str>) {
    match field {
        None => hash.update([0u8]),
        Some(text) => {
            hash.update([1u8]);
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
    }
}

/// JSON inside of JSON, its spaces and the order of its keys as they are.
mod as_it_came {
    use serde::de::Deserialize as _;
    use serde::ser::{Error as _, Serialize as _};
    use serde::{Deserializer, Serializer};
    use serde_json::value::RawValue;

    pub(super) fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(text.to_owned()).map_err(S::Error::custom)?.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| raw.get().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_the_same_after_its_way_through_an_export() {
        let mut record = crate::walk::tests::record(7, "tenant.create");
        record.details = r#"{"b": 1.00, "a":  [1]}"#.into();
        record.seal(3, genesis(Uuid::nil()), Digits([9; 16]));
        let line = serde_json::to_string(&record).unwrap();
        assert!(line.contains(r#""details":{"b": 1.00, "a":  [1]}"#), "{line}");
        let read: Record = serde_json::from_str(&line).unwrap();
        assert!(read == record && read.fits());
    }

    #[test]
    fn a_record_that_was_redacted_fits_and_holds_nothing_else() {
        let mut record = crate::walk::tests::record(7, "tenant.create");
        record.seal(3, genesis(Uuid::nil()), Digits([9; 16]));
        let sealed = record.clone();
        record.redact();
        assert!(record.fits() && record.hash == sealed.hash && record != sealed);
        let line = serde_json::to_string(&record).unwrap();
        assert!(!line.contains("ops") && !line.contains("127.0.0.1") && !line.contains("09090909"), "{line}");
        assert!(serde_json::from_str::<Record>(&line).unwrap().fits());
        // Nothing can be put where it was, not even what had been there.
        for put in [
            Record { actor_name: sealed.actor_name.clone(), ..record.clone() },
            Record { client: Some("::1".into()), ..record.clone() },
            Record { details: sealed.details.clone(), ..record.clone() },
            Record { salt: sealed.salt, ..record.clone() },
            Record { redacted: record.redacted, ..sealed.clone() },
            Record { redacted: None, ..record.clone() },
            Record { redacted: Some(Digits([1; 32])), ..record.clone() },
        ] {
            assert!(!put.fits(), "{put:?}");
        }
        let once = record.clone();
        record.redact();
        assert_eq!(record, once);
    }

    #[test]
    fn fields_cannot_borrow_from_each_other() {
        let mut one = crate::walk::tests::record(7, "ab");
        let mut other = one.clone();
        (one.subject, one.reason) = (Some("x".into()), None);
        (other.subject, other.reason) = (None, Some("x".into()));
        assert_ne!(one.digest(), other.digest());
        (one.actor, one.action) = ("a".into(), "bc".into());
        other = one.clone();
        (other.actor, other.action) = ("ab".into(), "c".into());
        assert_ne!(one.digest(), other.digest());
    }
}
