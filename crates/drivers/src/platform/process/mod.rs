//! PostgreSQL clusters as child processes of this machine: what `freehold dev`, small installations and tests use.
//!
//! A killed Freehold leaves its postmaster running; the next one finds it by the data directory it works in, stops
//! it cleanly and starts its own. Absent: containers, and upgrades between major versions.

mod binaries;
mod cluster;
mod error;
mod initialise;
mod orphan;
mod preflight;
mod settings;
mod supervise;

pub use binaries::{Binaries, NotFound, find_binaries};
pub use cluster::{ADMIN_ROLE, Cluster, ClusterOptions, Durability};
pub use error::ProcessError;
