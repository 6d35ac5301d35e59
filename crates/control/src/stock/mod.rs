//! Databases made ahead of time, waiting to be claimed. Everything slow happens here, before the tenant arrives.
//! `building → ready → claimed`; `building | ready → dropping`.

pub mod build;
pub mod claim;
pub mod declare;
pub mod drop;
pub mod fill;
pub mod make;
pub mod making;
pub mod note;
pub mod show;
pub mod store;
pub mod turns;
