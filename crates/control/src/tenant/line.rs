//! Where callers who create stand in line, before they take a connection to the store. A hundred at once would hold all of
//! them, most while they wait for one server's row, and whoever only reads would be told that the store does not answer.

use std::sync::Arc;
use std::time::Duration;

use freehold_api::problem::Code;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::http::problem::Refused;
use crate::plane::Answer;

/// Longer than this the store or this machine is too slow for what is asked of it.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct Line {
    turns: Arc<Semaphore>,
    patience: Duration,
}

impl Line {
    pub fn new(at_once: u32) -> Self {
        Self { turns: Arc::new(Semaphore::new(at_once.max(1) as usize)), patience: PATIENCE }
    }

    pub async fn turn(&self) -> Answer<SemaphorePermit<'_>> {
        match tokio::time::timeout(self.patience, self.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => {
                let detail = format!(
                    "more tenants are being created than the control store takes: this create had no turn within {} seconds, \
                     and nothing of it was begun; try again in a moment",
                    self.patience.as_secs()
                );
                Err(Refused::new(Code::StoreUnavailable, detail))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_too_long_for_a_turn_is_told() {
        let line = Line { patience: Duration::from_millis(20), ..Line::new(1) };
        let held = line.turn().await.unwrap();
        let refused = line.turn().await.expect_err("somebody has the only turn");
        assert_eq!(refused.0.code, Code::StoreUnavailable);
        drop(held);
        assert!(line.turn().await.is_ok());
    }
}
