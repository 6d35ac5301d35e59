//! `template.retire`: removes the built database of a version that is not current any more.

use async_trait::async_trait;
use freehold_durable::{Cx, Failure, Operation, Outcome, steps};
use serde::{Deserialize, Serialize};

use super::{build, store};
use crate::plane::Core;
use crate::server::hands;

steps! {
    /// What is left to do.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        Drop { server: String, name: String, version: String },
    }
}

pub struct Retire {
    pub core: Core,
}

#[async_trait]
impl Operation for Retire {
    type Step = Step;

    fn kind(&self) -> &'static str {
        "template.retire"
    }
    fn concurrency(&self) -> usize {
        1
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let Step::Drop { server, name, version } = step;
        let Some(row) = store::find_build(&self.core.store, &server, &name, &version).await? else {
            return Ok(Outcome::done());
        };
        let server = hands::server(&self.core, &server).await?;
        let admin = hands::admin(&self.core, cx, &server, None).await?;
        build::discard(&self.core, cx, &server, &admin, &row).await?;
        Ok(Outcome::done().recording(move |tx| Box::pin(async move { Ok(store::forget_build(tx, &row).await?) })))
    }

    fn undo(&self, _failed: &Step) -> Option<Step> {
        None
    }
}
