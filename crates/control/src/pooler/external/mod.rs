//! The loop of external poolers: what an agent does beside a pooler, the plane does here for those that have none. It looks
//! whether something is wanted, brings it into force, and holds the deadlines of pauses, for as long as it runs.
//!
//! Absent: supervision. Whoever runs the pooler starts it again.

pub mod declare;
mod driver;
mod keeper;
pub mod store;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freehold_durable::{Failure, Loop, LoopCx};
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, sleep, timeout};

use self::keeper::Keeper;
use crate::http::problem::Refused;
use crate::plane::Core;

/// What other processes changed is seen this late at most.
const LOOK: Duration = Duration::from_millis(250);
const LOOK_WHILE_PAUSED: Duration = Duration::from_millis(50);
/// After this it is asked again whether the loop is frozen; but not while somebody is paused, who is to be resumed.
const TURN: Duration = Duration::from_secs(10);
/// For what is paused to be resumed, before the plane goes.
const GOODBYE: Duration = Duration::from_secs(5);

pub struct External {
    core: Core,
    kept: Mutex<Kept>,
    /// A pooler has answered.
    answered: Arc<Notify>,
}

/// From one run to the next, while nobody else leads.
#[derive(Default)]
struct Kept {
    epoch: i64,
    keepers: BTreeMap<String, Keeper>,
}

impl External {
    pub fn new(core: Core) -> Self {
        Self { core, kept: Mutex::default(), answered: Arc::default() }
    }

    /// Those that there are, as they are on record now.
    async fn refresh(&self, kept: &mut Kept) -> Result<(), Failure> {
        let rows = store::all(&self.core.store).await?;
        kept.keepers.retain(|id, keeper| rows.iter().any(|row| row.id == *id && keeper.is_of(row)));
        for row in rows {
            let keeper = |row: &_| Keeper::new(&self.core, row, self.answered.clone());
            kept.keepers.entry(row.id.clone()).or_insert_with(|| keeper(&row));
        }
        Ok(())
    }

    async fn goodbye(&self, kept: &mut Kept) -> Result<(), Failure> {
        let deadline = Instant::now() + GOODBYE;
        for keeper in kept.keepers.values_mut() {
            keeper.give_up();
        }
        while kept.keepers.values().any(Keeper::is_ending) && Instant::now() < deadline {
            for keeper in kept.keepers.values_mut() {
                keeper.turn(&self.core).await?;
            }
            let _ = timeout(LOOK_WHILE_PAUSED, self.answered.notified()).await;
        }
        kept.keepers.clear();
        Ok(())
    }
}

#[async_trait]
impl Loop for External {
    fn name(&self) -> &'static str {
        "pooler_external"
    }
    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        let mut kept = self.kept.lock().await;
        if kept.epoch != cx.epoch {
            *kept = Kept { epoch: cx.epoch, ..Kept::default() };
        }
        let end = Instant::now() + TURN;
        let mut awake = self.core.poolers.listen();
        loop {
            self.refresh(&mut kept).await?;
            cx.still_mine().await?;
            for keeper in kept.keepers.values_mut() {
                keeper.turn(&self.core).await?;
            }
            if self.core.poolers.is_closed() {
                return self.goodbye(&mut kept).await;
            }
            let is_paused = kept.keepers.values().any(Keeper::is_paused);
            if kept.keepers.is_empty() || Instant::now() >= end && !is_paused {
                return Ok(());
            }
            tokio::select! {
                () = awake.poked() => {}
                () = self.answered.notified() => {}
                () = sleep(if is_paused { LOOK_WHILE_PAUSED } else { LOOK }) => {}
            }
        }
    }
}

/// What a refusal means to a loop: it is tried again in its time.
fn failure(refused: Refused) -> Failure {
    Failure::transient(refused.code().as_str(), refused.0.detail.clone())
}
