//! Operations as callers see and steer them. The engine that runs them is the crate `durable`.

pub mod answer;
pub mod events;
pub mod list;
pub mod steer;
