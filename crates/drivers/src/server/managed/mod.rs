//! What a server that Freehold runs itself is told: its settings from its limits and its capacity, who may come in, and a
//! certificate from an own authority; and whether what was told is in force.
//!
//! All of it is pure: the caller brings numbers, names, random keys come from the operating system, and the day from the
//! control store. Absent: where a server listens, where its files are, who is admin on its own machine; a platform knows.

mod authority;
mod hba;
mod in_force;
mod settings;
mod tuning;

pub use authority::{Authority, AuthorityError, Issued, is_due};
pub use hba::hba;
pub use in_force::differences;
pub use settings::{BadSetting, Log, Rendered, Transport, Wanted, render};
pub use tuning::{CONNECTIONS_PER_DATABASE, autovacuum_naptime_seconds};
