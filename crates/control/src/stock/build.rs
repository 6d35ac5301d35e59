//! `stock.build`: one database for the stock.
//!
//! create → own, which ends with a probe; then it is ready, or waits for its pooler without an operation: many that wait are one reload, and
//! none of them takes a turn from what is built. It is claimable only once a login has been seen to work.

use async_trait::async_trait;
use freehold_durable::{Cx, Failure, Operation, Outcome, Resolution, steps};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::making::Making;
use super::{make, store};
use crate::plane::Core;
use crate::schema::store as templates;

steps! {
    /// What is left to do.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        Create { database: Uuid },
        /// And see that a login works there.
        Own { database: Uuid },
        /// Takes back whatever was made.
        Remove { database: Uuid },
    }
}

pub struct BuildStock {
    pub core: Core,
}

#[async_trait]
impl Operation for BuildStock {
    type Step = Step;

    fn kind(&self) -> &'static str {
        "stock.build"
    }
    fn concurrency(&self) -> usize {
        // Two copy while one is owned and probed.
        4
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let (Step::Create { database } | Step::Own { database } | Step::Remove { database }) = step;
        let Some(making) = Making::look(&self.core, database).await? else { return Ok(Outcome::done()) };
        match step {
            Step::Create { .. } => {
                make::create(&self.core, cx, &making, making.built()?).await?;
                Ok(Outcome::step(Step::Own { database }))
            }
            Step::Own { .. } => {
                let build = making.built()?.clone();
                make::own(&self.core, cx, &making, &build).await?;
                make::probe(&self.core, &making).await?;
                let engine = cx.engine();
                Ok(Outcome::done().recording(move |tx| {
                    Box::pin(async move {
                        if store::made(tx, database, &build.missing).await? {
                            engine.wake_in(tx, "pooler").await?;
                        }
                        templates::copied(tx, &build).await?;
                        Ok(engine.wake_in(tx, "stock").await?)
                    })
                }))
            }
            Step::Remove { .. } => {
                make::remove(&self.core, cx, &making).await?;
                let row = making.row.clone();
                Ok(Outcome::done().recording(move |tx| {
                    Box::pin(async move {
                        store::forget(tx, database).await?;
                        // So that the next is not begun at once, and fails the same.
                        Ok(templates::copy_failed(tx, &row.server_id, &row.template, &row.template_version).await?)
                    })
                }))
            }
        }
    }

    async fn resolved(&self, tx: &mut PgConnection, step: &Step, _: Uuid, _: Resolution) -> Result<(), sqlx::Error> {
        let (Step::Create { database } | Step::Own { database } | Step::Remove { database }) = step;
        // Whatever is there of it is nobody's: it is removed like other stock.
        store::begin_dropping(tx, *database).await.map(drop)
    }

    fn undo(&self, failed: &Step) -> Option<Step> {
        match failed {
            Step::Create { database } | Step::Own { database } | Step::Remove { database } => {
                Some(Step::Remove { database: *database })
            }
        }
    }
}
