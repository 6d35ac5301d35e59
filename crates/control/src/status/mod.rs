//! What a person on call needs: what is wrong, worst first, and what to type next; and the brake.

pub mod freeze;
pub mod health;
pub mod metrics;
pub mod show;
