//! `freehold dev`: everything on this machine. PostgreSQL clusters of its own hold the control store and the tenants.
//!
//! What it makes is in one directory ([`directory`]). Absent: anything that outlives it.

mod directory;
mod pooler;
mod servers;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use freehold_control::plane::Plane;
use freehold_control::settings::{SealingKey, Secret, Settings, Sources};
use freehold_control::start;
use freehold_drivers::platform::process::find_binaries;
use freehold_drivers::secrets::Sealer;
use freehold_drivers::server::sql::{Admin, CreateDatabase};
use tokio_util::sync::CancellationToken;

use self::directory::{Directory, context};
use self::pooler::Pooler;
use self::servers::Servers;
use crate::prerequisite::Missing;
use crate::{log, serve, settings, signals, term};

const STORE: &str = "freehold_control";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where everything is kept [default: /var/lib/freehold as root, else ~/.local/share/freehold]
    #[arg(long, env = "FREEHOLD_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the API listens [default: the settings' listen, else 127.0.0.1:8400]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// PostgreSQL servers to run, local-1 to local-N; those that tenants live on run anyway [default: as before, else 1]
    #[arg(long, value_name = "N")]
    servers: Option<u32>,
    /// Databases kept ready per template on each server
    #[arg(long, value_name = "N")]
    stock: Option<u32>,
    /// Where PostgreSQL's programs are [default: PATH, else the newest under /usr/lib/postgresql]
    #[arg(long, value_name = "DIR")]
    postgres_bin: Option<PathBuf>,
    /// The port local-1 listens on, on loopback; the others take free ones above it, and keep them [default: as before,
    /// else 8432]
    #[arg(long, value_name = "PORT")]
    postgres_port: Option<u16>,
    /// The user PostgreSQL runs as, when this is root [default: postgres, else nobody]
    #[arg(long, value_name = "USER")]
    postgres_user: Option<String>,
    /// No pooler, also where there is a pgbouncer
    #[arg(long)]
    no_pooler: bool,
    /// The port tenants reach the pooler on, on loopback [default: as before, else 6432, or a free one above it]
    #[arg(long, value_name = "PORT", conflicts_with = "no_pooler")]
    pooler_port: Option<u16>,
    /// The pgbouncer to run [default: PATH, else /usr/sbin]
    #[arg(long, value_name = "PROGRAM", conflicts_with = "no_pooler")]
    pgbouncer: Option<PathBuf>,
    /// Tenants and stock that fit on each server
    #[arg(long, value_name = "N", default_value_t = 5000)]
    capacity: u32,
    /// More settings (TOML): plans, edges, stock, tenants, …
    #[arg(long, env = "FREEHOLD_SETTINGS", value_name = "FILE")]
    settings: Option<PathBuf>,
}

pub async fn run(args: Args) -> Result<(), Missing> {
    log::start();
    let binaries = find_binaries(args.postgres_bin.as_deref())?;
    let dir = Directory::at(args.data_dir.clone())?;
    let (run_as, count) = (args.postgres_user.clone(), args.servers);
    let mut servers = Servers::new(&dir, binaries, run_as, count, args.postgres_port, args.capacity)?;
    let settings = settings(&args, &dir, servers.first_port())?;
    let listeners = serve::bind(&settings).await?;
    let stop = signals::stop_on_signals()?;

    servers.start_first(&dir).await?;
    let outcome = with_store(&args, &dir, settings, &mut servers, listeners, stop).await;
    servers.stop().await;
    outcome
}

async fn with_store(
    args: &Args,
    dir: &Directory,
    settings: Settings,
    servers: &mut Servers,
    listeners: Vec<tokio::net::TcpListener>,
    stop: CancellationToken,
) -> Result<(), Missing> {
    let admin = Admin::connect(&servers.first().admin_dsn(), None, "freehold dev").await?;
    let is_new = !admin.database_exists(STORE).await?;
    // Only a store that nothing was sealed for gets a new key; a lost one is never replaced behind somebody's back.
    // The key precedes the store: a crash between must not leave a store without one.
    if let Ok(SealingKey::File(path)) = settings.secrets.sealing_key()
        && is_new
        && !path.exists()
    {
        Sealer::create_file(path)?;
    }
    if is_new {
        admin.ensure_database(STORE, &CreateDatabase::default()).await?;
    }
    drop(admin);
    let store = start::store(&settings).await?;
    start::migrate(&store).await?;
    let plane = start::plane(settings, store).await?;
    let taken: Vec<SocketAddr> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    servers.start_others(dir, &plane, &taken).await?;
    servers.register(dir, &plane).await?;
    let context = context(dir, &plane, plane.settings.listen).await?;
    let pooler = Pooler::start(args, dir, &plane, servers, &taken, &stop).await?;
    greet(dir, &plane, servers, &pooler, &context);
    let core = plane.core.clone();
    let outcome = serve::run(plane, listeners, stop).await;
    pooler.stop().await;
    // Before PostgreSQL goes, so that no connection is torn.
    core.close().await;
    outcome
}

/// The settings file, with what only `dev` knows put above it.
fn settings(args: &Args, dir: &Directory, port: u16) -> Result<Settings, Missing> {
    let socket = dir.sockets();
    let url = format!(
        "postgres://freehold_admin@localhost:{port}/{STORE}?host={}&sslmode=disable",
        percent(&socket.display().to_string())
    );
    let key_file = dir.path.join("secrets/sealing.key");
    let mut settings = settings::load(Sources::for_dev(args.settings.as_deref(), &Secret::from(url), &key_file))?;
    settings.listen = args.listen.unwrap_or(settings.listen);
    if let Some(stock) = args.stock {
        settings.stock.per_template = stock;
    }
    Ok(settings)
}

fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

fn greet(dir: &Directory, plane: &Plane, servers: &Servers, pooler: &Pooler, context: &Path) {
    let listen = plane.settings.listen;
    let is_default = Directory::at(None).is_ok_and(|default| default.path == dir.path);
    let prefix = if is_default { String::new() } else { format!("FREEHOLD_CONTEXT={} ", context.display()) };
    let what = if servers.was_there() { "found as it was" } else { "made" };
    let mut lines = vec![
        format!("Freehold {} is starting; everything is in {} ({what})", env!("CARGO_PKG_VERSION"), dir.path.display()),
        format!("  API         http://{listen}  (docs: http://{listen}/docs, ready: http://{listen}/health/ready)"),
    ];
    lines.extend(servers.lines().iter().map(|line| format!("  PostgreSQL  {line}")));
    lines.extend(pooler.line().map(|line| format!("  pooler      {line}")));
    lines.extend([
        format!("  sockets     {}", dir.sockets().display()),
        format!("  logs        {}", dir.server("local-*/log").display()),
        format!("  client      {}", context.display()),
        String::new(),
        "Paste into another terminal:".into(),
        format!("  {prefix}freehold tenant create acme"),
        format!("  {prefix}freehold tenant psql acme"),
        format!(
            "  {prefix}freehold template new ./app && {prefix}freehold template add ./app && {prefix}freehold tenant create beta --template app"
        ),
    ]);
    for line in &lines {
        term::line(line);
    }
}
