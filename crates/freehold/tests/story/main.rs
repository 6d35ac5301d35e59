//! Stories of the main job, told to the real binary over HTTP and the command line, on real PostgreSQL.

mod change;
mod cli;
mod common;
mod create;
mod delete;
mod dev;
mod hostile;
mod http;
mod idempotency;
mod operations;
mod plans;
mod security;
mod serve;
mod shipped;
mod suspend;
mod tansucloud;
mod templates;
