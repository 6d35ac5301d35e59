//! The truth: what servers really hold, compared with what the store wants, and bent back. Every server once a minute.
//!
//! A tenant may change its own password, its `role` and its defaults, and may create things as its login. This loop
//! restores verifier, `role`, defaults, admission, grants, limits and ownership, and has stock that went bad made anew.
//! It tells what is *lost* (in the store, not on the server) and what is a *ghost* (the other way round, and made here);
//! it never drops what the store does not know.

mod compare;
mod inside;
mod kept;
mod repair;
mod round;
pub mod show;
pub mod store;
mod stray;

use std::time::Duration;

use async_trait::async_trait;
use freehold_durable::{Failure, Loop, LoopCx};
use futures::StreamExt;

use crate::plane::Core;
use crate::server::store as servers;

/// Servers at once: one that is slow keeps few waiting.
const ABREAST: usize = 4;

pub struct Truth {
    pub core: Core,
}

#[async_trait]
impl Loop for Truth {
    fn name(&self) -> &'static str {
        "truth"
    }
    fn period(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        let servers = servers::all(&self.core.store).await?;
        let usable = servers.iter().filter(|server| {
            // Nothing can be mended on one that does not answer.
            matches!(server.state.as_str(), "active" | "cordoned" | "draining") && server.health != "unhealthy"
        });
        let rounds = usable.map(|server| async move {
            let failure = match round::of(&self.core, cx, server).await {
                Ok(()) => None,
                Err(failure) => {
                    tracing::warn!(server = server.id, %failure, "truth not established; tried again later");
                    Some(failure.to_string())
                }
            };
            if let Err(error) = store::record_round(&self.core.store, &server.id, failure.as_deref()).await {
                tracing::warn!(server = server.id, %error, "the round is not recorded");
            }
        });
        futures::stream::iter(rounds).for_each_concurrent(ABREAST, |round| round).await;
        Ok(store::forget_removed(&self.core.store).await?)
    }
}
