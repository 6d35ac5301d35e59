//! Tenants: `creating → active | failed`; `failed → creating | purged`; `active ⇄ suspended`;
//! `active | suspended → deleted`; `deleted → its former state | purged`.

pub mod adopt;
pub mod change;
pub mod connection;
pub mod create;
pub mod credential;
pub mod delete;
pub mod diagnose;
pub mod fence;
pub mod import;
pub mod instant;
pub mod line;
pub mod list;
pub mod movability;
pub mod moving;
pub mod patch;
pub mod place;
pub mod placement;
pub mod plan;
pub mod provision;
pub mod purge;
pub mod report;
pub mod sessions;
pub mod store;
pub mod suspend;
pub mod turn;
