//! Pauses and resumes one database: its clients wait, without an error. The agent holds the deadlines, so that nobody waits
//! for ever when the plane dies in between; here it is only said what is wanted, and read what was told.

pub mod store;

use std::time::Duration;

use freehold_api::plan::{Plan, PoolMode};
use freehold_api::pooler::PauseState;
use freehold_durable::Failure;
use tokio::time::Instant;
use uuid::Uuid;

use super::raise;
use crate::plane::Core;

/// What an agent told another process is seen this late at most.
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
    hold(core, database, wanted, Until::Drained).await
}

/// For clients who keep their server connection as long as they stay: who waited for them would wait for ever. From now on
/// nobody new comes in; the caller ends what is open, at the server.
pub async fn shut(core: &Core, database: Uuid, hold_for: Duration) -> Result<Paused, Failure> {
    hold(core, database, Pause { drain: hold_for, hold: hold_for }, Until::Heard).await
}

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Nothing is open.
    Drained,
    /// Its agent is at it.
    Heard,
}

async fn hold(core: &Core, database: Uuid, wanted: Pause, until: Until) -> Result<Paused, Failure> {
    let Some(id) = store::want(&core.store, database, wanted.drain, wanted.hold).await? else {
        return Ok(Paused::Unpooled);
    };
    core.poolers.poke();
    let mut awake = core.poolers.listen();
    let patience = match until {
        Until::Drained => wanted.drain + HEARD,
        Until::Heard => HEARD,
    };
    let end = Instant::now() + patience;
    loop {
        let why = match store::told(&core.store, id).await? {
            Some((PauseState::Paused, _)) => return Ok(Paused::Holds(id)),
            Some((PauseState::Draining, _)) if until == Until::Heard => return Ok(Paused::Holds(id)),
            Some((PauseState::Held | PauseState::Failed | PauseState::Resumed, why)) => {
                why.unwrap_or_else(|| "the pooler's agent gave no reason".into())
            }
            Some((PauseState::Draining, _)) | None if Instant::now() < end => {
                tokio::select! {
                    () = awake.poked() => {}
                    () = tokio::time::sleep(LOOK) => {}
                }
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

/// Whether clients keep their server connection for as long as they stay.
pub async fn has_sessions(core: &Core, database: Uuid, plan: &Plan) -> Result<bool, Failure> {
    Ok(match plan.pool_mode {
        Some(PoolMode::Session) => true,
        Some(PoolMode::Transaction) => false,
        None => store::pooler_version(&core.store, database).await?.is_some_and(|version| keeps_sessions(&version)),
    })
}

/// Without prepared statements that outlive a transaction, a PgBouncer's mode is session where nobody says another.
fn keeps_sessions(version: &str) -> bool {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u32>().ok());
    matches!((numbers.next(), numbers.next()), (Some(1), Some(minor)) if minor < 21)
}

/// What has changed of this database gets its generation now, and not when the agent asks: clients may be waiting for that.
/// Should it fail, the agent's question does it.
pub async fn raise(core: &Core, database: Uuid) {
    let raised = match store::pooler(&core.store, database).await {
        Ok(Some(pooler)) => raise::raise(&core.store, &pooler).await,
        Ok(None) => return,
        Err(error) => Err(error),
    };
    if let Err(error) = raised {
        tracing::debug!(%database, %error, "its pooler's generation was not raised before it was asked for");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_kept_by_old_pgbouncers() {
        for (version, keeps) in
            [("1.18", true), ("PgBouncer 1.20.1", true), ("1.21.0", false), ("1.24", false), ("?", false)]
        {
            assert_eq!(keeps_sessions(version), keeps, "{version}");
        }
    }
}
