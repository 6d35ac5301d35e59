//! API keys: who may call. Stored as a SHA-256 of 256 random bits, shown once.

pub mod create;
pub mod list;
pub mod revoke;
pub mod store;
