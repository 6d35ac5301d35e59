//! `server.rebalance`: tenants go where the suggestion sends them, so that servers come to be even, each by a `tenant.move` of its
//! own.
//!
//! ```text
//! move (looks, begins moves, sleeps, …) → succeeded, or failed with `tenants_left`
//! ```
//!
//! It works as a drain does, whose rounds it shares (`server/drain`): it waits for its moves and holds nothing, begins each in one
//! transaction with the row that says so, and each tenant's once. Whom it sends where is decided when it is begun, by what was
//! measured then, and is on record; one at a time goes on in the fleet.
//!
//! Nothing is undone: one that fails, is cancelled or runs out of time begins no more moves, and those that are under way go on to
//! their end. Whom it could not move is remembered for a while (`rebalance_failure`), so that the next one does not try the same.
//!
//! | file | |
//! |---|---|
//! | `plan.rs` | who would go where, pure |
//! | `stays.rs` | who is left out, and why, pure |
//! | `group.rs`, `suggest.rs` | the fleet as `plan.rs` sees it, and its answer for people |
//! | `round.rs` | the step that begins moves |
//!
//! Absent: a rebalance that begins by itself. Whoever moves tenants of others wants to have seen who. And a forecast: what is
//! evened out is what was measured last.

pub mod ask;
mod group;
pub mod plan;
mod round;
mod stays;
pub mod store;
pub mod suggest;

use std::time::Duration;

use async_trait::async_trait;
use freehold_api::drain::DrainState;
use freehold_durable::{Cx, Failure, Operation, OperationRow, Outcome, steps};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::audit::record::{Actor, Event};
use crate::operation::answer::failure_of;
use crate::plane::Core;
use crate::server::drain::first_of;

pub const KIND: &str = "server.rebalance";
/// One at a time.
const SUBJECT: &str = "rebalance";
/// A move is tried for a week; those that begin late have theirs.
const DEADLINE: Duration = Duration::from_secs(14 * 24 * 3600);

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub at_once: u32,
    pub keep_seconds: u64,
}

steps! {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        /// Tenants go, a few at a time.
        Move { wanted: Wanted },
        /// It is said who is left.
        Settle { wanted: Wanted },
    }
}

pub struct Rebalance {
    pub core: Core,
}

#[async_trait]
impl Operation for Rebalance {
    type Step = Step;

    fn kind(&self) -> &'static str {
        KIND
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        match step {
            Step::Move { wanted } => round::run(&self.core, cx, wanted).await,
            Step::Settle { .. } => settle(&self.core, cx).await,
        }
    }

    fn undo(&self, _failed: &Step) -> Option<Step> {
        None
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        let (code, _) = failure_of(operation);
        let actor = Actor::operation(operation.id, operation.request_id.clone());
        Event::failed(&actor, KIND, "fleet", &code).save(tx).await
    }
}

async fn settle(core: &Core, cx: &Cx) -> Result<Outcome<Step>, Failure> {
    let rows = store::rows(&core.store).await?;
    let left: Vec<_> = rows.iter().filter(|sent| sent.stands() == DrainState::Left).collect();
    if left.is_empty() {
        let actor = Actor::operation(cx.operation, None);
        return Ok(Outcome::done()
            .recording(move |tx| Box::pin(async move { Ok(Event::done(&actor, KIND, "fleet").save(tx).await?) })));
    }
    let lines = left.iter().map(|sent| {
        let (code, why) = sent.row.why();
        format!("{} on server {}: {why} ({code})", sent.row.tenant_id, sent.from_server)
    });
    let named = first_of(lines.collect(), "freehold server rebalance --status");
    let message = format!(
        "{} of {} tenants are left where they were: {named}. The next suggestion goes without them: freehold server rebalance",
        left.len(),
        rows.len()
    );
    Err(Failure::permanent("tenants_left", message))
}
