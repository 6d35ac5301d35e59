//! What a person on call needs: what is wrong, worst first, and what to type next; and the brake.

pub(crate) mod exposition;
pub mod freeze;
pub mod health;
pub mod metrics;
mod servers;
pub mod show;
