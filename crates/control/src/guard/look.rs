//! The facts that the guard judges by.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::PgPool;

use super::judge::{Facts, StoreEnvironment, StoreFacts};
use super::store;
use crate::settings::{Secret, Settings};
use crate::start::{self, CannotStart};

/// For whoever answers on the same machine.
const PATIENCE: Duration = Duration::from_secs(2);

pub async fn look(settings: &Settings, pool: Result<&PgPool, &CannotStart>) -> Facts {
    let store = match pool {
        Ok(pool) => ask(pool).await.map_err(|error| with_causes(&error)),
        Err(error) => Err(with_causes(error)),
    };
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    Facts {
        key_is_guessable: start::sealer(settings)
            .map(|sealer| sealer.is_guessable())
            .map_err(|error| with_causes(&error)),
        store,
        nomad_token: nomad_token(settings).await,
        is_synchronised: is_synchronised().await,
        // Other builds have none.
        has_fault_points: cfg!(debug_assertions) && var("FREEHOLD_FAULTS").is_some(),
        environment: StoreEnvironment {
            host: var("PGHOSTADDR").or_else(|| var("PGHOST")),
            password: var("PGPASSWORD"),
            certificate: var("PGSSLCERT"),
            sslmode: var("PGSSLMODE"),
        },
    }
}

async fn nomad_token(settings: &Settings) -> Option<Secret> {
    let nomad = settings.platform.nomad.as_ref()?;
    match &nomad.token_file {
        None => nomad.token.clone(),
        Some(path) => tokio::fs::read_to_string(path).await.ok().map(|token| token.trim().to_owned().into()),
    }
}

async fn ask(pool: &PgPool) -> Result<StoreFacts, sqlx::Error> {
    // The second answer comes on a connection that is there, without the time that it takes to make one.
    store::look(pool).await?;
    let before = milliseconds();
    let row = store::look(pool).await?;
    let here = before.midpoint(milliseconds());
    Ok(StoreFacts { role: row.role, is_superuser: row.is_superuser, clock_ahead_ms: here - row.milliseconds })
}

#[expect(clippy::disallowed_methods, reason = "this machine's clock is what is judged")]
fn milliseconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// As the kernel knows it, where systemd runs. A container is not told: there the control store's clock is what it is compared with.
async fn is_synchronised() -> Option<bool> {
    if !Path::new("/run/systemd/system").exists() {
        return None;
    }
    let mut command = tokio::process::Command::new("timedatectl");
    command.args(["show", "--property=NTPSynchronized", "--value"]).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    match output.stdout.trim_ascii() {
        b"yes" => Some(true),
        b"no" => Some(false),
        _ => None,
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
