//! Secrets: passwords that do not print, verifiers that may leave the house, and the sealer that lets the
//! control store keep the rest.
//!
//! Absent: anything that writes a plain password anywhere. PostgreSQL and poolers receive verifiers only.

mod key;
mod password;
mod seal;
mod sign;

pub use key::KeyError;
pub use password::{Password, scram_verifier};
pub use seal::{Context, OpenError, Sealer};
pub use sign::Signer;
