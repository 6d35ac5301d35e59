//! `tenant.move`: a tenant's database goes to another server while it is written to. Composed of the verbs of
//! `freehold_drivers::server::sql::moving`, whose recipe this is; what is between two of them is on record.
//!
//! ```text
//! reserve → prepare → plan → publish → copy → complete → ready → flip → verify → follow → (kept, until its grace is over)
//!              ↑        └───────┴────────┴────────┴────────┴──────┤
//!              └───────────────────── redo ←──────────────────────┘  the tenant changed its schema
//! by dump:                plan → define → stop → stream → build → check → switch → verify → (kept)
//!                          ↑        └── redo ←┘
//! undo, from anywhere before the flip:  let go → withdraw → drop → release
//! undo, from anywhere after it:         unfollow: nothing goes back, and nothing of replication is left
//! ```
//!
//! | step | on record with it | undone by |
//! |---|---|---|
//! | reserve | the move; a slot and the names at the target (a row `moving`); both readers' passwords, sealed | release |
//! | prepare | – | drop: database and roles at the target |
//! | plan | replica identities as they were, the schema's fingerprint, how large it is | – |
//! | publish, copy, complete, ready | – | withdraw: subscriptions, slots, publications, readers, marker, identities |
//! | flip | *inside* the step, in one transaction: who serves, from which place of its log on the other side follows, and that nothing is undone any more | let go, before it |
//! | define | – | drop |
//! | stop | since when nobody is let in | let go, until the switch |
//! | stream, build, check | – | drop |
//! | switch | *inside* the step, in one transaction: who serves, and that both sides were equal | let go, before it |
//! | verify, follow | whether the digests were equal; that the old side follows, and until when it is kept | unfollow |
//!
//! **One side serves**: `tenant_database.server_id`, at every moment. Before the flip the target's logins are NOLOGIN and its
//! address is told to nobody; after it the source's are. In between, for some tens of milliseconds, nobody's may log in.
//!
//! **The stall** is one run of `flip`. All that can be opened or read is, before. Then, within [`How::stall_ms`] or not at all:
//! PAUSE (its own limit for draining) → fence → mark → await the mark, and whether the schema is what it was → disable →
//! changed sequences, unlogged tables, large objects, triggers → skip on the way back → snapshot → *commit* → admit at the
//! target → take the pause back, by which the pooler turns around first and lets go then. What does not fit lets everybody
//! go on where they were, and is tried again later, with growing pauses, until the operation's deadline.
//!
//! While that goes on what was changed most, and what is small, is compared for 20 ms at most (`stall`): what differs ends the
//! move there, and the side that was to come does not serve. All of it is compared after the stall.
//!
//! **Killed inside it.** The pause ends by itself: the agent holds its deadline, which is later than ours. Logins stay
//! NOLOGIN until the step runs again, which begins by asking the store which side serves, and admits the logins of that
//! one; a commit whose answer was lost is asked for in the same way, and nobody is let in before it is known. Sessions of
//! whoever was killed are ended by name before anything is done (rule 8), and the commit is guarded by the epoch. Of a
//! flip whose process died, the digests under the fence are lost: `digests` says so.
//!
//! **The way back** was made before the fence. Once the digests agree, the old side follows the new one. `rollback` is the
//! same flip from new to old, and drops the new side; `finish` drops the old one, at the end of the grace or when it is told.
//!
//! **By dump** nobody is let in from `stop` to `switch`, for [`How::stall_ms`] at most: what does not fit, a cancel, and every
//! failure is undone, and whoever was shut out comes in where he was. The schema is carried before, and it is looked under
//! the fence whether it still is the same. All that is read is of one snapshot of a database that nobody writes to; it is
//! compared with that database itself, so that a write that came in on whatever way is found, and nothing serves that was
//! not compared. The poolers' clients are held for a minute at most, and refused from then on. Nothing of replication is
//! made, so nothing follows: there is no way back.
//!
//! **Without a pooler** the tenant's address changes: its sessions end at the fence, and are refused at the old server from then
//! on. `GET …/connection` has the new address from the flip on.
//!
//! **Another plan** ([`super::plan`]) whose servers are of another kind is the reason of some moves. Their goal is
//! `Goal::Plan`, they wait for a server of a pool where none has room, the target has the new plan's limits and extensions
//! from the beginning, and the tenant has the plan with the commit of the flip, or the one before with that of the way back.
//!
//! **Suspended**, a tenant moves the same way and stays out: nobody is let in before or after, nothing is paused, and nothing
//! has to be done within any time. Freehold's own login is refused with the tenant's, and comes in for the time of a step
//! (`own_login`). Its state cannot change meanwhile: one operation works on a tenant.
//!
//! Absent: the judgement of what can be moved (`movability`), and tenants that were adopted with logins of their own.

