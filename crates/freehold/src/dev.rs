//! `freehold dev`: everything on this machine. One PostgreSQL cluster holds the control store and the tenants.
//!
//! What it makes is in one directory: `servers/local-1` (the cluster), `run` (its private socket), `secrets` (the sealing
//! key) and `client.toml` (how the command line gets in).

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use freehold_api::key::{CreateKey, Scope};
use freehold_control::audit::record::Actor;
use freehold_control::key::{create, store as keys};
use freehold_control::plane::Plane;
use freehold_control::server::dev as local;
use freehold_control::settings::Settings;
use freehold_control::start;
use freehold_drivers::platform::process::{Cluster, ClusterOptions, ProcessError, find_binaries};
use freehold_drivers::secrets::Sealer;
use freehold_drivers::server::sql::{Admin, CreateDatabase};
use secrecy::SecretString;
use serde::Deserialize;

use crate::prerequisite::Missing;
use crate::{log, serve, signals, term};

const STORE: &str = "freehold_control";
const SERVER: &str = "local-1";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where everything is kept [default: /var/lib/freehold as root, else ~/.local/share/freehold]
    #[arg(long, env = "FREEHOLD_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the API listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8400")]
    listen: SocketAddr,
    /// Databases kept ready per template
    #[arg(long, value_name = "N")]
    stock: Option<u32>,
    /// Where PostgreSQL's programs are [default: PATH, else the newest under /usr/lib/postgresql]
    #[arg(long, value_name = "DIR")]
    postgres_bin: Option<PathBuf>,
    /// The port PostgreSQL listens on, on loopback [default: the one used before, else 8432]
    #[arg(long, value_name = "PORT")]
    postgres_port: Option<u16>,
    /// The user PostgreSQL runs as, when this is root [default: postgres, else nobody]
    #[arg(long, value_name = "USER")]
    postgres_user: Option<String>,
    /// Tenants and stock that fit
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
    let port = dir.postgres_port(args.postgres_port);
    let settings = settings(&args, &dir, port)?;
    let listeners = serve::bind(&settings).await?;
    let stop = signals::stop_on_signals()?;

    let mut options = ClusterOptions::new(binaries, dir.path.join("servers").join(SERVER), dir.path.join("run"), port);
    options.run_as.clone_from(&args.postgres_user);
    let cluster = Cluster::new(options)?;
    let made_before = cluster.options().data_dir.exists();
    cluster.ensure_initialised().await.map_err(not_started)?;
    cluster.start().await.map_err(not_started)?;
    dir.remember(port)?;

    let result = with_cluster(&args, &dir, settings, &cluster, made_before, listeners, stop).await;
    cluster.stop().await;
    result
}

async fn with_cluster(
    args: &Args,
    dir: &Directory,
    settings: Settings,
    cluster: &Cluster,
    made_before: bool,
    listeners: Vec<tokio::net::TcpListener>,
    stop: tokio_util::sync::CancellationToken,
) -> Result<(), Missing> {
    let admin = Admin::connect(&cluster.admin_dsn(), None, "freehold dev").await?;
    let is_new = !admin.database_exists(STORE).await?;
    // Only a store that nothing was sealed for gets a new key; a lost one is never replaced behind somebody's back.
    // The key precedes the store: a crash between must not leave a store without one.
    if is_new && !settings.secrets.key_file.exists() {
        Sealer::create_file(&settings.secrets.key_file)?;
    }
    if is_new {
        admin.ensure_database(STORE, &CreateDatabase::default()).await?;
    }
    drop(admin);
    let store = start::store(&settings).await?;
    start::migrate(&store).await?;
    let plane = start::plane(settings, store).await?;
    let (host, port) = cluster.address();
    local::ensure(&plane, SERVER, cluster.admin_dsn().public(), host, port, args.capacity)
        .await
        .map_err(|refused| Missing::new(refused.0.to_string()))?;
    let context = context(dir, &plane, args.listen).await?;
    greet(dir, &plane, cluster, &context, made_before);
    let store = plane.store.clone();
    let outcome = serve::run(plane, listeners, stop).await;
    // Before PostgreSQL goes, so that no connection is torn.
    store.close().await;
    outcome
}

fn not_started(error: ProcessError) -> Missing {
    match &error {
        ProcessError::PortTaken { .. } => Missing::new(format!("{error} with --postgres-port")),
        _ => Missing::from(error),
    }
}

