//! Poolers: what tenants connect through, and which database is served by which. `active ⇄ cordoned`; of those
//! that Freehold starts itself [`managed`] has the rest.
//!
//! What is wanted of a pooler is not kept anywhere: [`render`] makes it of the rows of its databases. A row that changed
//! marks itself (`migrations/0030_pooler.sql`), [`raise`] counts the pooler's generation up once for all that is marked,
//! and its agent, which waits for that in [`assignment`], makes it so and says when it is ([`report`]).
//!
//! Absent: drivers. The plane never speaks to a pooler; the agent beside it does, also while the plane is dead.

pub mod add;
pub mod assign;
pub mod assignment;
pub mod check;
pub mod cordon;
pub mod dev;
pub mod follow;
pub mod keep;
pub mod list;
pub mod managed;
pub mod metrics;
pub mod pause;
pub mod raise;
pub mod reconcile;
pub mod remove;
pub mod render;
pub mod report;
pub mod store;
pub mod wakes;
