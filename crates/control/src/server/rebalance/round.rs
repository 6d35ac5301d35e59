//! One look at how the moves stand; the next ones are begun, within what each server bears.

use std::collections::HashMap;

use async_trait::async_trait;
use freehold_api::drain::DrainState;
use freehold_durable::{Cx, Failure, Outcome};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::store::{self, Sent};
use super::{Step, Wanted};
use crate::plane::Core;
use crate::server::drain::replication::{self, Targets};
use crate::server::drain::round::{self, Begun, Book, Paced, Round, Sending};
use crate::server::hands;
use crate::tenant::movability::target::Goal;

pub async fn run(core: &Core, cx: &Cx, wanted: Wanted) -> Result<Outcome<Step>, Failure> {
    Ok(match round::paced(cx, || Box::pin(look(core, cx, &wanted))).await? {
        Paced::Over => Outcome::step(Step::Settle { wanted }),
        Paced::Again(pause, told) => Outcome::again(pause, Step::Move { wanted }).waiting_for("rebalancing", told),
    })
}

async fn look(core: &Core, cx: &Cx, wanted: &Wanted) -> Result<Round, Failure> {
    let rows = listed(core, cx).await?;
    let of = |state| rows.iter().filter(move |sent| sent.stands() == state);
    let mut round = Round {
        moving: of(DrainState::Moving).map(|sent| sent.row.tenant_id.clone()).collect(),
        waiting: of(DrainState::Waiting).count(),
        moved: of(DrainState::Moved).count(),
        left: of(DrainState::Left).count(),
        hindered: None,
    };
    let done = rows.iter().map(|sent| sent.row.bytes_done(&sent.from_server));
    let (done, total) = done.fold((0, 0), |(done, total), (part, all)| (done + part, total + all));
    match total {
        0 => cx.progress((round.moved + round.left) as u64, rows.len() as u64, "tenants").await?,
        total => cx.progress(done, total, "bytes").await?,
    }
    let (resting, ready): (Vec<&Sent>, Vec<&Sent>) =
        of(DrainState::Waiting).partition(|sent| sent.row.comes_again(&sent.from_server).is_some());
    round.hindered = resting.first().map(|sent| {
        let (code, why) = sent.row.why();
        format!("tenant {} is moved again later: {why} ({code})", sent.row.tenant_id)
    });
    let at_once = usize::try_from(wanted.at_once).unwrap_or(1);
    let mut leaving: HashMap<String, usize> = HashMap::new();
    for sent in of(DrainState::Moving) {
        *leaving.entry(sent.from_server.clone()).or_default() += 1;
    }
    let (mut targets, mut rooms): (Targets, HashMap<String, usize>) = (Targets::default(), HashMap::new());
    for sent in ready {
        if round.moving.len() >= at_once {
            break;
        }
        let server = hands::server(core, &sent.from_server).await?;
        let room = match rooms.get(&server.id) {
            Some(room) => *room,
            None => {
                let host = replication::host(core, cx, &server).await?;
                let moving = leaving.get(&server.id).copied().unwrap_or(0);
                let room = replication::room_at_source(&host).saturating_sub(moving);
                if room == 0 {
                    round.hindered = Some(replication::short_at_source(core, &server.id, &host).await?);
                }
                rooms.insert(server.id.clone(), room);
                room
            }
        };
        if room == 0 {
            continue;
        }
        let goal = Goal::Server(sent.planned.clone());
        let sending = Sending {
            server: &server,
            goal: &goal,
            keep_seconds: wanted.keep_seconds,
            details: json!({"to": goal, "from": server.id, "rebalance": cx.operation}),
            book: &RebalanceBook,
        };
        match round::begin(core, cx, &sending, &sent.row.tenant_id, &mut targets).await? {
            Begun::Moves => {
                round.waiting -= 1;
                round.moving.push(sent.row.tenant_id.clone());
                rooms.insert(server.id.clone(), room - 1);
            }
            Begun::Left => {
                round.waiting -= 1;
                round.left += 1;
            }
            Begun::Later(why) => round.hindered = Some(why),
        }
    }
    Ok(round)
}

/// With those whose pause is over.
async fn listed(core: &Core, cx: &Cx) -> Result<Vec<Sent>, Failure> {
    let mut tx = core.store.begin().await?;
    for sent in store::rows(&mut *tx).await? {
        if let Some(by) = sent.row.is_due(&sent.from_server) {
            store::again(&mut tx, &sent.row.tenant_id, by).await?;
        }
    }
    let rows = store::rows(&mut *tx).await?;
    cx.still_mine_in(&mut tx).await?;
    tx.commit().await?;
    Ok(rows)
}

struct RebalanceBook;

#[async_trait]
impl Book for RebalanceBook {
    async fn moves(&self, tx: &mut PgConnection, tenant: &str, by: Uuid) -> sqlx::Result<bool> {
        store::moves(tx, tenant, by).await
    }

    async fn leave(&self, tx: &mut PgConnection, tenant: &str, code: &str, why: &str) -> sqlx::Result<()> {
        store::leave(tx, tenant, code, why).await
    }

    /// It was to make things even: where that took somebody else the slot, they are otherwise now.
    async fn may_have_room_soon(&self, _: &Core, _: &Cx, _: bool) -> Result<bool, Failure> {
        Ok(false)
    }
}
