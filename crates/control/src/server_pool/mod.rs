//! Server pools: servers that Freehold makes by itself, one at a time per pool, when tenants have nowhere to go.

pub mod definition;
pub mod grow;
pub mod list;
pub mod platforms;
pub mod secrets;
pub mod service;
pub mod store;
pub mod wait;

/// The loop that starts servers.
pub const LOOP: &str = "server_pool";
