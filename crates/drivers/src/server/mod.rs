//! What Freehold does to a PostgreSQL server, wherever it runs.

pub mod disk;
pub mod managed;
pub mod sql;
