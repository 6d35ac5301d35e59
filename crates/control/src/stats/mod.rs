//! The stats loop: counters and sessions of every database once a minute, sizes in portions.
//!
//! A size costs a look at every file of a database, so only databases in use are measured again, those longest ago first,
//! and for a part of a round at most. Absent: a history; the store has the latest, Prometheus the rest.

pub mod due;
pub mod rate;
pub mod round;
pub mod show;
pub mod store;

use std::time::Duration;

use async_trait::async_trait;
use freehold_durable::{Failure, Loop, LoopCx};
use futures::StreamExt;

use crate::plane::Core;
use crate::server::store as servers;

/// Servers at once.
const ABREAST: usize = 8;
/// For one server, whatever it is doing.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Stats {
    pub core: Core,
}

#[async_trait]
impl Loop for Stats {
    fn name(&self) -> &'static str {
        "stats"
    }
    fn period(&self) -> Duration {
        Duration::from_secs(self.core.settings.stats.period_seconds)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        let servers = servers::all(&self.core.store).await?;
        let usable = servers.iter().filter(|server| {
            let state = matches!(server.state.as_str(), "active" | "cordoned" | "draining" | "maintenance");
            state && server.health != "unhealthy"
        });
        let rounds = usable.map(|server| async move {
            let ended = tokio::time::timeout(PATIENCE, round::of(&self.core, cx, server)).await;
            let failure = match ended {
                Ok(Ok(())) => return,
                Ok(Err(failure)) => failure.to_string(),
                Err(_) => format!("no end after {} s", PATIENCE.as_secs()),
            };
            tracing::warn!(server = server.id, failure, "not counted; counted again in its time");
        });
        futures::stream::iter(rounds).for_each_concurrent(ABREAST, |round| round).await;
        cx.still_mine().await?;
        store::forget_removed(&self.core.store).await?;
        cx.engine().wake("quota");
        Ok(())
    }
}