/// The settings file, with what only `dev` knows put above it.
fn settings(args: &Args, dir: &Directory, port: u16) -> Result<Settings, Missing> {
    let socket = dir.path.join("run");
    let url = format!(
        "postgres://freehold_admin@localhost:{port}/{STORE}?host={}&sslmode=disable",
        percent(&socket.display().to_string())
    );
    let mut settings = Settings::load_for_dev(
        args.settings.as_deref(),
        SecretString::from(url),
        &dir.path.join("secrets/sealing.key"),
    )?;
    settings.listen = args.listen;
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

struct Directory {
    path: PathBuf,
}

/// What is remembered between two starts.
#[derive(Deserialize)]
struct Remembered {
    postgres_port: u16,
}

const PORT_DEFAULT: u16 = 8432;

impl Directory {
    fn at(given: Option<PathBuf>) -> Result<Self, Missing> {
        let path = match given {
            Some(path) => path,
            None if nix::unistd::geteuid().is_root() => PathBuf::from("/var/lib/freehold"),
            None => match (std::env::var_os("XDG_DATA_HOME"), std::env::var_os("HOME")) {
                (Some(data), _) if !data.is_empty() => PathBuf::from(data).join("freehold"),
                (_, Some(home)) => PathBuf::from(home).join(".local/share/freehold"),
                _ => return Err(Missing::new("HOME is not set: say where to keep everything with --data-dir DIR")),
            },
        };
        let broken =
            |error: std::io::Error| Missing::because(&format!("make the data directory {}", path.display()), &error);
        let path = std::path::absolute(&path).map_err(broken)?;
        std::fs::create_dir_all(path.join("secrets")).map_err(broken)?;
        std::fs::set_permissions(path.join("secrets"), std::fs::Permissions::from_mode(0o700)).map_err(broken)?;
        Ok(Self { path })
    }

    /// The port given, or the one of the last start, because tenants' connection strings name it.
    fn postgres_port(&self, given: Option<u16>) -> u16 {
        let remembered = std::fs::read_to_string(self.path.join("dev.toml")).ok();
        let remembered = remembered.and_then(|text| toml::from_str::<Remembered>(&text).ok());
        given.or(remembered.map(|remembered| remembered.postgres_port)).unwrap_or(PORT_DEFAULT)
    }

    /// Only by whoever runs the cluster: a start that is refused changes nothing for the next.
    fn remember(&self, port: u16) -> Result<(), Missing> {
        let file = self.path.join("dev.toml");
        std::fs::write(&file, format!("# Written by freehold dev.\npostgres_port = {port}\n"))
            .map_err(|error| Missing::because(&format!("write {}", file.display()), &error))
    }
}

/// A key for the command line, kept from start to start.
async fn context(dir: &Directory, plane: &Plane, listen: SocketAddr) -> Result<PathBuf, Missing> {
    #[derive(Deserialize)]
    struct Kept {
        api_key: String,
    }
    let path = dir.path.join("client.toml");
    let kept = std::fs::read_to_string(&path).ok().and_then(|text| toml::from_str::<Kept>(&text).ok());
    let known = match &kept {
        Some(kept) => keys::find_by_token(&plane.store, &kept.api_key).await?.is_some(),
        None => false,
    };
    let key = match kept {
        Some(kept) if known => kept.api_key,
        _ => {
            let body = CreateKey { name: "dev".into(), scopes: vec![Scope::Admin], tenants: None, expires_at: None };
            let made = create::make(&plane.store, &Actor::system(), &body)
                .await
                .map_err(|refused| Missing::new(refused.0.to_string()))?;
            made.key.unwrap_or_default()
        }
    };
    let host = if listen.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], listen.port())) } else { listen };
    freehold_cli::write_context(&path, &format!("http://{host}"), &key)
        .map_err(|error| Missing::because(&format!("write {}", path.display()), &error))?;
    Ok(path)
}

fn greet(dir: &Directory, plane: &Plane, cluster: &Cluster, context: &Path, made_before: bool) {
    let (host, port) = cluster.address();
    let listen = plane.settings.listen;
    let is_default = Directory::at(None).is_ok_and(|default| default.path == dir.path);
    let prefix = if is_default { String::new() } else { format!("FREEHOLD_CONTEXT={} ", context.display()) };
    let what = if made_before { "found as it was" } else { "made" };
    for line in [
        format!("Freehold {} is starting; everything is in {} ({what})", env!("CARGO_PKG_VERSION"), dir.path.display()),
        format!("  API         http://{listen}  (docs: http://{listen}/docs, ready: http://{listen}/health/ready)"),
        format!("  PostgreSQL  {host}:{port}, admin socket in {}", dir.path.join("run").display()),
        format!("  log of it   {}", cluster.options().data_dir.join("log").display()),
        format!("  client      {}", context.display()),
        String::new(),
        "Paste into another terminal:".into(),
        format!("  {prefix}freehold tenant create acme"),
        format!("  {prefix}freehold tenant psql acme"),
        format!(
            "  {prefix}freehold template new ./app && {prefix}freehold template add ./app && {prefix}freehold tenant create beta --template app"
        ),
    ] {
        term::line(&line);
    }
}
