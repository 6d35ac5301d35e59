//! A tenant's credential: rotated by a second login beside the first, which is retired later.
//!
//! next → tenant (handed out) → retiring → gone; in place: replacement → tenant, and the one before is gone at once.

pub mod ask;
pub mod due;
pub mod name;
pub mod retire;
pub mod rotate;
pub mod store;
