//! One look at how the moves stand; the next ones are begun, within what each server bears.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use freehold_api::drain::DrainState;
use freehold_durable::{Class, Cx, Failure, Outcome};
use serde_json::json;
use sqlx::PgConnection;
use tokio::time::timeout;
use uuid::Uuid;

use super::store::{self, Sent};
use super::{Step, Wanted};
use crate::plane::Core;
use crate::server::drain::replication::{self, Targets};
use crate::server::drain::round::{self, Begun, Book, Paced, Round, Sending};
use crate::server::{hands, store as servers};
use crate::tenant::movability::target::Goal;

/// To a server that does not answer.
const CONNECT: Duration = Duration::from_secs(10);

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
    let mut sources = Sources::default();
    for sent in of(DrainState::Moving) {
        *sources.leaving.entry(sent.from_server.clone()).or_default() += 1;
    }
    let mut targets = Targets::default();
    for sent in ready {
        if round.moving.len() >= at_once {
            break;
        }
        if let Some(why) = sources.short(core, cx, &sent.from_server).await? {
            round.hindered = Some(why);
            continue;
        }
        let server = hands::server(core, &sent.from_server).await?;
        let goal = Goal::Server(sent.planned.clone());
        let sending = Sending {
            server: &server,
            goal: &goal,
            keep_seconds: wanted.keep_seconds,
            details: json!({"to": goal, "from": server.id, "rebalance": cx.operation}),
            book: &RebalanceBook,
        };
        let tenant = sent.row.tenant_id.as_str();
        let begun = match no_target(core, &sent.planned).await? {
            None => round::begin(core, cx, &sending, tenant, &mut targets).await?,
            Some(why) => round::leave(core, cx, &sending, tenant, "wrong_state", &why).await?,
        };
        match begun {
            Begun::Moves => {
                round.waiting -= 1;
                round.moving.push(tenant.to_owned());
                sources.took(&server.id);
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

/// It was to become even with the others, and is not one of them any more.
async fn no_target(core: &Core, server: &str) -> Result<Option<String>, Failure> {
    let found = servers::find(&core.store, server).await?;
    let state = found.as_ref().map_or("removed", |found| found.state.as_str());
    Ok((state != "active").then(|| format!("server {server} is {state} by now, and nobody is sent there any more")))
}

/// How many more moves each server bears that somebody is to leave, as far as it was asked in this look.
#[derive(Default)]
struct Sources {
    /// Tenants that are on their way already.
    leaving: HashMap<String, usize>,
    bear: HashMap<String, Result<usize, String>>,
}

impl Sources {
    /// Why nobody leaves it now. One that does not answer keeps nobody waiting who is elsewhere.
    async fn short(&mut self, core: &Core, cx: &Cx, server: &str) -> Result<Option<String>, Failure> {
        if !self.bear.contains_key(server) {
            let found = self.ask(core, cx, server).await?;
            self.bear.insert(server.to_owned(), found);
        }
        Ok(match &self.bear[server] {
            Ok(0) => Some(format!("as many tenants leave server {server} as it bears at once")),
            Ok(_) => None,
            Err(why) => Some(why.clone()),
        })
    }

    async fn ask(&self, core: &Core, cx: &Cx, server: &str) -> Result<Result<usize, String>, Failure> {
        let row = hands::server(core, server).await?;
        let host = match timeout(CONNECT, replication::host(core, cx, &row)).await {
            Ok(Ok(host)) => host,
            Ok(Err(failure)) if failure.class == Class::Fenced => return Err(failure),
            Ok(Err(failure)) => return Ok(Err(format!("server {server} is waited for: {failure}"))),
            Err(_) => return Ok(Err(format!("server {server} is waited for: it does not answer"))),
        };
        let leaving = self.leaving.get(server).copied().unwrap_or(0);
        match replication::room_at_source(&host).saturating_sub(leaving) {
            0 => Ok(Err(replication::short_at_source(core, server, &host).await?)),
            room => Ok(Ok(room)),
        }
    }

    fn took(&mut self, server: &str) {
        if let Some(Ok(bears)) = self.bear.get_mut(server) {
            *bears = bears.saturating_sub(1);
        }
    }
}

async fn listed(core: &Core, cx: &Cx) -> Result<Vec<Sent>, Failure> {
    let mut tx = core.store.begin().await?;
    store::look(&mut tx, cx.operation).await?;
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

    /// It was to make things even: where somebody else took the slot, they are otherwise now.
    async fn may_have_room_soon(&self, _: &Core, _: &Cx, _: bool) -> Result<bool, Failure> {
        Ok(false)
    }
}