pub mod ask;
mod copy;
mod dump;
pub mod finish;
mod flip;
mod follow;
mod kept;
mod laps;
pub mod own_login;
mod prepare;
pub mod reserve;
pub mod rollback;
mod sides;
mod stall;
mod stop;
pub mod store;
mod turn;
mod undo;

use std::time::Duration;

use async_trait::async_trait;
use freehold_api::movability::MoveMethod;
use freehold_durable::{Cx, Failure, Operation, OperationRow, Outcome, Resolution, steps};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::movability::target::Goal;
use super::plan::store as plans;
use super::turn::tenant_of;
use super::{change, store as tenants};
use crate::plane::Core;

pub const KIND: &str = "tenant.move";
/// Until then it is tried; what was copied so far is dropped when it is over.
pub const DEADLINE: Duration = Duration::from_secs(7 * 24 * 3600);
/// What no log carries (unlogged tables; large objects) is copied while everybody waits: so much of each, or it is no move.
pub const CARRIED: u64 = 64 << 20;
/// A table that somebody holds locked is waited for so long, then the step is tried again.
const LOCKS: Duration = Duration::from_secs(10);
/// Ranges of about so many rows are compared.
const ROWS: i64 = 50_000;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct How {
    /// Nobody waits for longer; by dump, nobody is shut out for longer: 0 is by what it is judged to take.
    pub stall_ms: u64,
    /// How long the side that was left is kept.
    pub keep_seconds: u64,
    #[serde(default)]
    pub method: MoveMethod,
}

impl How {
    fn within(&self) -> Duration {
        Duration::from_millis(self.stall_ms)
    }
}

steps! {
    /// What is left to do.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        Reserve { goal: Goal, how: How },
        /// Roles, database, grants and extensions at the target.
        Prepare { how: How },
        /// What is going to be changed at the source, on record.
        Plan { how: How },
        Publish { how: How },
        Copy { how: How },
        /// Indexes, constraints, statistics.
        Complete { how: How },
        /// The way back is made.
        Ready { how: How },
        /// The stall. From its commit on nothing is undone.
        Flip { how: How, tries: u32 },
        Verify { how: How },
        /// The side that was left follows.
        Follow { how: How },
        /// By dump: the tables, while the tenant works.
        Define { how: How },
        /// By dump: nobody is let in from now on.
        Stop { how: How, tries: u32 },
        /// By dump: all rows.
        Stream { how: How },
        /// By dump: what stands on them.
        Build { how: How },
        /// By dump: both sides are the same, or it is undone.
        Check { how: How },
        /// By dump: the target serves. From its commit on nothing is undone.
        Switch { how: How },
        /// The schema was changed: the copy goes, and is begun anew.
        Redo { how: How },
        /// Undo: whoever is to come in comes in. Decides by the store whether there is anything to undo.
        LetGo { how: How },
        /// Undo: nothing replicates any more.
        Withdraw,
        /// Undo: database and roles at the target.
        Drop,
        /// Undo: the slot there.
        Release,
        /// Given up after the flip: it goes on at the target alone.
        Unfollow { how: How },
    }
}

pub struct Move {
    pub core: Core,
}

#[async_trait]
impl Operation for Move {
    type Step = Step;

