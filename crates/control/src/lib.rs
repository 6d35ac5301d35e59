//! The plane: the only crate that knows both the store and the servers.
//!
//! [`routes`], [`operations`] and [`loops`] are its tables of contents. Each noun is a folder with one file per verb and
//! one `store.rs` with all of that noun's SQL. Handlers never touch a driver: only operations and loops do.

pub mod audit;
pub mod edge;
pub mod guard;
pub mod health;
pub mod http;
pub mod key;
pub mod loops;
pub mod operation;
pub mod operations;
pub mod plan;
pub mod plane;
pub mod pooler;
pub mod quota;
pub mod routes;
pub mod schema;
pub mod server;
pub mod server_pool;
pub mod settings;
pub mod start;
pub mod stats;
pub mod status;
pub mod stock;
pub mod tenant;
pub mod truth;
