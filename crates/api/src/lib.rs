//! What crosses the wire: ids, states, requests, answers and problems.
//!
//! The control plane answers with these types and the command line reads them; the OpenAPI document
//! is generated from them. Absent: I/O of any kind, and every secret but the ones an answer must carry.

pub mod adopt;
pub mod audit;
pub mod diagnosis;
pub mod drain;
pub mod drift;
pub mod id;
pub mod import;
pub mod key;
pub mod movability;
pub mod moving;
pub mod operation;
pub mod page;
pub mod placement;
pub mod plan;
pub mod plan_change;
pub mod pooler;
pub mod problem;
pub mod rebalance;
pub mod server;
pub mod server_pool;
pub mod session;
pub mod stats;
pub mod status;
pub mod template;
pub mod tenant;

pub use id::{DatabaseId, KeyId, LoginId, OperationId, PoolName, PoolerId, ServerId, TemplateName, TenantId};
pub use page::Page;
pub use problem::{Code, FieldError, Problem};
