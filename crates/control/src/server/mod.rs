//! Servers: PostgreSQL clusters that tenants' databases live on.
//! `provisioning → active ⇄ cordoned`; `provisioning → failed → provisioning`.

pub mod add;
pub mod check;
pub mod cordon;
pub mod dev;
pub mod fleet;
pub mod forget;
pub mod hands;
pub mod list;
pub mod register;
pub mod store;
