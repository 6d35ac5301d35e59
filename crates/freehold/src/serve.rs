//! `freehold serve` and `freehold worker`: the control plane over a store that exists.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use freehold_control::guard;
use freehold_control::http::serve as http;
use freehold_control::plane::Plane;
use freehold_control::settings::{Settings, Sources};
use freehold_control::start;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::prerequisite::Missing;
use crate::{log, settings, signals};

/// How long requests in flight may take to end.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Settings file (TOML); the environment (FREEHOLD__STORE__URL, …) goes above it
    #[arg(long, env = "FREEHOLD_SETTINGS", value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Where the API listens [default: the settings', else 127.0.0.1:8400]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Bring the control store's schema to this version first
    #[arg(long)]
    migrate: bool,
}

#[derive(Debug, clap::Args)]
pub struct WorkerArgs {
    /// Settings file (TOML); the environment (FREEHOLD__STORE__URL, …) goes above it
    #[arg(long, env = "FREEHOLD_SETTINGS", value_name = "FILE")]
    settings: Option<PathBuf>,
}

pub async fn serve(args: Args) -> Result<(), Missing> {
    log::start();
    let mut settings = settings::load(Sources::of(args.settings.as_deref()))?;
    settings.listen = args.listen.unwrap_or(settings.listen);
    let migrate = args.migrate || settings.store.migrate;
    let listeners = bind(&settings).await?;
    let stop = signals::stop_on_signals()?;
    let plane = plane(settings, migrate).await?;
    tracing::info!(listen = %plane.settings.listen, "ready");
    run(plane, listeners, stop).await
}

pub async fn worker(args: WorkerArgs) -> Result<(), Missing> {
    log::start();
    let settings = settings::load(Sources::of(args.settings.as_deref()))?;
    let stop = signals::stop_on_signals()?;
    let plane = plane(settings, false).await?;
    tracing::info!("ready");
    start::work(&plane, stop).await;
    Ok(())
}

async fn plane(settings: Settings, migrate: bool) -> Result<Plane, Missing> {
    let store = start::store(&settings).await;
    guard::stand(&settings, store.as_ref()).await?;
    let store = store?;
    if migrate {
        start::migrate(&store).await?;
    }
    Ok(start::plane(settings, store).await?)
}

/// The API's listener first, then those of edges that have one of their own.
pub async fn bind(settings: &Settings) -> Result<Vec<TcpListener>, Missing> {
    let of_edges = settings.edges.iter().filter_map(|edge| edge.listen);
    let mut listeners = Vec::new();
    for address in std::iter::once(settings.listen).chain(of_edges) {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            Missing::because(&format!("listen on {address} (choose another with --listen)"), &error)
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Serves and works until told to stop.
pub async fn run(plane: Plane, listeners: Vec<TcpListener>, stop: CancellationToken) -> Result<(), Missing> {
    let of_edges = plane.settings.edges.iter().filter(|edge| edge.listen.is_some());
    let edges = of_edges.map(|edge| http::around(&plane, http::of_edge(&plane, edge)));
    let apps: Vec<Router> = std::iter::once(http::app(&plane)).chain(edges).collect();
    let mut serving = JoinSet::new();
    for (listener, app) in listeners.into_iter().zip(apps) {
        serving.spawn(http::serve(listener, app, stop.clone(), GRACE));
    }
    let working = {
        let (plane, stop) = (plane.clone(), stop.clone());
        tokio::spawn(async move {
            // However it ends, the rest ends with it: an API whose operations never run would only look alive.
            let _ended = stop.clone().drop_guard();
            start::work(&plane, stop).await;
        })
    };
    let mut outcome = Ok(());
    while let Some(ended) = serving.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => outcome = Err(Missing::broken(format!("serve: {error}"))),
            Err(error) => outcome = Err(Missing::broken(format!("serve: {error}"))),
        }
        // One listener that ends takes the others along.
        stop.cancel();
    }
    if let Err(error) = working.await {
        outcome = Err(Missing::broken(format!("operations and loops: {error}")));
    }
    outcome
}
