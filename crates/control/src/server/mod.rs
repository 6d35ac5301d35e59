//! Servers: PostgreSQL clusters that tenants' databases live on.
//! `provisioning → active ⇄ cordoned`; `active | cordoned ⇄ maintenance`; `active → draining → removed`; `provisioning →
//! failed → provisioning`.

pub mod add;
mod again;
pub mod change;
pub mod check;
pub mod clear;
pub mod cordon;
pub mod dev;
pub mod drain;
pub mod fenced;
pub mod fleet;
pub mod forget;
pub mod hands;
pub mod idle;
pub mod list;
pub mod maintain;
pub mod patch;
pub mod provision;
pub mod rebalance;
pub mod register;
pub mod remove;
pub mod store;
pub mod update;
