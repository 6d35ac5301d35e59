//! Brings a plane up: store, sealing key, templates, engine. Everything that can be wrong is said before anything runs.

use std::sync::Arc;
use std::time::Duration;

use freehold_drivers::platform::PlatformError;
use freehold_drivers::secrets::{KeyError, Sealer};
use freehold_durable::Engine;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::guard::{self, Reason};
use crate::plane::{Core, Inner, Plane};
use crate::pooler::managed::agents;
use crate::pooler::wakes::Wakes;
use crate::schema::catalog::Catalog;
use crate::schema::ship;
use crate::server::fenced::Fenced;
use crate::server::fleet::Fleet;
use crate::server::idle::IdleSessions;
use crate::server_pool::platforms;
use crate::settings::{SealingKey, Settings};
use crate::stock::turns::Turns;
use crate::tenant::line::Line;
use crate::{loops, operations, status};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

#[derive(Debug, thiserror::Error)]
pub enum CannotStart {
    #[error("the setting store.url is not a PostgreSQL URL: expected postgres://user:password@host:port/database")]
    StoreUrl,
    #[error("the control store does not answer; is it running, and is store.url right?")]
    Store(#[source] sqlx::Error),
    #[error("the control store is older than this Freehold; run: freehold store migrate")]
    StoreOutdated,
    #[error("migrate the control store")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    #[error("a platform of the settings cannot be used")]
    Platform(#[source] PlatformError),
    #[error("this is not fit for production: {}", guard::in_words(.0))]
    NotForProduction(Vec<Reason>),
    #[error("the sealing key cannot be used")]
    Key(#[source] KeyError),
    #[error(
        "the sealing key is not the one that this control store was sealed with: the store knows {known}, this is {found}; \
         put the right one at secrets.key_file, or into secrets.key (nothing was changed)"
    )]
    WrongKey { known: String, found: String },
}

/// Connects to the store, without looking at what is in it.
pub async fn store(settings: &Settings) -> Result<PgPool, CannotStart> {
    let (_, strangers) = without_strangers(settings.store.url.expose_secret());
    if !strangers.is_empty() {
        tracing::warn!(parameters = strangers.join(", "), "nobody reads these parameters of store.url");
    }
    let connections = settings.store.connections - quick_connections(settings);
    let pool = pool(connections).min_connections(2.min(connections));
    pool.connect_with(options(settings)?).await.map_err(CannotStart::Store)
}

/// A pool hands connections out in turns, and each plans a statement when it first sees it: few of them, so that what
/// callers wait for finds its plan made.
fn quick(settings: &Settings) -> Result<PgPool, CannotStart> {
    let options = options(settings)?.options([("plan_cache_mode", "force_generic_plan")]);
    Ok(pool(quick_connections(settings)).min_connections(1).connect_lazy_with(options))
}

fn quick_connections(settings: &Settings) -> u32 {
    (settings.store.connections / 5).clamp(1, 4)
}

fn options(settings: &Settings) -> Result<PgConnectOptions, CannotStart> {
    let (url, _) = without_strangers(settings.store.url.expose_secret());
    let options: PgConnectOptions = url.parse().map_err(|_| CannotStart::StoreUrl)?;
    // A process that hangs in a transaction must not hold rows for longer than it may hold operations.
    let idle = format!("{}s", settings.operations.lease_seconds.clamp(5, 60));
    Ok(options.application_name("freehold").options([("idle_in_transaction_session_timeout", &idle)]))
}

/// What the driver reads of a URL. Anything else it would tell the log, with its value, which may be a mistyped password.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// The URL with the parameters that are read, and the names of the others.
fn without_strangers(text: &str) -> (String, Vec<String>) {
    let Ok(mut url) = Url::parse(text) else { return (text.to_owned(), Vec::new()) };
    let is_known = |(name, _): &(String, String)| PARAMETERS.contains(&name.as_str()) || name.starts_with("options[");
    let (known, strangers): (Vec<_>, Vec<_>) = url.query_pairs().into_owned().partition(is_known);
    if strangers.is_empty() {
        return (text.to_owned(), Vec::new());
    }
    url.query_pairs_mut().clear().extend_pairs(known);
    (url.into(), strangers.into_iter().map(|(name, _)| name).collect())
}

fn pool(connections: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(5))
        // A plane that is idle keeps few connections.
        .idle_timeout(Duration::from_secs(120))
        .test_before_acquire(false)
}

