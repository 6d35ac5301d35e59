//! How many connections to its server each pool may open. Pure.
//!
//! PostgreSQL refuses what is beyond its limit, and a client whose pool has no connection at all is then refused too: poolers
//! let clients wait only for limits of their own. So the pools that somebody uses never get more together than there is, and
//! those that rest are counted at a part of theirs: few of them wake up at once. What was given and is not taken back yet
//! counts as long as it may be open.

/// What pools may have on one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    pub connections: u32,
    /// Of so many connections that pools at rest may open, one is kept free.
    pub oversubscription: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Database {
    /// What its plan says; at least 1.
    pub most: u32,
    /// What it has; from 1 to `most`.
    pub granted: u32,
    /// What its pooler may still go by, where it was not seen to have taken `granted` over.
    pub in_force: u32,
    /// Seen open.
    pub open: u32,
    pub need: Need,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nobody has used it for a while.
    Rest,
    Work,
    /// Clients wait.
    More,
}

/// What each gets, in their order; nobody less than 1. `resting` is what one at rest has at most.
pub fn allocate(budget: Budget, resting: Option<u32>, databases: &[Database]) -> Vec<u32> {
    let most: Vec<u32> = databases.iter().map(|one| one.most).collect();
    if sum(&most) <= u64::from(budget.connections) {
        return most;
    }
    let mut given: Vec<u32> = databases.iter().map(|one| at_rest(one.most, resting)).collect();
    let busy: Vec<usize> = (0..databases.len()).filter(|at| databases[*at].need != Need::Rest).collect();
    let working: Vec<Database> = busy.iter().map(|at| databases[*at]).collect();
    let room = room(budget, resting, databases);
    for (at, share) in busy.into_iter().zip(grown(&working, &shares(&working, room), room)) {
        given[at] = share;
    }
    given
}

/// What is there for those that are not at rest.
pub fn room(budget: Budget, resting: Option<u32>, databases: &[Database]) -> u32 {
    let idle = databases.iter().filter(|one| one.need == Need::Rest);
    let (open, more) = idle.fold((0u64, 0u64), |(open, more), one| {
        let may = at_rest(one.most, resting).max(one.in_force);
        (open + u64::from(one.open), more + u64::from(may.saturating_sub(one.open)))
    });
    let kept = open + more.div_ceil(u64::from(budget.oversubscription.max(1)));
    u64::from(budget.connections).saturating_sub(kept).try_into().unwrap_or(0)
}

/// What one at rest may open, so that all of them together oversubscribe half of the budget by no more than is declared.
/// A power of two, and one that was lowered rises late: each change of it is a change of every pool. None: all of its plan.
pub fn resting(budget: Budget, most: impl Iterator<Item = (u32, u64)> + Clone, before: Option<u32>) -> Option<u32> {
    let half = u64::from(budget.connections.div_ceil(2)) * u64::from(budget.oversubscription);
    let fits = |level: Option<u32>| {
        let all: u64 = most.clone().map(|(most, count)| u64::from(at_rest(most, level)) * count).sum();
        let is_higher = before.is_some_and(|before| level.is_none_or(|level| level > before));
        let bound = if level.is_none() { half.max(u64::from(budget.connections)) } else { half };
        if is_higher { all.saturating_mul(10) <= bound.saturating_mul(9) } else { all <= bound }
    };
    let levels = [None, Some(64), Some(32), Some(16), Some(8), Some(4), Some(2)];
    levels.into_iter().find(|level| fits(*level)).unwrap_or(Some(1))
}

pub fn at_rest(most: u32, resting: Option<u32>) -> u32 {
    resting.map_or(most, |level| most.min(level)).max(1)
}

/// What each that works should have, as fairly as it can be: whoever waits gets twice what it has; where that is more than
/// there is, whoever does not wait keeps what it has open.
fn shares(working: &[Database], room: u32) -> Vec<u32> {
    let wants = |kept: fn(&Database) -> u32| -> Vec<u32> {
        let want = |one: &Database| match one.need {
            Need::More => one.granted.saturating_mul(2).clamp(1, one.most),
            Need::Rest | Need::Work => kept(one).clamp(1, one.most),
        };
        working.iter().map(want).collect()
    };
    let all = wants(|one| one.granted);
    if sum(&all) <= u64::from(room) {
        return all;
    }
    let mut given = fill(&wants(|one| one.open.min(one.granted)), room);
    given.iter_mut().for_each(|share| *share = (*share).max(1));
    let left = u64::from(room).saturating_sub(sum(&given));
    let more: Vec<u32> = all.iter().zip(&given).map(|(all, given)| all.saturating_sub(*given)).collect();
    let more = fill(&more, u32::try_from(left).unwrap_or(u32::MAX));
    given.iter().zip(more).map(|(given, more)| given + more).collect()
}

/// Less at once, and more once it is free: what another has to give back may be open for a while.
fn grown(working: &[Database], shares: &[u32], room: u32) -> Vec<u32> {
    let may_have = |one: &Database, share: u32| share.min(one.granted).max(one.in_force).max(one.open);
    let held: Vec<u32> = working.iter().zip(shares).map(|(one, share)| may_have(one, *share)).collect();
    let more: Vec<u32> = shares.iter().zip(&held).map(|(share, held)| share.saturating_sub(*held)).collect();
    let left = u64::from(room).saturating_sub(sum(&held));
    let more = fill(&more, u32::try_from(left).unwrap_or(u32::MAX));
    let grown = shares.iter().zip(&held).zip(more).map(|((share, held), more)| (*share).min(held + more));
    grown.map(|share| share.max(1)).collect()
}

/// Everybody what they want, or as much as everybody who wants more; never more than there is.
fn fill(wants: &[u32], room: u32) -> Vec<u32> {
    if sum(wants) <= u64::from(room) {
        return wants.to_vec();
    }
    let upto = |level: u32| wants.iter().map(|want| u64::from(*want.min(&level))).sum::<u64>();
    let (mut level, mut above) = (0, room.saturating_add(1));
    while above - level > 1 {
        let middle = level + (above - level) / 2;
        *(if upto(middle) <= u64::from(room) { &mut level } else { &mut above }) = middle;
    }
    let mut left = u64::from(room) - upto(level);
    let share = |want: &u32| {
        let one_more = u32::from(*want > level && left > 0);
        left -= u64::from(one_more);
        (*want).min(level) + one_more
    };
    wants.iter().map(share).collect()
}

fn sum(all: &[u32]) -> u64 {
    all.iter().map(|one| u64::from(*one)).sum()
}

#[cfg(test)]
mod tests;
