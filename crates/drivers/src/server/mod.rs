//! What Freehold does to a PostgreSQL server, wherever it runs.

pub mod sql;
