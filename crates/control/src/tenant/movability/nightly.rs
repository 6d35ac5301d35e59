//! The movability loop: judges each tenant about once a day, by where it is alone, a few at a time, so that nobody learns on
//! the day of a move what is in its way. What it finds is kept; nothing is changed, and nobody is told but who looks.

use std::time::Duration;

use async_trait::async_trait;
use freehold_durable::{Class, Failure, Loop, LoopCx};
use futures::StreamExt;
use rand::RngExt;
use tokio::time::{Instant, timeout};

use super::look::{self, Watch};
use super::store;
use crate::plane::Core;

/// At once.
const ABREAST: usize = 2;
/// In one round, and how long that may take.
const PORTION: i64 = 200;
const ROUND: Duration = Duration::from_secs(50);
/// For one of them.
const ONE: Duration = Duration::from_secs(40);
/// A day, and up to two hours more or less, so that those that came together do not stay together.
const AGAIN: Duration = Duration::from_secs(22 * 3600);
const JITTER: u64 = 4 * 3600;
const AFTER_FAILURE: Duration = Duration::from_secs(3600);

pub struct Nightly {
    pub core: Core,
}

#[async_trait]
impl Loop for Nightly {
    fn name(&self) -> &'static str {
        "movability"
    }
    fn period(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        let due = store::due(&self.core.store, PORTION).await?;
        let end = Instant::now() + ROUND;
        let judged = futures::stream::iter(due).map(|tenant| async move {
            // The others' turn comes: they are due still.
            if Instant::now() >= end { Ok(()) } else { self.judge(cx, &tenant).await }
        });
        let ended: Vec<Result<(), Failure>> = judged.buffer_unordered(ABREAST).collect().await;
        ended.into_iter().collect()
    }
}

impl Nightly {
    /// Fails where the loop is somebody else's by now, or the store is away; a tenant that cannot be judged is written down.
    async fn judge(&self, cx: &LoopCx, tenant: &str) -> Result<(), Failure> {
        let core = &self.core;
        let looked = timeout(ONE, look::look(core, cx, tenant, None, Watch::Nothing)).await;
        let failure = match looked {
            Ok(Ok(found)) => {
                cx.still_mine().await?;
                let again = AGAIN + Duration::from_secs(rand::rng().random_range(0..JITTER));
                return Ok(store::record(&core.store, &found, again).await?);
            }
            Ok(Err(failure)) if failure.class == Class::Fenced => return Err(failure),
            Ok(Err(failure)) => failure.to_string(),
            Err(_) => format!("no end after {} s", ONE.as_secs()),
        };
        tracing::info!(tenant.id = tenant, failure, "not judged; judged again in its time");
        Ok(store::record_failure(&core.store, tenant, &failure, AFTER_FAILURE).await?)
    }
}
