//! Pauses and resumes one database: its clients wait, without an error. The agent holds the deadlines, so that nobody waits
//! for ever when the plane dies in between; here it is only said what is wanted, and read what was told.

pub mod store;

use std::time::Duration;

use freehold_api::pooler::PauseState;
use freehold_durable::Failure;
use tokio::time::Instant;
use uuid::Uuid;

use crate::plane::Core;

/// How often it is looked at what the agent told.
const LOOK: Duration = Duration::from_millis(20);
/// What an agent may take to hear of it, on top of the time for draining.
const HEARD: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy)]
pub struct Pause {
    /// How long open transactions may take to end.
    pub drain: Duration,
    /// Resumed after this, whatever happens here.
    pub hold: Duration,
}

/// How a pause went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paused {
    /// No pooler serves it: there is nothing to pause.
    Unpooled,
    /// Clients wait, nothing is open. Give it back with [`resume`].
    Holds(Uuid),
    /// Somebody held it, the agent said no, or was not heard of. It is resumed.
    Not { why: String },
}

pub async fn pause(core: &Core, database: Uuid, wanted: Pause) -> Result<Paused, Failure> {
    let Some(id) = store::want(&core.store, database, wanted.drain, wanted.hold).await? else {
        return Ok(Paused::Unpooled);
    };
    core.poolers.poke();
    let end = Instant::now() + wanted.drain + HEARD;
    loop {
        let told = store::told(&core.store, id).await?;
        let why = match told {
            Some((PauseState::Paused, _)) => return Ok(Paused::Holds(id)),
            Some((PauseState::Held | PauseState::Failed | PauseState::Resumed, why)) => {
                why.unwrap_or_else(|| "the pooler's agent gave no reason".into())
            }
            Some((PauseState::Draining, _)) | None if Instant::now() < end => {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            Some((PauseState::Draining, _)) | None => {
                "its pooler's agent was not heard of in time; see that `freehold pooler agent` runs".into()
            }
        };
        resume(core, id).await?;
        return Ok(Paused::Not { why });
    }
}

/// Its clients go on. May be said twice, and of one that is over.
pub async fn resume(core: &Core, id: Uuid) -> Result<(), Failure> {
    store::release(&core.store, id).await?;
    core.poolers.poke();
    Ok(())
}

pub(super) fn state_of(text: &str) -> PauseState {
    match text {
        "draining" => PauseState::Draining,
        "paused" => PauseState::Paused,
        "held" => PauseState::Held,
        "resumed" => PauseState::Resumed,
        _ => PauseState::Failed,
    }
}
