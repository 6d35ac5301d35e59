//! The budget of a server: what all pools on it may open together, over all poolers, and what each gets of it.
//!
//! PgBouncer limits a database and knows nothing of servers. The plane does: [`govern`] reads what waits and what rests,
//! [`allocate`] decides, and a database whose grant changed is a new generation of its pooler. A plane that is dead leaves
//! the grants as they are. What cannot be had is said by [`judge`].

pub mod allocate;
pub mod govern;
pub mod judge;
pub mod show;
pub mod store;
