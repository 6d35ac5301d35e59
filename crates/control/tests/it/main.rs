//! What the control store's statements do, on a real PostgreSQL and without a server of anybody's.

mod budget;
mod pooler;
mod pooler_platform;
mod rows;
