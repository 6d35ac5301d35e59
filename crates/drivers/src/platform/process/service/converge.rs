//! Brings one service to what its record says. Whoever calls holds the service's lock.
//!
//! asked → starting → running ⇄ ended by itself → started again … → failing → asked
//!
//! The first caller is [`ensure`]: somebody asks, and what failed before is forgotten. The other is [`watch`], again and
//! again: what ended by itself is started again, as often as the service's restart policy says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::super::cluster::{ADMIN_ROLE, Account};
use super::marker::{self, Whose};
use super::place::Place;
use super::postmaster::{self, Doing, Seen};
use super::record::{Desired, Record, uptime};
use super::{engines, files, words};
use crate::platform::PlatformError;
use crate::server::sql::{Admin, Dsn, SqlError, Timeouts};

pub(super) struct Means<'a> {
    pub account: &'a Account,
    pub engines: &'a BTreeMap<u16, PathBuf>,
}

/// Somebody asks for it.
pub(super) async fn ensure(means: &Means<'_>, place: &Place, record: &mut Record) -> Result<(), PlatformError> {
    record.failing = None;
    record.ended = None;
    record.restarts.clear();
    place.write(record)?;
    match look(place, record) {
        Seen::Alive { pid, .. } if is_as_told(record) => follow(means, place, record, pid).await,
        Seen::None => start(means, place, record).await,
        Seen::Alive { .. } | Seen::Remains => {
            stop(place, record, record.definition.stop_grace).await?;
            start(means, place, record).await
        }
    }
}

/// Nobody asks; time passes.
pub(super) async fn watch(means: &Means<'_>, place: &Place, record: &mut Record) -> Result<(), PlatformError> {
    let seen = look(place, record);
    match (record.desired, seen) {
        (Desired::Running, Seen::Alive { pid, .. }) => {
            if record.failing.is_some() || record.ended.is_some() {
                (record.failing, record.ended) = (None, None);
                place.write(record)?;
            }
            match is_as_told(record) {
                true => follow(means, place, record, pid).await,
                // Whoever changed the definition was interrupted.
                false => ensure(means, place, record).await,
            }
        }
        (Desired::Running, Seen::None | Seen::Remains) => revive(means, place, record).await,
        (Desired::Stopped | Desired::Removed, Seen::None) => Ok(()),
        (Desired::Stopped | Desired::Removed, Seen::Alive { .. } | Seen::Remains) => {
            stop(place, record, record.definition.stop_grace).await
        }
    }
}

/// What runs of it; who works on another's data is none of it.
pub(super) fn look(place: &Place, record: &Record) -> Seen {
    match is_anothers(place, record) {
        true => Seen::None,
        false => postmaster::look(&place.data(&record.definition)),
    }
}

pub(super) async fn stop(place: &Place, record: &Record, grace: Duration) -> Result<(), PlatformError> {
    match marker::is_ours(place, record)? {
        true => postmaster::stop(&place.data(&record.definition), grace).await,
        false => Ok(()),
    }
}

fn is_anothers(place: &Place, record: &Record) -> bool {
    marker::whose(place, record).is_ok_and(|whose| whose == Whose::Anothers)
}

/// What runs was started with what is wanted now, apart from what a reload brings.
fn is_as_told(record: &Record) -> bool {
    record.running.as_ref().is_some_and(|running| running.restart == record.definition.prints().restart)
}

async fn revive(means: &Means<'_>, place: &Place, record: &mut Record) -> Result<(), PlatformError> {
    // Without data its making was interrupted, and whoever wanted it asks again.
    if record.failing.is_some() || !record.has_data {
        return Ok(());
    }
    let now = uptime();
    let definition = &record.definition;
    let Some(ended) = record.ended.filter(|ended| *ended <= now) else {
        tracing::warn!(service = %place.name, "PostgreSQL ended by itself");
        record.ended = Some(now);
        return place.write(record);
    };
    let window = definition.restart_window;
    record.restarts.retain(|at| *at <= now && now.saturating_sub(*at) < window);
    if is_anothers(place, record) {
        record.failing = Some(format!("{} holds another's data", place.data(&record.definition).display()));
    } else if !place.data(&record.definition).join("PG_VERSION").is_file() {
        record.failing = Some(format!("its data is not in {}", place.data(&record.definition).display()));
    } else if record.restarts.len() >= usize::try_from(record.definition.restart_attempts).unwrap_or(usize::MAX) {
        record.failing = Some(format!(
            "it ended by itself, and {} restarts within {} s did not help: {}",
            record.restarts.len(),
            window.as_secs(),
            words::reason(&place.log_dir())
        ));
    } else if now.saturating_sub(ended) >= record.definition.restart_delay {
        record.restarts.push(now);
        record.ended = None;
        place.write(record)?;
        tracing::warn!(service = %place.name, attempt = record.restarts.len(), "PostgreSQL is started again");
        stop(place, record, Duration::ZERO).await?;
        return start(means, place, record).await;
    } else {
        return Ok(());
    }
    tracing::error!(service = %place.name, reason = record.failing.as_deref(), "PostgreSQL is not started again");
    place.write(record)
}

async fn start(means: &Means<'_>, place: &Place, record: &mut Record) -> Result<(), PlatformError> {
    let binaries = engines::find(means.engines, record.definition.major).await?;
    files::configuration(place, record, means.account)?;
    postmaster::start(place, &record.definition, &binaries, means.account).await?;
    record.running = Some(record.definition.prints());
    place.write(record)
}

/// It runs: what a reload and a statement bring.
async fn follow(means: &Means<'_>, place: &Place, record: &mut Record, pid: i32) -> Result<(), PlatformError> {
    let prints = record.definition.prints();
    if record.running.as_ref() != Some(&prints) {
        files::configuration(place, record, means.account)?;
        postmaster::reload(pid);
        record.running = Some(prints);
        place.write(record)?;
    }
    let is_ready = matches!(look(place, record), Seen::Alive { doing: Doing::Ready, .. });
    if is_ready && record.admin.as_ref() != Some(&record.definition.admin) {
        let outcome = give_admin(place, record).await;
        record.trouble = outcome.as_ref().err().map(|error| format!("its admin cannot be made: {error}"));
        if outcome.is_ok() {
            record.admin = Some(record.definition.admin.clone());
        }
        place.write(record)?;
    }
    Ok(())
}

/// Over the private socket, where this machine's user is a superuser.
async fn give_admin(place: &Place, record: &Record) -> Result<(), SqlError> {
    let dsn = Dsn::to_socket(&place.socket_dir(), record.definition.port, ADMIN_ROLE, "postgres");
    let timeouts = Timeouts { lock: Duration::from_secs(2), statement: Duration::from_secs(5) };
    let admin = Admin::connect_with(&dsn, None, "freehold platform", timeouts).await?;
    let told = &record.definition.admin;
    let outcome = admin.ensure_superuser(&told.role, &told.verifier).await;
    admin.close().await;
    outcome
}
