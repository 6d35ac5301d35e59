//! What moves take at a server, and how many more it bears: replication slots, WAL senders, workers for logical replication.

use std::collections::HashMap;
use std::time::Duration;

use freehold_drivers::server::sql::movable::Host;
use freehold_durable::{Class, Cx, Failure};
use tokio::time::timeout;

use super::store;
use crate::plane::Core;
use crate::server::hands;
use crate::server::store::ServerRow;

const STATEMENT: Duration = Duration::from_secs(15);
/// To a target that does not answer.
const CONNECT: Duration = Duration::from_secs(10);
/// What a move takes at its source: its own slot, and those of the tables that are copied at the moment.
const SLOTS: u64 = 2;
/// And at its target: one worker that applies and one that copies; the slot of the way back, and one that its sides may need.
const WORKERS_THERE: u64 = 2;
const SLOTS_THERE: u64 = 2;

pub async fn host(core: &Core, cx: &Cx, server: &ServerRow) -> Result<Host, Failure> {
    let admin = hands::admin(core, cx, server, None).await?;
    admin.only_look(STATEMENT).await.map_err(hands::failure)?;
    let host = admin.movable_host(&[]).await.map_err(hands::failure)?;
    admin.close().await;
    Ok(host)
}

pub fn free((most, taken): (u64, u64)) -> u64 {
    most.saturating_sub(taken)
}

/// A side that is left follows by a worker there.
pub fn room_at_source(host: &Host) -> usize {
    let moves = (free(host.slots) / SLOTS).min(free(host.senders) / SLOTS).min(free(host.logical_workers));
    usize::try_from(moves).unwrap_or(usize::MAX)
}

/// What is copied there is applied by its workers; and of each side that is kept, changes go back by a slot and a sender.
pub fn room_at_target(host: &Host) -> usize {
    let moves =
        (free(host.logical_workers) / WORKERS_THERE).min(free(host.slots) / SLOTS_THERE).min(free(host.senders));
    usize::try_from(moves).unwrap_or(usize::MAX)
}

/// Why no tenant leaves it now, and what helps.
pub async fn short_at_source(core: &Core, server: &str, host: &Host) -> Result<String, Failure> {
    let kept = store::kept(&core.store, server).await?;
    let workers = free(host.logical_workers);
    let mut told = format!(
        "server {server} has too few replication slots ({} free), senders ({}) or workers for logical replication ({workers}) left",
        free(host.slots),
        free(host.senders)
    );
    if kept > 0 {
        told.push_str(&format!(
            "; {kept} sides that are kept there follow by a worker each, until their grace is over: finish those moves \
             (freehold tenant move TENANT --finish), or cancel this and begin it again with --keep 0 (keep_seconds)"
        ));
    }
    Ok(told)
}

/// How many more moves each server bears that somebody would go to, as far as it was asked in this look.
#[derive(Default)]
pub struct Targets {
    bear: HashMap<String, usize>,
}

impl Targets {
    /// Why nobody else goes there now. One that does not answer, or where nothing will come free, is its move's to judge.
    pub async fn short(&mut self, core: &Core, cx: &Cx, to: &ServerRow) -> Result<Option<String>, Failure> {
        let bears = match self.bear.get(&to.id) {
            Some(bears) => *bears,
            None => {
                let bears = bears(core, cx, to).await?;
                self.bear.insert(to.id.clone(), bears);
                bears
            }
        };
        Ok((bears == 0).then(|| {
            format!(
                "server {} has too few replication slots, senders or workers for logical replication left; those of other \
                 moves, and of sides that are kept, are free once these are finished (freehold tenant move TENANT --finish)",
                to.id
            )
        }))
    }

    pub fn took(&mut self, server: &str) {
        if let Some(bears) = self.bear.get_mut(server) {
            *bears = bears.saturating_sub(1);
        }
    }
}

async fn bears(core: &Core, cx: &Cx, to: &ServerRow) -> Result<usize, Failure> {
    let host = match timeout(CONNECT, host(core, cx, to)).await {
        Ok(Ok(host)) => host,
        Ok(Err(failure)) if failure.class == Class::Fenced => return Err(failure),
        Ok(Err(_)) | Err(_) => return Ok(usize::MAX),
    };
    let room = room_at_target(&host);
    if room == 0 && !store::is_held(&core.store, &to.id).await? {
        return Ok(usize::MAX);
    }
    let beginning = usize::try_from(store::beginning(&core.store, &to.id).await?).unwrap_or(0);
    Ok(room.saturating_sub(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(slots: (u64, u64), senders: (u64, u64), logical_workers: (u64, u64)) -> Host {
        Host { slots, senders, logical_workers, ..Host::default() }
    }

    #[test]
    fn what_is_scarcest_at_the_source_says_how_many_move() {
        let room = |host: &Host| room_at_source(host);
        assert_eq!(room(&host((64, 0), (64, 0), (32, 0))), 32);
        assert_eq!(room(&host((10, 0), (64, 0), (32, 0))), 5);
        assert_eq!(room(&host((10, 9), (64, 0), (32, 0))), 0);
        assert_eq!(room(&host((64, 0), (64, 61), (32, 0))), 1);
        assert_eq!(room(&host((64, 0), (64, 0), (4, 4))), 0);
        // More taken than there are, as after a setting was lowered.
        assert_eq!(room(&host((2, 5), (64, 0), (4, 0))), 0);
    }

    #[test]
    fn what_is_scarcest_at_the_target_says_how_many_come() {
        let room = |host: &Host| room_at_target(host);
        assert_eq!(room(&host((64, 0), (64, 0), (4, 0))), 2);
        assert_eq!(room(&host((64, 0), (64, 0), (4, 3))), 0);
        assert_eq!(room(&host((10, 9), (64, 0), (32, 0))), 0);
        assert_eq!(room(&host((64, 0), (10, 10), (32, 0))), 0);
        assert_eq!(room(&host((2, 5), (64, 0), (4, 0))), 0);
    }
}
