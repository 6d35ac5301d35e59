//! How requests come in and answers go out, whatever the noun. Absent: what any verb does.

pub mod access;
pub mod extract;
pub mod idempotency;
pub mod openapi;
pub mod problem;
pub mod request;
pub mod serve;
