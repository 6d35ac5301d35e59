//! A tenant gets another plan: now, or at a time that is kept (`plan_change`) until it has come.
//!
//! ```text
//! asked → kept ──(its time)──→ begun → done: plan, limits and server are the new plan's
//!           ↑ ↘ taken back        │
//!           └───── waits ─────────┘  busy, no room, over its quota: said, and tried again
//! ```
//!
//! The plans' ranks say what is an upgrade and what a downgrade; what happens is the same. Where the new plan wants the kind of
//! server that the tenant is on, `tenant.plan` ([`set`]) changes limits and plan in place. Where it wants another kind, it is a
//! move ([`super::moving`]): the target is made with the new plan's limits and extensions, and the commit that says that it
//! serves says that the tenant has the plan.
//!
//! Absent: money. Whoever asks has been paid, or not.

pub mod ask;
pub mod begin;
pub mod due;
pub mod judge;
pub mod set;
pub mod store;
