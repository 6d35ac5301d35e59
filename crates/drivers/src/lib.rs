//! Hands: what touches the world outside the control store, namely secrets, PostgreSQL servers, poolers and
//! processes.
//!
//! Absent: the fleet. Nothing here reads a table of the control store or knows what a tenant, a plan or an
//! operation is; callers bring names, verifiers and limits. Every effect is an *ensure* or a *remove* and may
//! run twice.

mod hex;
pub mod platform;
pub mod pooler;
pub mod secrets;
pub mod server;
pub mod webhook;

pub use hex::hex;
