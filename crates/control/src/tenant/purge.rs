//! `tenant.purge`: database, roles and secrets go, then the tenant itself; then its id is free again.
//! There is no way back and no undo. Deleted tenants are purged by themselves when their grace has ended.

use std::time::Duration;

use async_trait::async_trait;
use freehold_durable::{Cx, Failure, Loop, LoopCx, Operation, OperationRow, Outcome, Resolution, steps};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::turn::tenant_of;
use super::{change, fence, store};
use crate::audit::record::{Actor, Event};
use crate::plane::Core;
use crate::pooler::follow;
use crate::stock::make;
use crate::stock::making::Making;
use crate::stock::store as databases;

steps! {
    /// What is left of purging.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum PurgeStep {
        /// Database and roles, on the server.
        Remove,
        /// Everything in the store.
        Erase,
    }
}

pub struct Purge {
    pub core: Core,
}

#[async_trait]
impl Operation for Purge {
    type Step = PurgeStep;

    fn kind(&self) -> &'static str {
        "tenant.purge"
    }
    fn concurrency(&self) -> usize {
        4
    }

    async fn run(&self, cx: &Cx, step: PurgeStep) -> Result<Outcome<PurgeStep>, Failure> {
        let tenant = fence::tenant(cx)?;
        match step {
            PurgeStep::Remove => {
                if !store::begin_purge(&self.core.store, &tenant).await? {
                    return Err(Failure::permanent("not_deleted", "the tenant is not deleted any more"));
                }
                if let Some(row) = databases::find_of_tenant(&self.core.store, &tenant).await? {
                    // Its pooler first: it would go on asking for what is not there any more.
                    if !follow::is_gone(&self.core, row.id).await? {
                        return Ok(Outcome::again(follow::LOOK, PurgeStep::Remove));
                    }
                    fence::refuse_kept(&self.core, cx, &row).await?;
                    let making = Making::find(&self.core, row.id).await?;
                    make::remove(&self.core, cx, &making).await?;
                }
                Ok(Outcome::step(PurgeStep::Erase))
            }
            PurgeStep::Erase => {
                let actor = Actor::operation(cx.operation, None);
                let engine = cx.engine();
                Ok(Outcome::done().recording(move |tx| {
                    Box::pin(async move {
                        store::erase(tx, &tenant).await?;
                        engine.wake_in(tx, "stock").await?;
                        Ok(Event::done(&actor, "tenant.purge", format!("tenant:{tenant}")).save(tx).await?)
                    })
                }))
            }
        }
    }

    fn undo(&self, _failed: &PurgeStep) -> Option<PurgeStep> {
        None
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        let id = change::tenant_of(operation);
        store::keep(tx, id, self.core.settings.tenants.deletion_grace_seconds).await?;
        change::record_failure(tx, operation).await
    }

    async fn resolved(
        &self,
        tx: &mut PgConnection,
        _step: &PurgeStep,
        operation: Uuid,
        resolution: Resolution,
    ) -> Result<(), sqlx::Error> {
        match (resolution, tenant_of(tx, operation).await?) {
            (Resolution::Succeeded, Some(tenant)) => store::erase(tx, &tenant).await,
            _ => Ok(()),
        }
    }
}

/// Purges what is past its grace.
pub struct PurgeDue {
    pub core: Core,
}

#[async_trait]
impl Loop for PurgeDue {
    fn name(&self) -> &'static str {
        "purge"
    }
    fn period(&self) -> Duration {
        Duration::from_secs(30)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        for row in store::due_for_purge(&self.core.store).await? {
            cx.still_mine().await?;
            let actor = Actor::of_loop("purge");
            let mut tx = self.core.store.begin().await?;
            // The list may be old by now: whoever was undeleted meanwhile is not purged.
            if !store::is_due(&mut tx, &row.id).await? {
                continue;
            }
            let new = change::new::<Purge>("tenant.purge", &row.id, PurgeStep::Remove, &actor);
            change::begin_due::<Purge>(cx, tx, new, &actor).await?;
        }
        Ok(())
    }
}
