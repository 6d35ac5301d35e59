//! A configuration comes into force: write, reload, verify; what cannot be verified is taken back.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::super::{Applied, Configuration, PoolerError, PoolerErrorKind};
use super::console::Console;
use super::files::Texts;
use super::render::render;
use super::version::Release;
use super::{PgBouncer, verify};

/// What was done to the files.
pub(super) struct Written {
    before: Texts,
    after: Texts,
    /// 0: they were like this.
    count: usize,
    repaired: BTreeSet<String>,
    left_out: BTreeSet<&'static str>,
}

pub(super) async fn apply(pooler: &PgBouncer, wanted: &Configuration) -> Result<Applied, PoolerError> {
    let console = match (pooler.open().await, pooler.options.release) {
        (Ok(console), _) => console,
        // It reads them when it starts.
        (Err(error), Some(release)) if error.kind == PoolerErrorKind::Unreachable => {
            pooler.write(wanted, release).await?;
            let message = format!("{}; the files are written, and count from its start", error.message);
            return Err(PoolerError { message, ..error });
        }
        (Err(error), _) => return Err(error),
    };
    let release = console.release().await?;
    let mut turn = pooler.pace.turn().await;
    let _lock = pooler.files.lock().await?;
    pooler.refuse_older_than(verify::loaded(&console).await?, wanted.generation)?;
    let written = write(pooler, wanted, release).await?;

    let in_force = match written.count {
        0 => verify::verify(pooler, &console, wanted, release.features()).await.ok(),
        _ => None,
    };
    let (needs_restart, reloads) = match in_force {
        Some(needs_restart) => (needs_restart, 0),
        None => {
            turn.taken();
            match reload(pooler, &console, wanted, release).await {
                Ok(needs_restart) => (needs_restart, 1),
                Err(error) => return Err(take_back(&console, &written, error).await),
            }
        }
    };
    console.close().await;
    pooler.verified.fetch_max(wanted.generation, Ordering::Relaxed);
    let Written { repaired, left_out, .. } = written;
    Ok(Applied { generation: wanted.generation, reloads, repaired, needs_restart, left_out })
}

/// Under the lock.
pub(super) async fn write(
    pooler: &PgBouncer,
    wanted: &Configuration,
    release: Release,
) -> Result<Written, PoolerError> {
    let before = pooler.files.read()?;
    let found = before.examine();
    pooler.refuse_older_than(found.newest, wanted.generation)?;
    let rendered = render(wanted, release.features(), &pooler.files)?;
    let after = pooler.files.texts(wanted.generation, &rendered);
    let (files, texts, there) = (pooler.files.clone(), after.clone(), before.clone());
    // It waits for the disk.
    let writing = tokio::task::spawn_blocking(move || {
        texts.write_over(&there).inspect_err(|_| {
            // Half of them would be read by whoever reloads next.
            if let Ok(half) = files.read()
                && let Err(error) = there.write_over(&half)
            {
                tracing::error!(%error, "the pooler's files belong to two generations until they are written again");
            }
        })
    });
    let count = writing.await.map_err(|error| PoolerError::because(PoolerErrorKind::Other, "write", error))??;
    // Where there was nothing, nothing was repaired.
    let is_first = found.newest.is_none() && found.edited.is_empty();
    let repaired = if is_first { BTreeSet::new() } else { &found.edited | &found.absent };
    Ok(Written { before, after, count, repaired, left_out: rendered.left_out })
}

async fn reload(
    pooler: &PgBouncer,
    console: &Console,
    wanted: &Configuration,
    release: Release,
) -> Result<BTreeSet<String>, PoolerError> {
    console.command("RELOAD").await?;
    verify::verify(pooler, console, wanted, release.features()).await
}

/// The files of before, if they were whole, and at once: whoever is locked out by a broken list does not wait for a turn.
async fn take_back(console: &Console, written: &Written, error: PoolerError) -> PoolerError {
    if written.count == 0 || written.before.examine().generation.is_none() {
        return error;
    }
    let back = match written.before.write_over(&written.after) {
        Ok(_) => console.command("RELOAD").await.map(drop),
        Err(back) => Err(back),
    };
    let told = match back {
        Ok(()) => "the files of before are back".to_owned(),
        Err(back) => format!("and the files of before could not be put back: {back}"),
    };
    PoolerError { message: format!("{}; {told}", error.message), ..error }
}
