//! `tenant.finish_move`: the grace of a move is over, or somebody said so. The side that was left goes, and with it the way
//! back. Not undone; what is due is looked for by the loop `moves`.
//!
//! ```text
//! unlink → drop → forget
//! sever                     the server that was left is lost: it is asked nothing, and the store forgets it
//! ```

use std::time::Duration;

use async_trait::async_trait;
use freehold_durable::{Class, Cx, Failure, Loop, LoopCx, New, Operation, OperationRow, Outcome, Resolution, steps};
use serde::{Deserialize, Serialize};
use serde_json::json;
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
        /// The side that serves lets go of the other one, which nobody can reach any more.
        Sever,
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
                let dropped = undo::drop_side(core, cx, &moving, moving.serving().1).await;
                dropped.map_err(|failure| away(&moving, failure))?;
                Ok(Outcome::step(Step::Forget))
            }
            Step::Forget => Ok(forget(cx, KIND)?),
            Step::Sever => {
                let Some(moving) = Moving::look(core, cx).await? else { return Ok(Outcome::done()) };
                sever(core, cx, &moving).await?;
                abandon(cx, &moving)
            }
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
    if moving.row.is_dump() {
        return Ok(());
    }
    let admin = hands::admin(core, cx, moving.serving().1, None).await.map_err(|failure| away(moving, failure))?;
    if !admin.database_exists(&moving.tenant.database).await.map_err(hands::failure)? {
        // One before this came as far as the drop, which comes after all of this.
        return Ok(());
    }
    let (old, new) = moving.both(core, cx).await?;
    undo::end_way_there(moving, &old, &new).await?;
    cx.fault("unlinked")?;
    undo::end_way_back(moving, &old, &new).await?;
    undo::tidy(moving, if moving.row.is_flipped() { &new } else { &old }).await
}

/// Of the side that was left, which may never be back: whoever waits hears what there is to do.
pub fn away(moving: &Moving, failure: Failure) -> Failure {
    if !matches!(failure.class, Class::Transient | Class::Stuck) {
        return failure;
    }
    let (tenant, server) = (&moving.row.tenant_id, &moving.serving().1.id);
    let message = format!(
        "what tenant {tenant} had on server {server} is not dropped yet: {}; if that server is lost for good: \
         freehold tenant move {tenant} --finish --abandon --confirm {tenant}",
        failure.message
    );
    Failure { message, ..failure }
}

/// Nothing of the move is left where the tenant is. A server that keeps its log for the other side would keep it for ever.
async fn sever(core: &Core, cx: &Cx, moving: &Moving) -> Result<(), Failure> {
    if moving.row.is_dump() {
        return Ok(());
    }
    let serves = moving.serves(core, cx).await?;
    match moving.row.is_flipped() {
        true => {
            serves.unlink(&moving.there).await.map_err(hands::failure)?;
            cx.fault("unlinked")?;
            serves.unpublish(&moving.back).await.map_err(hands::failure)?;
        }
        false => {
            serves.unlink(&moving.back).await.map_err(hands::failure)?;
            undo::end_publishing(moving, &serves).await?;
            undo::drop_retired(core, cx, moving).await?;
        }
    }
    cx.fault("severed")?;
    undo::tidy(moving, &serves).await
}

/// The other side is nobody's from now on: what it has is told, for whoever finds it one day.
fn abandon(cx: &Cx, moving: &Moving) -> Result<Outcome<Step>, Failure> {
    let (database, server) = (moving.tenant.database.clone(), moving.serving().1.id.clone());
    let mut roles: Vec<String> = moving.tenant.role_names().into_iter().map(str::to_owned).collect();
    roles.extend(moving.row.plan.roles.iter().filter(|role| !roles.contains(role)).cloned().collect::<Vec<_>>());
    let (tenant, actor) = (fence::tenant(cx)?, Actor::operation(cx.operation, None));
    let event = Event::done(&actor, "tenant.move.abandoned", format!("tenant:{tenant}"));
    forget_with(cx, KIND, Some(event.with(json!({"server": server, "database": database, "roles": roles}))))
}

/// With its last record.
pub fn forget<S>(cx: &Cx, kind: &'static str) -> Result<Outcome<S>, Failure> {
    forget_with(cx, kind, None)
}

fn forget_with<S>(cx: &Cx, kind: &'static str, also: Option<Event>) -> Result<Outcome<S>, Failure> {
    let (tenant, actor, engine) = (fence::tenant(cx)?, Actor::operation(cx.operation, None), cx.engine());
    Ok(Outcome::done().recording(move |tx| {
        Box::pin(async move {
            store::forget(tx, &tenant).await?;
            engine.wake_in(tx, "stock").await?;
            if let Some(event) = also {
                event.save(&mut *tx).await?;
            }
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
