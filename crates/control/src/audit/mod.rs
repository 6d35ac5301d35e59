//! The record of every change and of every read of a credential. Written in the transaction of what it records.
//!
//! written → sealed → anchored → removed
//!
//! An event is written without a place (`record.rs`): writers wait for nobody. The loop in `seal.rs` gives each that is committed
//! its place in the chain, and the one in `checkpoint.rs` says outside of the store how far it got. `verify.rs` walks the chain.
//! What is about persons can be taken out of a sealed event (`redact.rs`), and the oldest go in their time (`retention`), but for
//! those that are held (`hold`). Whoever wants them elsewhere is sent them (`stream`).

pub mod checkpoint;
pub mod concern;
pub mod export;
pub mod hold;
pub mod key;
pub mod list;
pub mod record;
pub mod redact;
pub mod retention;
pub mod seal;
pub mod store;
pub mod stream;
pub mod verify;
