//! What whoever keeps a pooler does next, from what it was told, what the pooler answered, and the time. Pure: the agent
//! beside a pooler goes by it, and the plane itself where there is none.
//!
//! Three rules. Nothing older than what is here is applied. One reload a second, of the newest, unless clients wait for it. And while a database is
//! paused its entry stays as it is, because a reload with another address sends its clients there: changes of other
//! entries go on, a change of this one waits until the pause is taken back, or over.

use std::sync::Arc;
use std::time::Duration;

use freehold_api::pooler::PauseWanted;
use freehold_drivers::pooler::{Entry, Served};
use serde::{Deserialize, Serialize};

use self::pauses::{Command, Moment, Pauses};

pub mod clock;
pub mod pauses;

/// One generation of what the plane wants.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub generation: u64,
    pub served: Served,
}

#[derive(Debug, Default)]
pub struct Mind {
    /// The newest that can be applied.
    pub wanted: Option<Arc<Wanted>>,
    /// Verified. None: nobody knows.
    pub running: Option<Arc<Wanted>>,
    applying: Option<Arc<Wanted>>,
    pub pauses: Pauses,
    not_before: Moment,
    failures: u32,
    /// When it is looked at again whether what is in force is still in force.
    look: Moment,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Do {
    Apply(Arc<Wanted>),
    Tell(Command),
}

/// Told, and there.
#[derive(Debug, PartialEq, Eq)]
pub struct Older(pub u64, pub u64);

/// Between two reloads.
const PACE: Duration = Duration::from_secs(1);
/// Files edited by hand are found by then. It costs a few questions on the console.
const LOOK: Duration = Duration::from_secs(5);
const LAST_BACKOFF: Duration = Duration::from_secs(10);

impl Mind {
    /// With what somebody before left behind.
    pub fn new(wanted: Option<Arc<Wanted>>, running: Option<Arc<Wanted>>, pauses: Pauses) -> Self {
        Self { wanted, running, pauses, ..Self::default() }
    }

    pub fn hear(&mut self, told: Wanted, pauses: &[PauseWanted], now: Moment) -> Result<(), Older> {
        match &self.wanted {
            Some(there) if told.generation < there.generation => return Err(Older(told.generation, there.generation)),
            Some(there) if **there == told => {}
            _ => {
                self.wanted = Some(Arc::new(told));
                self.failures = 0;
                self.not_before = self.not_before.min(now + PACE);
            }
        }
        self.pauses.hear(pauses, now);
        Ok(())
    }

    pub fn next(&mut self, now: Moment) -> Vec<Do> {
        let Self { wanted, running, applying, pauses, .. } = self;
        let standing = |database: &str| match (&*wanted, &*running) {
            (Some(wanted), Some(running)) => {
                let entry = wanted.entry(database);
                let is_settled = running.entry(database) == entry
                    && applying.as_ref().is_none_or(|applying| applying.entry(database) == entry);
                match (is_settled, entry) {
                    (false, _) => pauses::Entry::Changing,
                    (true, Some(_)) => pauses::Entry::InForce,
                    (true, None) => pauses::Entry::Absent,
                }
            }
            _ => pauses::Entry::Changing,
        };
        let mut todo: Vec<Do> = pauses.next(now, standing).into_iter().map(Do::Tell).collect();
        if let Some(wanted) = self.to_apply(now) {
            self.applying = Some(wanted.clone());
            todo.push(Do::Apply(wanted));
        }
        todo
    }

    /// How many reloads it took, or that it failed.
    pub fn applied(&mut self, reloads: Result<u32, ()>, now: Moment) {
        let Some(applied) = self.applying.take() else { return };
        match reloads {
            Ok(reloads) => {
                self.running = Some(applied);
                self.failures = 0;
                self.look = now + LOOK;
                self.not_before = if reloads > 0 { now + PACE } else { now };
            }
            Err(()) => {
                self.not_before = now + (PACE * 2u32.saturating_pow(self.failures.min(8))).min(LAST_BACKOFF);
                self.failures = self.failures.saturating_add(1);
            }
        }
    }

    /// PgBouncer died, and is started again with the files that are there.
    pub fn died(&mut self, now: Moment) {
        self.pauses.died();
        self.look = now;
    }

    /// When there is something to do that nobody's answer brings.
    pub fn wake(&self, now: Moment) -> Option<Moment> {
        let apply = match (&self.applying, &self.wanted) {
            (None, Some(wanted)) if self.is_in_force(wanted) => Some(self.look.max(self.not_before)),
            // Where a pause is in the way, its end is what is waited for.
            (None, Some(wanted)) if self.may_apply(wanted, now) => Some(self.not_before),
            _ => None,
        };
        apply.into_iter().chain(self.pauses.wake(now)).min()
    }

    fn to_apply(&self, now: Moment) -> Option<Arc<Wanted>> {
        let wanted = self.wanted.as_ref()?;
        let is_due = if self.is_in_force(wanted) { now >= self.look } else { true };
        let is_time = now >= self.not_before || self.failures == 0 && self.pauses.await_entry();
        let may = is_due && self.applying.is_none() && is_time && self.may_apply(wanted, now);
        may.then(|| wanted.clone())
    }

    fn is_in_force(&self, wanted: &Arc<Wanted>) -> bool {
        self.running.as_ref().is_some_and(|running| Arc::ptr_eq(running, wanted) || running == wanted)
    }

    fn may_apply(&self, wanted: &Wanted, now: Moment) -> bool {
        self.pauses.held(now).all(|database| {
            self.running.as_ref().is_some_and(|running| running.entry(database) == wanted.entry(database))
        })
    }
}

impl Wanted {
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.served.entries.iter().find(|entry| entry.name == name)
    }
}

#[cfg(test)]
mod tests;
