//! What crosses the wire: ids, states, requests, answers and problems.
//!
//! The control plane answers with these types and the command line reads them; the OpenAPI document
//! is generated from them. Absent: I/O of any kind, and every secret but the ones an answer must carry.

pub mod audit;
pub mod id;
pub mod key;
pub mod operation;
pub mod page;
pub mod plan;
pub mod problem;
pub mod server;
pub mod status;
pub mod template;
pub mod tenant;

pub use id::{DatabaseId, KeyId, LoginId, OperationId, ServerId, TemplateName, TenantId};
pub use page::Page;
pub use problem::{Code, FieldError, Problem};