pub async fn migrate(pool: &PgPool) -> Result<(), CannotStart> {
    MIGRATIONS.run(pool).await.map_err(CannotStart::Migrate)
}

async fn is_migrated(pool: &PgPool) -> Result<bool, CannotStart> {
    let sql = "SELECT version FROM _sqlx_migrations WHERE success";
    match sqlx::query_scalar::<_, i64>(sql).fetch_all(pool).await {
        Ok(found) => Ok(MIGRATIONS.iter().all(|migration| found.contains(&migration.version))),
        // 42P01: nothing was ever migrated.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => Ok(false),
        Err(error) => Err(CannotStart::Store(error)),
    }
}

/// The plane over a store that is migrated. Runs nothing yet.
pub async fn plane(settings: Settings, pool: PgPool) -> Result<Plane, CannotStart> {
    status::metrics::install();
    if !is_migrated(&pool).await? {
        return Err(CannotStart::StoreOutdated);
    }
    let platforms = platforms::of(&settings.platform).map_err(CannotStart::Platform)?;
    let sealer = sealer(&settings).map_err(CannotStart::Key)?;
    check_key(&pool, &sealer).await?;
    let agents = agents::of(&settings, &sealer.fingerprint()).map_err(CannotStart::Platform)?;
    ship::ensure(&pool, &settings).await.map_err(CannotStart::Store)?;
    let holder = format!("{}:{}", hostname(), uuid::Uuid::now_v7());
    let lease = Duration::from_secs(settings.operations.lease_seconds);
    let core = Core {
        store: pool.clone(),
        quick: quick(&settings)?,
        sealer: Arc::new(sealer),
        copying: Turns::new(settings.stock.concurrency),
        // One is left to those who only say who they are.
        instants: Line::new(quick_connections(&settings).saturating_sub(1)),
        creates: Line::new(settings.store.connections / 5),
        settings: Arc::new(settings),
        catalog: Catalog::default(),
        fleet: Fleet::default(),
        idle_sessions: IdleSessions::default(),
        fenced: Fenced::default(),
        platforms,
        agents,
        poolers: Wakes::default(),
    };
    let builder = Engine::builder(pool).holder(holder).lease(lease);
    let engine = loops::register(operations::register(builder, &core), &core).build();
    Ok(Arc::new(Inner { core, engine }))
}

/// The sealing key, from wherever the settings say that it is.
pub fn sealer(settings: &Settings) -> Result<Sealer, KeyError> {
    match settings.secrets.sealing_key() {
        Ok(SealingKey::File(path)) => Sealer::from_file(path),
        Ok(SealingKey::Given(key)) => Sealer::from_base64(key.expose_secret()),
        Err(_) => unreachable!("settings that were checked name one key"),
    }
}

/// The first key is remembered; from then on no other is accepted, because nothing that was sealed would open.
async fn check_key(pool: &PgPool, sealer: &Sealer) -> Result<(), CannotStart> {
    let found = sealer.fingerprint();
    let sql = "INSERT INTO meta (key, value) VALUES ('sealing_key', $1) ON CONFLICT (key) DO NOTHING";
    sqlx::query(sql).bind(&found).execute(pool).await.map_err(CannotStart::Store)?;
    let known: String = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'sealing_key'")
        .fetch_one(pool)
        .await
        .map_err(CannotStart::Store)?;
    if known == found { Ok(()) } else { Err(CannotStart::WrongKey { known, found }) }
}

/// Runs operations and loops until told to stop.
pub async fn work(plane: &Plane, stop: CancellationToken) {
    let closing = async {
        stop.cancelled().await;
        plane.poolers.close();
    };
    tokio::join!(plane.engine.run(stop.clone()), closing);
}

fn hostname() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "unknown".into())
}
