//! The loop of poolers: every database gets one, also those that were made before there was any; what the settings add is
//! as it is now; each may open what its server's budget gives it; pauses that were over long ago are forgotten. Touches no pooler itself.

use std::time::Duration;

use async_trait::async_trait;
use freehold_durable::{Failure, Loop, LoopCx};

use super::budget::govern;
use super::pause::store as pauses;
use super::{assign, raise, render, store};
use crate::plane::Core;

pub struct Keep {
    pub core: Core,
}

#[async_trait]
impl Loop for Keep {
    fn name(&self) -> &'static str {
        "pooler"
    }
    fn period(&self) -> Duration {
        Duration::from_secs(2)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        let core = &self.core;
        cx.still_mine().await?;
        store::set_settings(&core.store, &render::fingerprint(&core.settings)).await?;
        assign::assign(&core.store).await?;
        pauses::forget(&core.store).await?;
        // What cannot be governed is served all the same.
        let governed = govern::turn(core, cx).await;
        let mut raised = false;
        for pooler in store::marked(&core.store).await? {
            raised |= raise::raise(&core.store, &pooler).await?;
        }
        if raised {
            core.poolers.poke();
        }
        governed
    }
}
