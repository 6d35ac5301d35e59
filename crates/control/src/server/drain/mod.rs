//! `server.drain`: all tenants of a server go elsewhere, each by a `tenant.move` of its own. Nobody is put there meanwhile,
//! and the stock that waits there for nobody is dropped.
//!
//! ```text
//! move (looks, begins moves, sleeps, …) → settle (until the stock is gone) → succeeded, or failed with `tenants_left`
//! ```
//!
//! It waits for its moves and holds nothing: what became of each is read from that move's operation and from where the
//! tenant is. A move is begun in one transaction with the row that says so, guarded by the epoch: killed before it, nothing
//! was begun; killed after it, whoever goes on finds the row. A tenant is moved by a drain once.
//!
//! Nothing is undone: a drain that fails, is cancelled or runs out of time begins no more moves. Those that are under way go on
//! to their end, tenants that moved stay where they are, and the server stays cordoned.
//!
//! Absent: the judgement of who can be moved, and where to (`tenant/movability`), and the end of the sides that were left
//! (the loop `moves`).

pub mod ask;
pub mod check;
pub mod replication;
pub mod round;
pub mod store;

use std::time::Duration;

use async_trait::async_trait;
use freehold_api::drain::{DrainOrder, DrainState};
use freehold_durable::{Cx, Failure, Operation, OperationRow, Outcome, steps};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::audit::record::{Actor, Event};
use crate::operation::answer::failure_of;
use crate::plane::Core;
use crate::tenant::movability::target::Goal;

pub const KIND: &str = "server.drain";
/// A move is tried for a week; those that begin late have theirs.
const DEADLINE: Duration = Duration::from_secs(14 * 24 * 3600);
/// Between looks at stock that is dropped, and at tenants that are still on their way here.
const LOOK: Duration = Duration::from_secs(2);
/// So many are named where people look at the operation; `GET …/drain` has all.
const NAMED: usize = 10;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub goal: Goal,
    pub at_once: u32,
    pub order: DrainOrder,
    pub keep_seconds: u64,
}

steps! {
    /// What is left to do.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        /// Tenants go, a few at a time.
        Move { wanted: Wanted },
        /// The rest of the stock goes; then it is said who is left.
        Settle { wanted: Wanted },
    }
}

pub struct Drain {
    pub core: Core,
}

#[async_trait]
impl Operation for Drain {
    type Step = Step;

    fn kind(&self) -> &'static str {
        KIND
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        match step {
            Step::Move { wanted } => round::run(&self.core, cx, wanted).await,
            Step::Settle { wanted } => settle(&self.core, cx, wanted).await,
        }
    }

    fn undo(&self, _failed: &Step) -> Option<Step> {
        None
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        let (code, _) = failure_of(operation);
        let server = operation.subject.as_deref().and_then(server_of).unwrap_or_default();
        let actor = Actor::operation(operation.id, operation.request_id.clone());
        Event::failed(&actor, KIND, format!("server:{server}"), &code).save(tx).await
    }
}

/// Not the server itself: it is checked, updated and looked after while it is drained.
pub fn subject(server: &str) -> String {
    format!("drain:{server}")
}

fn server_of(subject: &str) -> Option<&str> {
    subject.strip_prefix("drain:")
}

async fn settle(core: &Core, cx: &Cx, wanted: Wanted) -> Result<Outcome<Step>, Failure> {
    let server = round::server(core, cx).await?;
    let arriving = store::arriving(&core.store, &server.id).await?;
    if let Some(first) = arriving.first() {
        let message = format!(
            "{} tenants are on their way to it, by moves that were begun before ({first}): they are moved on, unless those moves \
             are cancelled",
            arriving.len()
        );
        return Ok(Outcome::again(LOOK, Step::Settle { wanted }).waiting_for("arriving", message));
    }
    let (stock, told) = store::drop_stock(&core.store, &server.id).await?;
    if told > 0 {
        cx.engine().wake("stock");
    }
    if stock > 0 {
        let message = format!(
            "{stock} databases of stock are made or dropped still (loop stock; freehold operation list --state stuck, should it last)"
        );
        return Ok(Outcome::again(LOOK, Step::Settle { wanted }).waiting_for("stock", message));
    }
    // Once more, for whoever came before it was cordoned and was not to be seen yet.
    let rows = round::listed(core, cx, &server.id, &wanted).await?;
    let of = |state| rows.iter().filter(|row| row.stands(&server.id) == state).collect::<Vec<_>>();
    if !of(DrainState::Waiting).is_empty() || !of(DrainState::Moving).is_empty() {
        return Ok(Outcome::step(Step::Move { wanted }));
    }
    let left = of(DrainState::Left);
    if left.is_empty() {
        let (actor, subject) = (Actor::operation(cx.operation, None), format!("server:{}", server.id));
        return Ok(Outcome::done()
            .recording(move |tx| Box::pin(async move { Ok(Event::done(&actor, KIND, subject).save(tx).await?) })));
    }
    let lines = left.iter().map(|row| {
        let (code, why) = row.why();
        format!("{}: {why} ({code})", row.tenant_id)
    });
    let named = first_of(lines.collect(), &format!("freehold server drain {} --status", server.id));
    let message = format!(
        "{} of {} tenants are left on server {}, which stays cordoned: {named}. Do what each takes, then drain it again",
        left.len(),
        rows.len(),
        server.id
    );
    Err(Failure::permanent("tenants_left", message))
}

/// The first few of them, and by what the others are told.
pub fn first_of(mut lines: Vec<String>, others: &str) -> String {
    let more = lines.len().saturating_sub(NAMED);
    lines.truncate(NAMED);
    let named = lines.join("; ");
    match more {
        0 => named,
        more => format!("{named}; and {more} more ({others})"),
    }
}
