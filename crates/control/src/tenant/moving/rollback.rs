//! `tenant.roll_back_move`: within the grace of a move, the tenant goes back to the server that it came from, with everything
//! that it wrote since: that side followed all the time.
//!
//! ```text
//! sync → turn → unlink → drop → (nothing of the move is left)
//! undo, before the store says that the old side serves again: let go, and the move is as it was
//! ```

use std::time::Duration;

use async_trait::async_trait;
use freehold_durable::{Cx, Failure, Operation, OperationRow, Outcome, Resolution, steps};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::sides::Moving;
use super::stall::{self, Ended, Stall};
use super::{How, copy, finish, flip, store, undo};
use crate::plane::Core;
use crate::server::hands;
use crate::tenant::change;
use crate::tenant::turn::tenant_of;

pub const KIND: &str = "tenant.roll_back_move";
/// As long as it may be tried; the move's grace begins anew when it comes to nothing.
pub const DEADLINE: Duration = Duration::from_secs(6 * 3600);

steps! {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        /// Logins as they are now: they may have been rotated since.
        Sync { how: How },
        /// The stall.
        Turn { how: How, tries: u32 },
        /// Nothing replicates any more.
        Unlink,
        /// Database and roles of the side that was left again; logins that were retired there meanwhile.
        Drop,
        /// The move's record, and the slot there.
        Forget,
        /// Undo: the new side goes on serving, and the old one goes on following.
        LetGo { how: How },
    }
}

pub struct RollBack {
    pub core: Core,
}

#[async_trait]
impl Operation for RollBack {
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
            Step::Sync { how } => sync(core, cx, how).await,
            Step::Turn { how, tries } => turn(core, cx, how, tries).await,
            Step::Unlink => {
                let moving = Moving::find(core, cx).await?;
                finish::unlink(core, cx, &moving).await?;
                Ok(Outcome::step(Step::Drop))
            }
            Step::Drop => {
                let moving = Moving::find(core, cx).await?;
                let dropped = undo::drop_side(core, cx, &moving, moving.serving().1).await;
                dropped.map_err(|failure| finish::away(&moving, failure))?;
                undo::drop_retired(core, cx, &moving).await?;
                Ok(Outcome::step(Step::Forget))
            }
            Step::Forget => finish::forget(cx, KIND),
            Step::LetGo { how } => let_go(core, cx, how).await,
        }
    }

    fn undo(&self, failed: &Step) -> Option<Step> {
        match failed {
            Step::Sync { how } | Step::Turn { how, .. } | Step::LetGo { how } => Some(Step::LetGo { how: how.clone() }),
            // It serves again: what is left of the other side goes all the same.
            Step::Unlink | Step::Drop | Step::Forget => None,
        }
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        change::record_failure(tx, operation).await?;
        match tenant_of(tx, operation.id).await? {
            Some(tenant) => store::leave(tx, &tenant).await,
            None => Ok(()),
        }
    }

    async fn resolved(
        &self,
        tx: &mut PgConnection,
        step: &Step,
        operation: Uuid,
        resolution: Resolution,
    ) -> Result<(), sqlx::Error> {
        match (resolution, step, tenant_of(tx, operation).await?) {
            (Resolution::Succeeded, Step::Drop | Step::Forget, Some(tenant)) => store::forget(tx, &tenant).await,
            _ => Ok(()),
        }
    }
}

async fn sync(core: &Core, cx: &Cx, how: How) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    if !moving.row.follows {
        let message = format!("server {} does not follow any more: there is no way back", moving.from.id);
        return Err(Failure::permanent("no_way_back", message));
    }
    let (old, new) =
        tokio::try_join!(hands::admin(core, cx, &moving.from, None), hands::admin(core, cx, &moving.to, None))?;
    cx.still_mine().await?;
    // All of them NOLOGIN, as they are there anyway.
    old.prepare_roles(&new, &moving.tenant).await.map_err(hands::failure)?;
    cx.fault("roles")?;
    if let Some((_, plan)) = moving.row.plans() {
        moving.limit(&old, plan, core).await?;
    }
    Ok(Outcome::step(Step::Turn { how, tries: 0 }))
}

async fn turn(core: &Core, cx: &Cx, how: How, tries: u32) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    stall::let_go(core, cx, &moving, moving.serving().0, None).await?;
    if !moving.row.is_flipped() {
        return Ok(Outcome::step(Step::Unlink));
    }
    let (old, new) = moving.both(core, cx).await?;
    let stall = Stall {
        core,
        cx,
        moving: &moving,
        from: &new,
        to: &old,
        from_server: &moving.to,
        to_server: &moving.from,
        link: &moving.back,
        way_back: None,
        within: how.within(),
    };
    match stall.run().await? {
        Ended::Turned { stall, spent, differing } => {
            let differing = differing.map(|names| copy::named(&names));
            tracing::info!(
                tenant = moving.row.tenant_id,
                to = moving.from.id,
                stall_ms = stall.as_millis(),
                spent,
                differing,
                "moved back"
            );
            match differing {
                // Both sides are kept as they are until a person has looked: dropping one would settle it.
                Some(names) if !names.is_empty() => {
                    let message = format!(
                        "server {} serves again, and at that moment these were not the same as on server {}: {names}; compare \
                         them, then retry this operation, which drops the side on server {}",
                        moving.from.id, moving.to.id, moving.to.id
                    );
                    Err(Failure::stuck("digests_differ", message))
                }
                _ => Ok(Outcome::step(Step::Unlink)),
            }
        }
        Ended::Not { code, why } => {
            Ok(Outcome::again(flip::later(tries), Step::Turn { how, tries: tries + 1 }).waiting_for(code, why))
        }
        Ended::SchemaChanged(names) => {
            let message = format!(
                "the schema was changed since the move ({}), which the old side does not have: undo that change, or move the \
                 tenant there anew once this move is finished",
                copy::named(&names)
            );
            Err(Failure::permanent("schema_changed", message))
        }
    }
}

async fn let_go(core: &Core, cx: &Cx, how: How) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    stall::let_go(core, cx, &moving, moving.serving().0, None).await?;
    if !moving.row.is_flipped() {
        return Ok(Outcome::step(Step::Unlink));
    }
    if moving.row.follows {
        let old = moving.source(core, cx).await?;
        old.quiet_triggers(&moving.row.plan.waking).await.map_err(hands::failure)?;
        old.enable(&moving.back).await.map_err(hands::failure)?;
    }
    let (id, follows) = (moving.row.id, moving.row.follows);
    Ok(Outcome::done()
        .recording(move |tx| Box::pin(async move { Ok(store::keep(tx, id, follows, how.keep_seconds).await?) })))
}
