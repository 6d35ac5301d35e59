//! The credentials loop: begins the retirement of each login whose grace is over. It takes no input and keeps nothing: what
//! is due is in the store, and what fails is due again ten minutes later.

use std::time::Duration;

use async_trait::async_trait;
use freehold_durable::{Failure, Loop, LoopCx};

use super::retire::{KIND, RetireLogin, Step};
use super::store;
use crate::audit::record::Actor;
use crate::plane::Core;
use crate::tenant::change;

pub const LOOP: &str = "credentials";

pub struct RetireDue {
    pub core: Core,
}

#[async_trait]
impl Loop for RetireDue {
    fn name(&self) -> &'static str {
        LOOP
    }
    fn period(&self) -> Duration {
        Duration::from_secs(15)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        for tenant in store::due(&self.core.store).await? {
            cx.still_mine().await?;
            let actor = Actor::of_loop(LOOP);
            let mut tx = self.core.store.begin().await?;
            // The list may be old by now: whoever was deleted meanwhile is left as he is.
            if !store::is_due(&mut tx, &tenant).await? {
                continue;
            }
            let new = change::new::<RetireLogin>(KIND, &tenant, Step::Refuse, &actor);
            change::begin_due::<RetireLogin>(cx, tx, new, &actor).await?;
        }
        Ok(())
    }
}
