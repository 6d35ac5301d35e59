//! Compatibility surfaces: other systems' routes and shapes over Freehold's verbs. Off unless declared (`[[edge]]`).

pub mod saasodoo;
pub mod store;
pub mod tansucloud;
