//! Poolers that Freehold starts itself, on the platform that the settings name: one at a time, when too few databases fit
//! on those that there are. What runs there is an agent like any other; what it serves it asks for.
//!
//! starting → active ⇄ cordoned → removing → gone; starting → failed → starting.

pub mod add;
pub mod agents;
pub mod grow;
pub mod key;
pub mod need;
pub mod remove;
pub mod start;
pub mod store;

/// Wakes the loop that starts poolers.
pub const STARTER: &str = "pooler_platform";
