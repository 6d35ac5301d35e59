//! A client of Freehold's HTTP API, for programs: it asks, waits for long work, and repeats what may be repeated.
//!
//! ```no_run
//! # async fn sign_up() -> Result<(), freehold_client::Error> {
//! use freehold_client::Client;
//! use freehold_client::api::tenant::CreateTenant;
//!
//! let freehold = Client::new("http://127.0.0.1:8400", "fh_…")?;
//! let made = freehold.create_tenant(&CreateTenant::named("acme".parse().expect("a slug"))).await?;
//! if let Some(connection) = &made.tenant.connection {
//!     let url: &str = &connection.preferred().url; // hand it to the tenant's application
//! #   let _ = url;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is repeated
//!
//! A request that got no answer, or 429, 502, 503 or 504, is sent again with growing pauses and jitter, never earlier than
//! `Retry-After` says, until [`Patience::retry_for`] is over. Every POST carries an `Idempotency-Key` of its own, the same
//! for all its tries, so that the repeat of a create that was carried out answers that very create. Other methods than
//! GET and POST are repeated only where the server surely did not carry them out.
//!
//! # What is waited for
//!
//! Work that takes longer than a request is an operation: [`Client::settle`] and the verbs above it follow its events
//! until it is over. Who stops waiting (a timeout, a dropped future) stops nothing: the work goes on.
//!
//! Absent: server code, redirects (a key must not follow them), and any look at the clock of this machine.

mod audit;
mod client;
mod credentials;
mod download;
mod error;
mod events;
mod follow;
mod moves;
mod operations;
mod plans;
mod request;
mod retry;
mod servers;
mod sessions;
mod tenants;

/// The types of requests and answers.
pub use freehold_api as api;

pub use client::{Builder, Client, Patience};
pub use download::Download;
pub use error::{Error, Refusal};
pub use events::Events;
pub use follow::{Seen, Settled, succeeded};
pub use request::{Reply, Request, parse};
pub use retry::Again;
pub use tenants::Created;
