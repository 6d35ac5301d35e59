//! Throw-away PostgreSQL clusters and whole planes for tests.
//!
//! [`Cluster`] is a real PostgreSQL 15, 16, 17 or 18 that starts in a quarter of a second, [`Pgbouncer`] a real pooler.
//! [`Plane`] is the real `freehold` binary, spoken to as users speak to it. All end with the value that holds them, and also
//! when the test is killed.
//! Everything panics with what a person needs to know: this crate is for tests alone. Absent: mocks, but that
//! of PgCat ([`PgcatConsole`]), and any dependency on the code under test.

mod cluster;
mod directory;
mod docker;
mod engine;
mod pgbouncer;
mod pgcat;
mod plane;
mod port;
mod process;
mod told;

pub use cluster::{ADMIN, ADMIN_PASSWORD, Cluster, ClusterBuilder, WEAK_ADMIN, WEAK_ADMIN_PASSWORD};
pub use directory::Directory;
pub use docker::DockerEngine;
pub use engine::{engine, node_postgres, pooler_engine, unprivileged_user};
pub use pgbouncer::Pgbouncer;
pub use pgcat::{PgcatConsole, World};
pub use plane::{Answer, Plane, PlaneBuilder, as_tenant, http_client};
pub use port::{Port, Ports};
pub use process::{Running, is_stopped, processes_under};
pub use told::Told;

/// Everything that a tenant can have in its database, for whoever carries it elsewhere. Its role `zoo_reporting` is the
/// reader of the tenant's; hstore is there before.
pub const ZOO: &str = include_str!("zoo.sql");

/// Whether tests are to take the whole instead of a sample: `make soak`.
pub fn is_soak() -> bool {
    std::env::var("FREEHOLD_SOAK").is_ok_and(|value| value == "1")
}
