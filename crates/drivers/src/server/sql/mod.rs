//! Everything Freehold says to a PostgreSQL server, in its own words: verbs that may run twice.
//!
//! An [`Admin`] session reads catalogs and changes roles and databases. It never executes anything that a tenant
//! can define (rule 1): whatever touches the objects of a claimed database runs in a [`Session`] authenticated as
//! the tenant's maintenance login. Absent: retries (operations and loops retry, `SqlError::is_transient` says
//! when), and names (callers bring them).

mod activity;
mod admin;
pub mod adopt;
mod database;
mod dsn;
mod error;
mod extension;
mod facts;
mod fence;
mod in_force;
mod limits;
mod login;
mod member;
pub mod movable;
pub mod moving;
mod note;
mod observe;
mod own;
mod probe;
mod quote;
mod rename;
mod repair;
mod roles;
mod second;
mod secure;
mod session;
mod standing;
mod statistics;
mod superuser;
mod tls;
mod visitor;
mod vitals;
mod way;

pub use activity::{Activity, Ended, Which};
pub use admin::{Admin, Timeouts};
pub use database::{CreateDatabase, Ensured};
pub use dsn::{BadDsn, Dsn, HostPort, SslMode, TargetSessionAttrs};
pub use error::{SqlError, SqlErrorKind};
pub use facts::{Finding, ServerFacts, Severity};
pub use in_force::SettingInForce;
pub use observe::{Observed, ObservedDatabase, ObservedRole};
pub use own::OwnDatabase;
pub use probe::assert_login;
pub use rename::Names;
pub use roles::{ExtraRole, Limits, Roles};
pub use session::{Maintenance, Session};
pub use standing::Standing;
pub use statistics::{Counters, Sessions};
pub use visitor::{Visit, not_admitted, visit};
pub use vitals::{Disk, Vitals};
pub use way::{Entered, dial, enter, resolve, secure};
