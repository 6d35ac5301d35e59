//! `stock.drop`: removes a database that is not wanted in stock any more. In the background: one drop took 14 s.

use async_trait::async_trait;
use freehold_durable::{Cx, Failure, Operation, Outcome, steps};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::making::Making;
use super::{make, store};
use crate::plane::Core;

steps! {
    /// What is left to do.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        Remove { database: Uuid },
    }
}

pub struct DropStock {
    pub core: Core,
}

#[async_trait]
impl Operation for DropStock {
    type Step = Step;

    fn kind(&self) -> &'static str {
        "stock.drop"
    }
    fn concurrency(&self) -> usize {
        1
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let Step::Remove { database } = step;
        let Some(making) = Making::look(&self.core, database).await? else { return Ok(Outcome::done()) };
        make::remove(&self.core, cx, &making).await?;
        Ok(Outcome::done().recording(move |tx| Box::pin(async move { Ok(store::forget(tx, database).await?) })))
    }

    fn undo(&self, _failed: &Step) -> Option<Step> {
        None
    }
}
