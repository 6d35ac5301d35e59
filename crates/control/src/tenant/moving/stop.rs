//! A move by dump shuts its tenant out: how that begins, how long it may be, and how it ends where the tenant was.

use std::time::Duration;

use freehold_drivers::server::sql::moving::Side;
use freehold_durable::{Class, Cx, Failure, Outcome};
use tokio::time::{Instant, sleep};

use super::sides::Moving;
use super::{DEADLINE, How, Step, copy, flip, stall, store};
use crate::plane::Core;
use crate::pooler::pause::{self, Pause, Paused};
use crate::server::hands;

/// What is open at a pooler may take so long to end by itself.
const DRAIN: Duration = Duration::from_secs(2);
/// A pooler's clients wait for so long; then they hear from the server that it lets nobody in.
const HELD: Duration = Duration::from_secs(60);
/// Sessions may take so long to be ended.
const FENCE: Duration = Duration::from_secs(10);
/// How often it is looked how far it is, and whether it is to go on.
const LOOK: Duration = Duration::from_secs(1);

/// Nobody is let in at the source from now on, if anybody was, and the schema is the one that was carried.
pub async fn run(core: &Core, cx: &Cx, how: How, tries: u32) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    moving.require_not_flipped()?;
    let old = moving.source(core, cx).await?;
    let stops = moving.admitted;
    if stops {
        hold(core, &moving, &how).await?;
    }
    cx.fault("held")?;
    let failure = match shut(cx, &moving, &old).await {
        Ok(changed) if changed.is_empty() => {
            let id = moving.row.id;
            return Ok(Outcome::step(Step::Stream { how }).recording(move |tx| {
                Box::pin(async move {
                    match stops {
                        true => Ok(store::stopped(tx, id).await?),
                        // Nobody was in.
                        false => Ok(()),
                    }
                })
            }));
        }
        Ok(changed) => {
            let_go(core, cx, &moving).await?;
            return Ok(copy::redo(&changed, how));
        }
        Err(failure) => failure,
    };
    if failure.class == Class::Fenced {
        return Err(failure);
    }
    let_go(core, cx, &moving).await?;
    match failure.class {
        Class::Transient => {
            let why = format!("{} ({})", failure.message, failure.code);
            let again = Step::Stop { how, tries: tries + 1 };
            Ok(Outcome::again(flip::later(tries), again).waiting_for("not_stopped", why))
        }
        Class::Permanent | Class::Stuck | Class::Fenced => Err(failure),
    }
}

/// A courtesy: what counts is the fence, whatever the pooler says.
async fn hold(core: &Core, moving: &Moving, how: &How) -> Result<(), Failure> {
    let (database, hold) = (moving.row.database_id, HELD.min(how.within()));
    let sessions = pause::has_sessions(core, database, core.plan(&moving.making.row.plan)).await?;
    if !sessions {
        let paused = pause::pause(core, database, Pause { drain: DRAIN, hold }).await?;
        if !matches!(paused, Paused::Not { .. }) {
            return Ok(());
        }
    }
    // Who keeps a server connection, or does not come to an end: the fence ends it, and nobody new gets one.
    if let Paused::Not { why } = pause::shut(core, database, hold).await? {
        tracing::info!(tenant = moving.row.tenant_id, why, "its pooler does not hold its clients: they are refused");
    }
    Ok(())
}

/// Answers what was changed since the schema was carried.
async fn shut(cx: &Cx, moving: &Moving, old: &Side) -> Result<Vec<String>, Failure> {
    // No session of this epoch fences what a successor has let in.
    cx.still_mine().await?;
    old.fence(&moving.tenant.login_names(), FENCE).await.map_err(hands::failure)?;
    cx.fault("fenced")?;
    let planned = &moving.row.plan.0;
    let mut changed = old.fingerprint().await.map_err(hands::failure)?.changed_since(&planned.fingerprint);
    if old.waking_triggers().await.map_err(hands::failure)? != planned.waking {
        changed.push("triggers".into());
    }
    Ok(changed)
}

/// Whoever was shut out comes in: where he was, unless the store says that the target serves.
pub async fn let_go(core: &Core, cx: &Cx, moving: &Moving) -> Result<(), Failure> {
    if !moving.row.is_flipped() && !moving.row.plan.forced.is_empty() {
        // What still reads for us holds its tables.
        let admin = hands::admin(core, cx, &moving.from, None).await?;
        admin.fence_lower_epochs(&format!("fh:{}:", cx.operation), cx.epoch + 1).await.map_err(hands::failure)?;
        let old = moving.source(core, cx).await?;
        old.force_again(&moving.row.plan.forced).await.map_err(hands::failure)?;
    }
    stall::let_go(core, cx, moving, moving.serving().0, None).await
}

/// Does this while the tenant is shut out, for as long as that may be, and shows how much has come to the target.
pub async fn while_shut<T>(
    core: &Core,
    cx: &Cx,
    moving: &Moving,
    how: &How,
    new: &Side,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let end = Instant::now() + left(core, moving, how).await?;
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = sleep(LOOK) => {
                if cx.cancel_requested().await? {
                    return Err(Failure::permanent("cancelled", "somebody asked for its end"));
                }
                if Instant::now() > end {
                    return Err(too_long(how));
                }
                let (total, done) = (moving.row.plan.bytes, new.bytes().await.map_err(hands::failure)?);
                cx.progress(done.min(total), total, "bytes").await?;
            }
        }
    }
}

/// Of the time for which the tenant may be shut out; of one that is suspended, that of the whole move.
pub async fn left(core: &Core, moving: &Moving, how: &How) -> Result<Duration, Failure> {
    if !moving.admitted {
        return Ok(DEADLINE);
    }
    let since = store::stopped_for(&core.store, moving.row.id).await?;
    let since = Duration::try_from_secs_f64(since).unwrap_or_default();
    how.within().checked_sub(since).ok_or_else(|| too_long(how))
}

fn too_long(how: &How) -> Failure {
    let message = format!(
        "nobody could write for {} s, and it was not done: the tenant goes on where it was; give it longer (--deadline), or make the \
         database smaller",
        how.stall_ms / 1000
    );
    Failure::permanent("stop_too_long", message)
}

/// Nobody is shut out until a person looks: what would be parked is undone.
pub fn never_parked(failure: Failure) -> Failure {
    match failure.class {
        Class::Stuck => Failure { class: Class::Permanent, ..failure },
        Class::Transient | Class::Permanent | Class::Fenced => failure,
    }
}
