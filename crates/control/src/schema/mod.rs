//! Templates: what a new database contains. A version is a hash of its content; on each server a version is
//! built once into a database that nobody connects to, and copied from there.

pub mod add;
pub mod build;
pub mod catalog;
pub mod list;
pub mod retire;
pub mod ship;
pub mod store;