    fn kind(&self) -> &'static str {
        KIND
    }
    fn concurrency(&self) -> usize {
        4
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let core = &self.core;
        let ended = match step {
            Step::Reserve { goal, how } => reserve::run(core, cx, goal, how).await,
            Step::Prepare { how } => prepare::run(core, cx, how).await,
            Step::Plan { how } => copy::plan(core, cx, how).await,
            Step::Publish { how } => copy::publish(core, cx, how).await,
            Step::Copy { how } => copy::copy(core, cx, how).await,
            Step::Complete { how } => copy::complete(core, cx, how).await,
            Step::Ready { how } => copy::ready(core, cx, how).await,
            Step::Flip { how, tries } => flip::run(core, cx, how, tries).await,
            Step::Verify { how } => follow::verify(core, cx, how).await,
            Step::Follow { how } => follow::follow(core, cx, how).await,
            Step::Define { how } => dump::define(core, cx, how).await,
            Step::Stop { how, tries } => stop::run(core, cx, how, tries).await,
            Step::Stream { how } => dump::stream(core, cx, how).await.map_err(stop::never_parked),
            Step::Build { how } => dump::build(core, cx, how).await.map_err(stop::never_parked),
            Step::Check { how } => dump::check(core, cx, how).await.map_err(stop::never_parked),
            Step::Switch { how } => dump::switch(core, cx, how).await.map_err(stop::never_parked),
            Step::Redo { how } => undo::redo(core, cx, how).await,
            Step::LetGo { how } => undo::let_go(core, cx, how).await,
            Step::Withdraw => undo::withdraw(core, cx).await,
            Step::Drop => undo::drop_target(core, cx).await,
            Step::Release => undo::release(cx).await,
            Step::Unfollow { how } => follow::unfollow(core, cx, how).await,
        };
        own_login::leave(core, cx, ended).await
    }

    fn undo(&self, failed: &Step) -> Option<Step> {
        match failed {
            // Recorded with the step after it, or not at all.
            Step::Reserve { .. } => None,
            Step::Prepare { how }
            | Step::Plan { how }
            | Step::Publish { how }
            | Step::Copy { how }
            | Step::Complete { how }
            | Step::Ready { how }
            | Step::Flip { how, .. }
            | Step::Define { how }
            | Step::Stop { how, .. }
            | Step::Stream { how }
            | Step::Build { how }
            | Step::Check { how }
            | Step::Switch { how }
            | Step::Redo { how }
            | Step::LetGo { how } => Some(Step::LetGo { how: how.clone() }),
            Step::Verify { how } | Step::Follow { how } | Step::Unfollow { how } => {
                Some(Step::Unfollow { how: how.clone() })
            }
            Step::Withdraw | Step::Drop | Step::Release => Some(Step::Withdraw),
        }
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        let tenant = change::tenant_of(operation);
        tenants::wait_no_more(tx, tenant).await?;
        plans::ended(tx, operation).await?;
        change::record_failure(tx, operation).await
    }

    /// What a person settled by hand. Whatever replication there is left goes when the move is finished.
    async fn resolved(
        &self,
        tx: &mut PgConnection,
        step: &Step,
        operation: Uuid,
        resolution: Resolution,
    ) -> Result<(), sqlx::Error> {
        let Some(tenant) = tenant_of(tx, operation).await? else { return Ok(()) };
        tenants::wait_no_more(tx, &tenant).await?;
        plans::failed(tx, operation, "resolved", "its operation was resolved by hand").await?;
        let Some(row) = store::find(&mut *tx, &tenant).await? else { return Ok(()) };
        match (step, resolution) {
            (
                Step::Verify { how }
                | Step::Follow { how }
                | Step::Unfollow { how }
                | Step::Flip { how, .. }
                | Step::Switch { how },
                _,
            ) if row.is_flipped() => store::keep(tx, row.id, false, how.keep_seconds).await,
            _ => store::forget_unflipped(tx, &tenant).await,
        }
    }
}
