//! Stories of the main job, told to the real binary over HTTP and the command line, on real PostgreSQL.

mod adopt;
mod change;
mod cli;
mod common;
mod create;
mod delete;
mod dev;
mod diagnose;
mod docker;
mod failover;
mod hostile;
mod http;
mod idempotency;
mod operations;
mod plans;
mod saasodoo;
mod security;
mod serve;
mod server_change;
mod server_pool;
mod sessions;
mod shipped;
mod stats;
mod suspend;
mod tansucloud;
mod templates;
