//! `tenant.finish_move`: the grace of a move is over, or somebody said so. The side that was left goes, and with it the way
//! back. Not undone; what is due is looked for by the loop `moves`.

use std::time::Duration;

use async_trait::async_trait;
use freehold_durable::{Cx, Failure, Loop, LoopCx, New, Operation, OperationRow, Outcome, Resolution, steps};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::sides::Moving;
use super::{kept, store, undo};
use crate::audit::record::{Actor, Event};
use crate::plane::Core;
use crate::server::hands;
use crate::tenant::turn::tenant_of;
use crate::tenant::{change, fence};

pub const KIND: &str = "tenant.finish_move";
/// For a server that does not answer. Whatever is left by then is begun again by the loop.
pub const DEADLINE: Duration = Duration::from_secs(3600);

steps! {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        /// Nothing replicates any more.
        Unlink,
        /// Database and roles of the side that does not serve.
        Drop,
        /// Its slot.
        Forget,
    }
}

pub struct FinishMove {
    pub core: Core,
}

#[async_trait]
impl Operation for FinishMove {
    type Step = Step;

    fn kind(&self) -> &'static str {
        KIND
    }
    fn concurrency(&self) -> usize {
        4
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let core = &self.core;
        match step {
            Step::Unlink => {
                let Some(moving) = Moving::look(core, cx).await? else { return Ok(Outcome::done()) };
                unlink(core, cx, &moving).await?;
                Ok(Outcome::step(Step::Drop))
            }
            Step::Drop => {
                let moving = Moving::find(core, cx).await?;
                undo::drop_side(core, cx, &moving, moving.serving().1).await?;
                Ok(Outcome::step(Step::Forget))
            }
            Step::Forget => Ok(forget(cx, KIND)?),
        }
    }

    fn undo(&self, _failed: &Step) -> Option<Step> {
        None
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        change::record_failure(tx, operation).await
    }

    async fn resolved(
        &self,
        tx: &mut PgConnection,
        _step: &Step,
        operation: Uuid,
        resolution: Resolution,
    ) -> Result<(), sqlx::Error> {
        match (resolution, tenant_of(tx, operation).await?) {
            (Resolution::Succeeded, Some(tenant)) => store::forget(tx, &tenant).await,
            _ => Ok(()),
        }
    }
}

pub async fn unlink(core: &Core, cx: &Cx, moving: &Moving) -> Result<(), Failure> {
    let admin = hands::admin(core, cx, moving.serving().1, None).await?;
    if !admin.database_exists(&moving.tenant.database).await.map_err(hands::failure)? {
        // One before this came as far as the drop, which comes after all of this.
        return Ok(());
    }
    let (old, new) = moving.both(core, cx).await?;
    undo::end_way_there(moving, &old, &new).await?;
    undo::end_way_back(moving, &old, &new).await?;
    undo::tidy(moving, if moving.row.is_flipped() { &new } else { &old }).await
}

/// With its last record.
pub fn forget<S>(cx: &Cx, kind: &'static str) -> Result<Outcome<S>, Failure> {
    let (tenant, actor, engine) = (fence::tenant(cx)?, Actor::operation(cx.operation, None), cx.engine());
    Ok(Outcome::done().recording(move |tx| {
        Box::pin(async move {
            store::forget(tx, &tenant).await?;
            engine.wake_in(tx, "stock").await?;
            Ok(Event::done(&actor, &format!("{kind}.end"), format!("tenant:{tenant}")).save(tx).await?)
        })
    }))
}

/// Ends what is past its grace, and looks whether the rest can still go back. A tenant that is not active waits until it is: its maintenance login is refused as well.
pub struct FinishDue {
    pub core: Core,
}

#[async_trait]
impl Loop for FinishDue {
    fn name(&self) -> &'static str {
        "moves"
    }
    fn period(&self) -> Duration {
        Duration::from_secs(30)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        let actor = Actor::of_loop(self.name());
        for tenant in store::due(&self.core.store).await? {
            cx.still_mine().await?;
            let mut tx = self.core.store.begin().await?;
            if !store::is_due(&mut tx, &tenant).await? {
                continue;
            }
            let new =
                New { deadline: Some(DEADLINE), ..change::new::<FinishMove>(KIND, &tenant, Step::Unlink, &actor) };
            change::begin_due::<FinishMove>(cx, tx, new, &actor).await?;
        }
        kept::watch(&self.core, cx, &actor).await
    }
}
