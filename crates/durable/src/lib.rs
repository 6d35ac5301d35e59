//! The engine of durable operations: work in steps that survives the death of whoever does it. Has never heard of tenants.
//!
//! ```text
//! queued → running ⇄ waiting → succeeded
//!             ↓ failed for good, cancelled, timed out
//!          undoing → failed | cancelled
//! anything in flight → stuck → (retry) queued | undoing, (resolve) succeeded | failed | cancelled
//! ```
//!
//! One row is one operation, and its `step` is all the state there is. A claim raises `epoch` and counts the attempt;
//! every record of a step is guarded by the epoch, so a worker that lost its lease writes nothing. Effects outside the
//! store happen at least once: steps are *ensures* and *removes*, and name their epoch where they act ([`Cx::application_name`]).
//!
//! Absent on purpose: a transaction held around a step, the process's clock in any decision, parallel branches in one
//! operation, and a queue: an operation waits for its time in its own row.

mod attempt;
mod backoff;
mod control;
mod cx;
mod drive;
mod engine;
mod erased;
pub mod fault;
mod loops;
mod operation;
mod query;
mod row;
mod settle;
mod steps;
mod store;
mod watch;
mod work;

pub use control::rouse_in;
pub use cx::Cx;
pub use engine::{Builder, Engine, Started};
pub use loops::{Loop, LoopCx, wake_in};
pub use operation::{Class, ControlError, Failure, New, Next, Operation, Outcome, Record, Resolution, StartError};
pub use row::{EventRow, Filter, FreezeRow, LoopRow, OperationError, OperationRow, Progress, State};
pub use steps::StepNames;
pub use watch::Changes;
