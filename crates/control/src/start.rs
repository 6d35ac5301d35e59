//! Brings a plane up: store, sealing key, templates, engine. Everything that can be wrong is said before anything runs.

use std::sync::Arc;
use std::time::Duration;

use freehold_drivers::secrets::{KeyError, Sealer};
use freehold_durable::Engine;
use secrecy::ExposeSecret;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio_util::sync::CancellationToken;

use crate::plane::{Core, Inner, Plane};
use crate::schema::catalog::Catalog;
use crate::schema::ship;
use crate::server::fleet::Fleet;
use crate::settings::Settings;
use crate::stock::turns::Turns;
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
    #[error("the sealing key cannot be used")]
    Key(#[source] KeyError),
    #[error(
        "the sealing key is not the one that this control store was sealed with: the store knows {known}, the file holds {found}; \
         put the right file at secrets.key_file (nothing was changed)"
    )]
    WrongKey { known: String, found: String },
}

/// Connects to the store, without looking at what is in it.
pub async fn store(settings: &Settings) -> Result<PgPool, CannotStart> {
    let options: PgConnectOptions = settings.store.url.expose_secret().parse().map_err(|_| CannotStart::StoreUrl)?;
    // A process that hangs in a transaction must not hold rows for longer than it may hold operations.
    let idle = format!("{}s", settings.operations.lease_seconds.clamp(5, 60));
    let options = options.application_name("freehold").options([("idle_in_transaction_session_timeout", &idle)]);
    let pool = PgPoolOptions::new()
        .max_connections(settings.store.connections)
        .min_connections(2)
        .acquire_timeout(Duration::from_secs(5))
        // A plane that is idle keeps few connections.
        .idle_timeout(Duration::from_secs(120))
        .test_before_acquire(false)
        .connect_with(options);
    pool.await.map_err(CannotStart::Store)
}

pub async fn migrate(pool: &PgPool) -> Result<(), CannotStart> {
    MIGRATIONS.run(pool).await.map_err(CannotStart::Migrate)
}

async fn is_migrated(pool: &PgPool) -> Result<bool, CannotStart> {
    let newest = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    let sql = "SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success";
    match sqlx::query_scalar::<_, i64>(sql).fetch_one(pool).await {
        Ok(found) => Ok(found >= newest),
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
    let sealer = Sealer::from_file(&settings.secrets.key_file).map_err(CannotStart::Key)?;
    check_key(&pool, &sealer).await?;
    ship::ensure(&pool, &settings).await.map_err(CannotStart::Store)?;
    let holder = format!("{}:{}", hostname(), uuid::Uuid::now_v7());
    let lease = Duration::from_secs(settings.operations.lease_seconds);
    let core = Core {
        store: pool.clone(),
        sealer: Arc::new(sealer),
        copying: Turns::new(settings.stock.concurrency),
        settings: Arc::new(settings),
        catalog: Catalog::default(),
        fleet: Fleet::default(),
    };
    let builder = Engine::builder(pool).holder(holder).lease(lease);
    let engine = loops::register(operations::register(builder, &core), &core).build();
    Ok(Arc::new(Inner { core, engine }))
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
    plane.engine.run(stop).await;
}

fn hostname() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "unknown".into())
}
