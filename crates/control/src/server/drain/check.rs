//! `server.drain_check`: what a drain would do, and whom it would leave. Looks, and changes nothing. As an operation about no
//! subject, like a look at one tenant's movability.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use freehold_api::drain::{DrainState, DrainTenant, ServerDrain};
use freehold_api::id::ServerId;
use freehold_api::movability::MoveMethod;
use freehold_durable::{Class, Cx, Failure, Operation, Outcome, steps};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::store::{self, Resident};
use super::{Wanted, replication};
use crate::plane::Core;
use crate::server::hands;
use crate::server::store::ServerWithUse;
use crate::server_pool::wait;
use crate::tenant::movability::look::{self, Watch};
use crate::tenant::movability::target::{self, Goal};
use crate::tenant::moving::{ask::can_move, reserve};
use crate::tenant::{report, store as tenants};

/// Above what all of it may take. Whoever was not looked at by then is said to be unknown.
const WITHIN: Duration = Duration::from_secs(50);
/// And the last look at the server.
const LAST: Duration = Duration::from_secs(5);
/// Tenants that are looked at at once.
const ABREAST: usize = 4;

steps! {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        Look { server: ServerId, wanted: Wanted },
    }
}

pub struct CheckDrain {
    pub core: Core,
}

#[async_trait]
impl Operation for CheckDrain {
    type Step = Step;

    fn kind(&self) -> &'static str {
        "server.drain_check"
    }
    fn concurrency(&self) -> usize {
        2
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let Step::Look { server, wanted } = step;
        let found = plan(&self.core, cx, &server, &wanted).await.map_err(report::at_once)?;
        let operation = cx.operation;
        Ok(Outcome::done().recording(move |tx| {
            Box::pin(async move { Ok(report::save(tx, operation, &format!("server:{server}"), &found).await?) })
        }))
    }

    fn undo(&self, _failed: &Step) -> Option<Step> {
        None
    }
}

async fn plan(core: &Core, cx: &Cx, server: &ServerId, wanted: &Wanted) -> Result<ServerDrain, Failure> {
    let end = tokio::time::Instant::now() + WITHIN;
    let residents = store::residents(&core.store, server.as_str(), wanted.order).await?;
    let fleet = core.fleet.no_older_than(&core.store, wait::SURE).await?;
    // Of its own: who would go somewhere takes a slot there from those after him, and from nobody else.
    let fleet: Vec<ServerWithUse> = fleet
        .iter()
        .map(|known| ServerWithUse {
            placed: Arc::new(AtomicI64::new(known.placed.load(Ordering::Relaxed))),
            ..known.clone()
        })
        .collect();
    let mut tenants = Vec::new();
    for some in residents.chunks(ABREAST) {
        let mut looks = Vec::new();
        for resident in some {
            let placed = place(core, server, wanted, resident, &fleet).await?;
            looks.push(judge(core, cx, resident, placed));
        }
        let judged = tokio::time::timeout_at(end, join_all(looks)).await;
        let Ok(judged) = judged else { break };
        for (resident, judged) in some.iter().zip(judged) {
            tenants.extend(told(resident, judged?, &fleet));
        }
    }
    for resident in &residents[tenants.len()..] {
        let why = Verdict::Not("unknown".into(), "it was not looked at: there was no time left".into(), None);
        tenants.extend(told(resident, why, &fleet));
    }
    let stock = store::stock(&core.store, server.as_str()).await?;
    let found = ServerDrain::of(server.clone(), tenants);
    let (at_first, advice) = at_first(core, cx, server, wanted, found.waiting).await.unzip();
    Ok(ServerDrain { stock: u32::try_from(stock).unwrap_or(u32::MAX), at_first, advice, ..found })
}

/// How many go until the sides that are kept of them have taken all workers there, and what helps. None: all of them, or it
/// does not answer.
async fn at_first(core: &Core, cx: &Cx, server: &ServerId, wanted: &Wanted, going: u32) -> Option<(u32, String)> {
    if wanted.keep_seconds == 0 {
        return None;
    }
    let row = hands::server(core, server.as_str()).await.ok()?;
    let host = timeout(LAST, replication::host(core, cx, &row)).await.ok()?.ok()?;
    advice(host.logical_workers, server, wanted.keep_seconds, going)
}

