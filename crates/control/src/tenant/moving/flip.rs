//! Who serves changes. Before anything else the store is asked whether it has already.

use std::time::Duration;

use freehold_durable::{Cx, Failure, Outcome};

use super::sides::Moving;
use super::stall::{self, Ended, Stall};
use super::{How, Step, copy, store};
use crate::plane::Core;

const LAST_PAUSE: Duration = Duration::from_secs(300);

pub async fn run(core: &Core, cx: &Cx, how: How, tries: u32) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    // Whoever was at it before may have ended anywhere: those of the side that serves come in, and nothing is paused.
    stall::let_go(core, cx, &moving, moving.serving().0, None).await?;
    if moving.row.is_flipped() {
        return Ok(Outcome::step(Step::Verify { how }));
    }
    let (from, to) = moving.both(core, cx).await?;
    let stall = Stall {
        core,
        cx,
        moving: &moving,
        from: &from,
        to: &to,
        from_server: &moving.from,
        to_server: &moving.to,
        link: &moving.there,
        way_back: Some(&moving.back),
        within: moving.within(&how),
    };
    match stall.run().await? {
        Ended::Turned { stall, spent, differing } => {
            let millis = moving.admitted.then(|| i32::try_from(stall.as_millis()).unwrap_or(i32::MAX));
            let digests = match &differing {
                None => "unread",
                Some(names) if names.is_empty() => "equal",
                Some(names) => {
                    tracing::error!(
                        tenant = moving.row.tenant_id,
                        tables = copy::named(names),
                        "not the same on both sides"
                    );
                    "different"
                }
            };
            tracing::info!(
                tenant = moving.row.tenant_id,
                to = moving.to.id,
                stall_ms = millis,
                spent,
                digests,
                "moved"
            );
            let id = moving.row.id;
            Ok(Outcome::step(Step::Verify { how })
                .recording(move |tx| Box::pin(async move { Ok(store::compared(tx, id, digests, millis).await?) })))
        }
        Ended::Not { code, why } => {
            Ok(Outcome::again(later(tries), Step::Flip { how, tries: tries + 1 }).waiting_for(code, why))
        }
        Ended::SchemaChanged(names) => Ok(copy::redo(&names, how)),
    }
}

/// Who was interrupted is left in peace for a while, each time for longer.
pub fn later(tries: u32) -> Duration {
    Duration::from_secs(2).saturating_mul(2u32.saturating_pow(tries.min(8))).min(LAST_PAUSE)
}
