//! The point of no return: who serves changes, in one transaction. Guarded by the epoch: until the commit nobody else takes
//! the operation.

use std::time::Duration;

use freehold_durable::{Class, Cx, Failure};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::sides::Moving;
use super::store;
use crate::audit::record::{Actor, Event};
use crate::plane::Core;
use crate::tenant::plan;

/// To ask the store whether a commit went through.
const ASK: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
pub enum Turn<'a> {
    /// To the target; from `place` of its log on the side that is left follows.
    There {
        place: Option<&'a str>,
    },
    /// To the target, which was compared and found equal: nothing follows.
    ByDump,
    Back,
}

/// Why the commit did not answer.
pub enum Uncommitted {
    /// Nothing was changed.
    Surely(Failure),
    Perhaps(Failure),
}

pub async fn commit(core: &Core, cx: &Cx, moving: &Moving, turn: Turn<'_>) -> Result<(), Uncommitted> {
    let Moving { row, .. } = moving;
    let surely = |error: sqlx::Error| Uncommitted::Surely(error.into());
    let (from, to) = match turn {
        Turn::There { .. } | Turn::ByDump => (&moving.from.id, &moving.to.id),
        Turn::Back => (&moving.to.id, &moving.from.id),
    };
    let mut tx = core.store.begin().await.map_err(surely)?;
    cx.still_mine_in(&mut tx).await.map_err(|failure| match failure.class {
        // Another holds it, who decides what the fence becomes.
        Class::Fenced => Uncommitted::Perhaps(failure),
        Class::Transient | Class::Permanent | Class::Stuck => Uncommitted::Surely(failure),
    })?;
    store::turn(&mut tx, row, to).await.map_err(surely)?;
    let kind = match turn {
        Turn::There { place } => {
            store::flipped(&mut tx, row.id, place).await.map_err(surely)?;
            super::KIND
        }
        Turn::ByDump => {
            store::flipped(&mut tx, row.id, None).await.map_err(surely)?;
            store::stopped_until_now(&mut tx, row.id).await.map_err(surely)?;
            super::KIND
        }
        Turn::Back => {
            store::turned_back(&mut tx, row.id).await.map_err(surely)?;
            super::rollback::KIND
        }
    };
    let actor = Actor::operation(cx.operation, None);
    let event = Event::done(&actor, kind, format!("tenant:{}", row.tenant_id));
    let event = event.with(json!({"from": from, "to": to, "method": row.method}));
    event.save(&mut *tx).await.map_err(surely)?;
    if let Some((from, to)) = row.plans() {
        let event = Event::done(&actor, plan::set::KIND, format!("tenant:{}", row.tenant_id));
        event.with(json!({"from": from, "to": to})).save(&mut *tx).await.map_err(surely)?;
    }
    let Err(error) = tx.commit().await else { return Ok(()) };
    let deadline = Instant::now() + ASK;
    loop {
        match store::is_flipped(&core.store, row.id).await {
            Ok(now) if now != matches!(turn, Turn::Back) => return Ok(()),
            Ok(_) => return Err(Uncommitted::Surely(error.into())),
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(50)).await,
            Err(error) => return Err(Uncommitted::Perhaps(error.into())),
        }
    }
}
