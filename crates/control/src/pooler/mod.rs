//! Poolers: what tenants connect through, and which database is served by which. `active ⇄ cordoned`; of those
//! that Freehold starts itself [`managed`] has the rest.
//!
//! What is wanted of a pooler is not kept anywhere: [`render`] makes it of the rows of its databases. A row that changed
//! marks itself (`migrations/0030_pooler.sql`), [`raise`] counts the pooler's generation up once for all that is marked,
//! and its agent, which waits for that in [`assignment`], makes it so and says when it is ([`report`]).
//!
//! The agent beside a pooler speaks to it, also while the plane is dead; only where there is none ([`external`]) the plane
//! does it itself. Both go by the same [`mind`].

pub mod add;
mod agent;
pub mod assign;
pub mod assignment;
pub mod budget;
pub mod check;
pub mod cordon;
pub mod counts;
pub mod dev;
pub mod external;
pub mod follow;
pub mod keep;
pub mod list;
pub mod managed;
pub mod metrics;
pub mod mind;
pub mod pause;
pub mod raise;
pub mod reconcile;
pub mod remove;
pub mod render;
pub mod report;
pub mod store;
pub mod wakes;
