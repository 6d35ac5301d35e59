//! PostgreSQL clusters as processes of this machine, in two ways.
//!
//! A [`Cluster`] is a child: what `freehold dev` and tests run, and it ends with them. A killed Freehold leaves its
//! postmaster running; the next one finds it by the data directory it works in, stops it cleanly and starts its own.
//! [`Processes`] is the platform: its servers outlive Freehold, and the next one adopts them. Absent: containers, and
//! upgrades between major versions.

mod binaries;
mod cluster;
mod error;
mod initialise;
mod orphan;
mod preflight;
mod seen;
mod service;
mod settings;
mod supervise;

pub use binaries::{Binaries, NotFound, find_binaries};
pub(crate) use cluster::Account;
pub use cluster::{ADMIN_ROLE, Cluster, ClusterOptions, Durability};
pub use error::ProcessError;
pub(crate) use initialise::private_dir;
pub(crate) use preflight::{is_enterable, port_is_free_on, socket_path_fits};
pub(crate) use seen::{Seen, pid_of, telling};
pub use service::{Processes, ProcessesOptions};
