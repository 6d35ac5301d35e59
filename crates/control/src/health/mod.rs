//! Health: every server every 30 s, all at once, each within 5 s, as tenants come and as the admin comes.
//!
//! ```text
//! healthy → degraded (1–2 looks in a row failed) → unhealthy (3, or one that says: not the right server)
//! active → failed when it becomes unhealthy → active again when it answers
//! ```
//!
//! A look reads. The one thing it writes is its own login, and only on a server that has proven to be the right one. A
//! server that could not be registered or provisioned is not looked at and not brought back.

pub mod judge;
pub mod look;
pub mod store;
pub mod visitor;

use std::time::Duration;

use async_trait::async_trait;
use freehold_durable::{Failure, Loop, LoopCx};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep};

use crate::plane::Core;
use crate::server::hands::Holder;
use crate::server::store::ServerRow;
use look::{Look, Place, StoreClock};

/// Over which the looks of one sweep begin: a hundred logins in one instant are felt by whoever shares the processor.
const SPREAD: Duration = Duration::from_millis(500);
const APART: Duration = Duration::from_millis(10);

/// How many servers are written to at once, where health's own login is missing: each takes a few turns at the store.
const MENDED_AT_ONCE: usize = 4;

pub struct Health {
    pub core: Core,
}

#[async_trait]
impl Loop for Health {
    fn name(&self) -> &'static str {
        "health"
    }
    fn period(&self) -> Duration {
        Duration::from_secs(self.core.settings.health.period_seconds)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        let core = &self.core;
        let began = Instant::now();
        let servers = store::watched(&core.store).await?;
        let visitors = store::visitors(&core.store).await?;
        let clock = StoreClock::read(&core.store).await?;
        let apart = APART.min(SPREAD / u32::try_from(servers.len().max(1)).unwrap_or(u32::MAX));
        let mending = Semaphore::new(MENDED_AT_ONCE);
        let looks: FuturesUnordered<_> = (0u32..)
            .zip(&servers)
            .map(|(n, server)| {
                let (known, clock, mending) = (visitors.get(&server.id), &clock, &mending);
                async move {
                    sleep(apart * n).await;
                    (server, look::at(core, cx, server, Place { known, clock, mending }).await)
                }
            })
            .collect();
        // Recorded one by one, on one of the store's connections; and apart from the looks, which go on meanwhile: one
        // of them may be holding the very connection that the next record waits for.
        let (found, mut records) = mpsc::unbounded_channel();
        let looked = async {
            looks.for_each(async |look| drop(found.send(look))).await;
            drop(found);
            Ok(())
        };
        let recorded = async {
            while let Some((server, look)) = records.recv().await {
                record(core, cx, server, &look).await?;
            }
            Ok::<(), Failure>(())
        };
        tokio::try_join!(looked, recorded)?;
        metrics::histogram!("freehold_health_sweep_seconds").record(began.elapsed().as_secs_f64());
        Ok(())
    }
}

/// One look at one server, recorded whatever it finds. Whether it answered as it should.
pub async fn now(core: &Core, holder: &impl Holder, server: &ServerRow) -> Result<bool, Failure> {
    let visitor = store::visitor(&core.store, &server.id).await?;
    let clock = StoreClock::read(&core.store).await?;
    let mending = Semaphore::new(1);
    let place = Place { known: visitor.as_ref(), clock: &clock, mending: &mending };
    let look = look::at(core, holder, server, place).await;
    record(core, holder, server, &look).await?;
    Ok(look.sick.is_none())
}

async fn record(core: &Core, holder: &impl Holder, server: &ServerRow, look: &Look) -> Result<(), Failure> {
    let id = server.id.as_str();
    if let Some(sick) = &look.sick {
        tracing::warn!(server = id, code = sick.code, message = sick.message, "server check failed");
    }
    let Some(change) = store::record(core, holder, server, look).await? else { return Ok(()) };
    // Placement learns it at once.
    core.fleet.forget().await;
    match change.to.as_str() {
        "failed" => tracing::error!(server = id, "the server failed: nothing is placed there until it answers"),
        to => tracing::info!(server = id, state = to, "the server answers again"),
    }
    Ok(())
}
