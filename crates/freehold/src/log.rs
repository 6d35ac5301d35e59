//! The log: to stderr, for people or (`FREEHOLD_LOG_FORMAT=json`) for machines. `FREEHOLD_LOG` filters it as `RUST_LOG` would.

use tracing_subscriber::EnvFilter;

pub fn start() {
    // What tenants' servers have to say (NOTICE) is not Freehold's log.
    let filter = EnvFilter::try_from_env("FREEHOLD_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn,tokio_postgres=warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start (there is none but in tests) keeps the first.
    let _ = match std::env::var("FREEHOLD_LOG_FORMAT").as_deref() {
        Ok("json") => log.json().try_init(),
        _ => log.try_init(),
    };
}
