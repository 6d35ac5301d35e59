//! The audit's chain: what of a record is hashed, the checkpoints that anchor it outside the store, and the walk that finds
//! what was bent. The plane seals and walks with it, and whoever trusts no plane walks an export with the same code.
//!
//! Absent: I/O of any kind, and private keys.

mod bytes;
mod checkpoint;
mod record;
mod redaction;
mod walk;

pub use bytes::{Hash, Salt};
pub use checkpoint::{Checkpoint, PublicKey, read_checkpoints};
pub use record::{Record, genesis};
pub use redaction::{REDACT, Redaction};
pub use walk::{End, Start, Walk, Walked};