fn advice(workers: (u64, u64), server: &ServerId, keep_seconds: u64, going: u32) -> Option<(u32, String)> {
    let (most, free) = (workers.0, replication::free(workers));
    let first = u32::try_from(free).unwrap_or(u32::MAX);
    let advice = format!(
        "{free} of {most} workers for logical replication of server {server} are free, and each side that is kept takes one \
         for {keep_seconds} s: {first} of {going} tenants go at first, and each other once one of those is finished (freehold \
         tenant move TENANT --finish). Drain it with --keep 0 (keep_seconds), or raise max_logical_replication_workers and \
         max_worker_processes there"
    );
    (first < going).then_some((first, advice))
}

enum Verdict {
    Goes(String),
    /// Code, reason, and the server whose slot it does not take.
    Not(String, String, Option<String>),
}

/// Where it would go, as far as its state and placement go.
async fn place(
    core: &Core,
    server: &ServerId,
    wanted: &Wanted,
    resident: &Resident,
    fleet: &[ServerWithUse],
) -> Result<Verdict, Failure> {
    let id = &resident.tenant_id;
    let not = |code: &str, why: String| Ok(Verdict::Not(code.into(), why, None));
    if !can_move(&resident.state) {
        let why = format!("tenant {id} is {}; only an active or a suspended tenant can be moved", resident.state);
        return not("wrong_state", why);
    }
    if let Some(other) = &resident.kept_on {
        let why = format!("what it has on server {other} is still kept: freehold tenant move {id} --finish");
        return not("wrong_state", why);
    }
    let Some(tenant) = tenants::find(&core.store, id).await? else {
        return not("not_found", format!("tenant {id} is gone"));
    };
    let chosen = match target::choose_among(core, &tenant, server.as_str(), &wanted.goal, fleet).await {
        Ok(chosen) => chosen,
        Err(failure) if failure.class == Class::Permanent => return not(&failure.code, failure.message),
        Err(failure) => return Err(failure),
    };
    if let Some(why) = chosen.no_room() {
        return not("no_room", why);
    }
    let Some(to) = &chosen.server else { return not("no_room", "no server has room now".into()) };
    if let Some(known) = fleet.iter().find(|known| known.row.id == to.id) {
        known.placed.fetch_add(1, Ordering::Relaxed);
    }
    Ok(Verdict::Goes(to.id.clone()))
}

/// What its database says to that.
async fn judge(core: &Core, cx: &Cx, resident: &Resident, placed: Verdict) -> Result<Verdict, Failure> {
    let Verdict::Goes(to) = placed else { return Ok(placed) };
    let goal = Goal::Server(to.clone());
    match look::look(core, cx, &resident.tenant_id, Some(&goal), Watch::Nothing).await {
        Ok(found) => Ok(match reserve::require_movable(&found, MoveMethod::Logical) {
            Ok(()) => Verdict::Goes(to),
            Err(failure) => Verdict::Not(failure.code, failure.message, Some(to)),
        }),
        Err(failure) if failure.class == Class::Fenced => Err(failure),
        Err(failure) => Ok(Verdict::Not(failure.code, failure.message, Some(to))),
    }
}

fn told(resident: &Resident, verdict: Verdict, fleet: &[ServerWithUse]) -> Option<DrainTenant> {
    let (state, to, code, message) = match verdict {
        Verdict::Goes(to) => (DrainState::Waiting, to.parse().ok(), None, None),
        Verdict::Not(code, why, place) => {
            // The next one may have it.
            if let Some(known) = fleet.iter().find(|known| place.as_ref() == Some(&known.row.id)) {
                known.placed.fetch_sub(1, Ordering::Relaxed);
            }
            (DrainState::Left, None, Some(code), Some(why))
        }
    };
    Some(DrainTenant {
        tenant: resident.tenant_id.parse().ok()?,
        state,
        bytes: resident.bytes.and_then(|bytes| u64::try_from(bytes).ok()),
        to,
        operation: None,
        code,
        message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_how_many_go_before_what_is_kept_takes_all_workers() {
        let server: ServerId = "one".parse().expect("a name");
        let (first, advice) = advice((4, 1), &server, 86_400, 7).expect("not all of them go");
        assert_eq!(first, 3);
        assert!(advice.contains("3 of 7 tenants") && advice.contains("--keep 0"), "{advice}");
        assert_eq!(super::advice((8, 1), &server, 86_400, 7), None);
        assert_eq!(super::advice((4, 5), &server, 60, 1).map(|(first, _)| first), Some(0));
    }
}
