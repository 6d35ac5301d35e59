//! After the flip: nothing goes back by itself. The way there is taken down, and the side that was left follows.

use std::time::Duration;

use freehold_drivers::server::sql::moving::Content;
use freehold_durable::{Cx, Failure, Outcome};

use super::sides::Moving;
use super::{How, LOCKS, Step, store, undo};
use crate::plane::Core;
use crate::pooler::follow;
use crate::server::hands;

const LOOK: Duration = Duration::from_millis(500);

/// The pooler has turned around, or is not to be waited for. What was not the same at the flip stays as it is, on both sides, until a person has looked.
pub async fn verify(core: &Core, cx: &Cx, how: How) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    if !follow::is_served(core, moving.row.database_id).await? {
        return Ok(Outcome::again(follow::LOOK, Step::Verify { how }));
    }
    match moving.row.digests.as_deref() {
        Some("different") => {
            let message = format!(
                "server {} serves, and at that moment some tables were not the same as on server {}, which is kept as it was: \
                 this server's log names them; compare them, then resolve this operation",
                moving.to.id, moving.from.id
            );
            Err(Failure::stuck("digests_differ", message))
        }
        Some(_) if moving.row.is_dump() => Ok(kept_as_it_was(&moving, &how)),
        Some(_) => Ok(Outcome::step(Step::Follow { how })),
        // The process died between the commit and the comparison.
        None => {
            let id = moving.row.id;
            Ok(Outcome::step(Step::Follow { how })
                .recording(move |tx| Box::pin(async move { Ok(store::compared(tx, id, "unread", None).await?) })))
        }
    }
}

pub async fn follow(core: &Core, cx: &Cx, how: How) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    let (old, new) = moving.both(core, cx).await?;
    undo::end_way_there(&moving, &old, &new).await?;
    cx.fault("unlinked")?;
    // It applies what was done elsewhere from now on.
    old.quiet_triggers(&moving.row.plan.waking).await.map_err(hands::failure)?;
    let from = moving.reader(core, &moving.back)?;
    cx.still_mine().await?;
    old.subscribe(&moving.back, &from, Content::Equal).await.map_err(hands::failure)?;
    if let Some(place) = &moving.row.plan.place {
        old.follow_from(&moving.back, place).await.map_err(hands::failure)?;
    }
    old.enable(&moving.back).await.map_err(hands::failure)?;
    cx.fault("subscribed")?;
    let progress = old.progress(&moving.back).await.map_err(hands::failure)?;
    if !progress.is_ready() {
        let why = progress.hindered.unwrap_or_else(|| "it begins to follow".into());
        let message = format!("server {}: {why}", moving.from.id);
        return Ok(Outcome::again(LOOK, Step::Follow { how }).waiting_for("not_following", message));
    }
    let id = moving.row.id;
    Ok(Outcome::done()
        .recording(move |tx| Box::pin(async move { Ok(store::keep(tx, id, true, how.keep_seconds).await?) })))
}

/// Given up after the flip: the new side goes on alone, and the old one is kept as it was then.
pub async fn unfollow(core: &Core, cx: &Cx, how: How) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    if moving.row.is_dump() {
        return Ok(kept_as_it_was(&moving, &how));
    }
    let (old, new) = moving.both(core, cx).await?;
    undo::end_way_there(&moving, &old, &new).await?;
    cx.fault("unlinked")?;
    undo::end_way_back(&moving, &old, &new).await?;
    new.restore_identities(&moving.row.plan.identities, LOCKS).await.map_err(hands::failure)?;
    Ok(kept_as_it_was(&moving, &how))
}

/// Nothing comes after it on the side that was left.
fn kept_as_it_was(moving: &Moving, how: &How) -> Outcome<Step> {
    let (id, seconds) = (moving.row.id, how.keep_seconds);
    Outcome::done().recording(move |tx| Box::pin(async move { Ok(store::keep(tx, id, false, seconds).await?) }))
}
