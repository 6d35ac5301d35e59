//! The engine on a real PostgreSQL.

mod crash;
mod loops;
mod property;
mod story;
mod toy;
