//! Who would go where, so that servers come to be even. Pure: reads neither store nor server, and no clock.
//!
//! What is evened out are bytes, tenants and transactions per second. Of each, a server's share of all is by its capacity, and
//! how far it is off is how much it has more or less than that, in thousandths of its share. Nobody moves while every server is
//! within the tolerance. Where one is not, one tenant after the other goes to where that helps most for what has to be copied,
//! until every server is within *half* of the tolerance: what came to be even stays so for a while. Where no tenant alone helps,
//! two trade places, one of them on the server that is furthest off. No server comes to be further off in anything than it was,
//! or than the tolerance. Who is sent on is sent from where he was: each goes once.
//!
//! By whole numbers and names alone: the same fleet gets the same answer, in whatever order it is told. Each choice lowers one
//! whole number that is never below zero (`bad`, of all servers), so there is an end; asked again of what it came to, it has
//! nothing to say, unless it was to stop before.

mod share;
#[cfg(test)]
mod tests;

pub use share::Whole;

/// Bytes, tenants, thousandths of transactions per second.
pub type Amounts = [u64; 3];
const BYTES: usize = 0;
const TENANTS: usize = 1;

/// What a move costs however little it copies, in bytes.
const EACH: u64 = 32 << 20;
/// Of what comes to a server, it needs a fifth more meanwhile.
const MARGIN: u64 = 5;
/// What has to get better for anybody to move at all, in percent of how bad it is.
const WORTH_PERCENT: i128 = 5;
/// Choices, whoever is sent on included.
const TURNS: usize = 1000;
/// So many of a server's tenants are looked at for a trade, the largest: where there are more, one alone helps.
const TRADERS: usize = 64;

#[derive(Debug, Clone, PartialEq)]
pub struct Bin {
    pub id: String,
    /// What it is declared to bear, in tenants: its share of everything is by this.
    pub capacity: u64,
    /// Of all that live there, also of those who cannot go.
    pub has: Amounts,
    /// For those who come: what leaves is kept for a while.
    pub slots: u64,
    /// Bytes that it takes; None is not known.
    pub room: Option<u64>,
}

/// A tenant that can go.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    pub id: String,
    pub at: usize,
    pub has: Amounts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How far off a server may be, in thousandths of the mean.
    pub tolerance: u64,
    pub moves: usize,
    /// To copy, of all moves.
    pub bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub item: usize,
    pub from: usize,
    pub to: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they help most.
    pub steps: Vec<Step>,
    pub end: End,
}

/// Why nobody moves, or nobody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every server is within the tolerance as it is.
    Even,
    /// It is as even as it gets by those who can go.
    Best,
    /// It would get better by next to nothing: nobody moves for that.
    Slight,
    /// More moves would help than are to be made.
    Limited,
}

/// `fits`: whether placement lets this one (of the items) go there (of the bins).
pub fn plan(bins: &[Bin], items: &[Item], limits: &Limits, fits: &dyn Fn(usize, usize) -> bool) -> Plan {
    let mut state = State::of(bins, items, limits);
    if !state.is_off() {
        return Plan { steps: Vec::new(), end: End::Even };
    }
    let before = state.bad_in_all();
    let mut end = End::Limited;
    for _ in 0..TURNS {
        match state.best(fits) {
            Ok(Choice::Go { item, to }) => state.go(item, to),
            Ok(Choice::Trade { one, other }) => {
                let (here, there) = (state.at[one], state.at[other]);
                state.go(one, there);
                state.go(other, here);
            }
            Err(why) => {
                end = why;
                break;
            }
        }
    }
    let steps = state.order.iter().map(|&item| Step { item, from: items[item].at, to: state.at[item] });
    let steps: Vec<Step> = steps.filter(|step| step.from != step.to).collect();
    let is_slight = state.bad_in_all() * 100 > before * (100 - WORTH_PERCENT);
    match end {
        End::Best if is_slight && !steps.is_empty() => Plan { steps: Vec::new(), end: End::Slight },
        end => Plan { steps, end },
    }
}

#[derive(Clone, Copy)]
enum Choice {
    Go { item: usize, to: usize },
    Trade { one: usize, other: usize },
}

/// The best of those that were considered, in their order.
#[derive(Default)]
struct Best {
    choice: Option<Choice>,
    helps: i128,
    costs: i128,
    /// One that helps is more than may be done.
    limited: bool,
}

impl Best {
    /// `go`: who has to go, and where to.
    fn consider(
        &mut self,
        helps: i128,
        go: &[(usize, usize)],
        choice: Choice,
        state: &State<'_>,
        fits: &dyn Fn(usize, usize) -> bool,
    ) {
        let away = go.iter().filter(|(item, _)| state.leaves_home(*item));
        let (away, copied) = away.fold((0, 0_u64), |(away, copied), (item, _)| {
            (away + 1, copied.saturating_add(state.items[*item].has[BYTES]))
        });
        // Back home, or on, takes no bytes.
        let costs = i128::from(copied) + i128::from(EACH) * go.len() as i128;
        let is_allowed =
            state.away + away <= state.limits.moves && state.copied.saturating_add(copied) <= state.limits.bytes;
        let is_better = self.choice.is_none() || helps * self.costs > self.helps * costs;
        let counts = if is_allowed { is_better } else { !self.limited };
        if !counts || !go.iter().all(|(item, to)| state.may_go(*item, *to, fits)) {
            return;
        }
        match is_allowed {
            true => (self.choice, self.helps, self.costs) = (Some(choice), helps, costs),
            false => self.limited = true,
        }
    }
}

struct State<'a> {
    bins: &'a [Bin],
    items: &'a [Item],
    limits: &'a Limits,
    whole: Whole,
    /// How far each may be off.
    may: Vec<Amounts>,
    has: Vec<Amounts>,
    /// Of each, how bad it is.
    bad: Vec<i128>,
    at: Vec<usize>,
    came: Vec<Amounts>,
    /// Those who left home, in that order; some of them may be back.
    order: Vec<usize>,
    /// How many are away, and what they copy.
    away: usize,
    copied: u64,
    /// By name: whatever the order they come in.
    items_by_id: Vec<usize>,
    bins_by_id: Vec<usize>,
}

impl<'a> State<'a> {
    fn of(bins: &'a [Bin], items: &'a [Item], limits: &'a Limits) -> Self {
        let whole = Whole::of(bins);
        let may = |bin: &Bin| whole.off(bin, &bin.has).map(|off| off.map_or(u64::MAX, |off| off.max(limits.tolerance)));
        let mut items_by_id: Vec<usize> = (0..items.len()).collect();
        items_by_id.sort_by_key(|item| &items[*item].id);
        let mut bins_by_id: Vec<usize> = (0..bins.len()).collect();
        bins_by_id.sort_by_key(|bin| &bins[*bin].id);
        let mut state = Self {
            may: bins.iter().map(may).collect(),
            has: bins.iter().map(|bin| bin.has).collect(),
            bad: Vec::new(),
            at: items.iter().map(|item| item.at).collect(),
            came: vec![[0; 3]; bins.len()],
            order: Vec::new(),
            away: 0,
            copied: 0,
            bins,
            items,
            limits,
            whole,
            items_by_id,
            bins_by_id,
        };
        state.bad = (0..bins.len()).map(|bin| state.bad(bin, &bins[bin].has)).collect();
        state
    }

    fn off(&self, bin: usize, has: &Amounts) -> [Option<u64>; 3] {
        self.whole.off(&self.bins[bin], has)
    }

    fn is_off(&self) -> bool {
        let is =
            |bin: usize| self.off(bin, &self.has[bin]).into_iter().flatten().any(|off| off > self.limits.tolerance);
        (0..self.bins.len()).any(is)
    }

    fn bad_in_all(&self) -> i128 {
        self.bad.iter().sum()
    }

    /// Of what is beyond half of the tolerance, more weighs more.
    fn bad(&self, bin: usize, has: &Amounts) -> i128 {
        let beyond = |off: Option<u64>| i128::from(off.unwrap_or(0).saturating_sub(self.limits.tolerance / 2));
        self.off(bin, has).into_iter().map(beyond).map(|beyond| beyond * beyond).sum()
    }

    /// What helps most for its bytes, the first by name of several that help as much; else why there is nothing.
    fn best(&self, fits: &dyn Fn(usize, usize) -> bool) -> Result<Choice, End> {
        let (alone, limited) = self.alone(fits);
        if let Some(choice) = alone {
            return Ok(choice);
        }
        let (trade, limited_too) = self.trade(fits);
        trade.ok_or(if limited || limited_too { End::Limited } else { End::Best })
    }

    /// One goes; and whether one more would, were more allowed.
    fn alone(&self, fits: &dyn Fn(usize, usize) -> bool) -> (Option<Choice>, bool) {
        let mut best = Best::default();
        for &item in &self.items_by_id {
            let (from, goes) = (self.at[item], &self.items[item]);
            let left = less(&self.has[from], &goes.has);
            if !self.may_be(from, &left) {
                continue;
            }
            let helps_here = self.bad[from] - self.bad(from, &left);
            for &to in &self.bins_by_id {
                // Where it goes to, it helps by no more than how bad it is there.
                if to == from || helps_here + self.bad[to] <= 0 {
                    continue;
                }
                let there = more(&self.has[to], &goes.has);
                let helps = helps_here + self.bad[to] - self.bad(to, &there);
                if helps > 0 && self.may_be(to, &there) {
                    best.consider(helps, &[(item, to)], Choice::Go { item, to }, self, fits);
                }
            }
        }
        (best.choice, best.limited)
    }

    /// Two trade places, one of them on the server that is worst.
    fn trade(&self, fits: &dyn Fn(usize, usize) -> bool) -> (Option<Choice>, bool) {
        let mut best = Best::default();
        let mut worst: Option<usize> = None;
        for &bin in &self.bins_by_id {
            if self.bad[bin] > worst.map_or(0, |worst| self.bad[worst]) {
                worst = Some(bin);
            }
        }
        let Some(here) = worst else { return (None, false) };
        let ours = self.traders(here);
        for &there in self.bins_by_id.iter().filter(|bin| **bin != here) {
            for &other in &self.traders(there) {
                for &one in &ours {
                    let (goes, comes) = (&self.items[one].has, &self.items[other].has);
                    let now_here = more(&less(&self.has[here], goes), comes);
                    let now_there = more(&less(&self.has[there], comes), goes);
                    let after = self.bad(here, &now_here) + self.bad(there, &now_there);
                    let helps = self.bad[here] + self.bad[there] - after;
                    if helps > 0 && self.may_be(here, &now_here) && self.may_be(there, &now_there) {
                        best.consider(helps, &[(one, there), (other, here)], Choice::Trade { one, other }, self, fits);
                    }
                }
            }
        }
        (best.choice, best.limited)
    }

    fn traders(&self, bin: usize) -> Vec<usize> {
        let mut there: Vec<usize> = self.items_by_id.iter().copied().filter(|item| self.at[*item] == bin).collect();
        // By name where they are alike: the order was that of names.
        there.sort_by_key(|item| std::cmp::Reverse(self.items[*item].has));
        there.truncate(TRADERS);
        there
    }

    /// Back home it goes without slot, room and leave.
    fn may_go(&self, item: usize, to: usize, fits: &dyn Fn(usize, usize) -> bool) -> bool {
        self.items[item].at == to || self.takes(to, &self.items[item].has) && fits(item, to)
    }

    fn leaves_home(&self, item: usize) -> bool {
        self.items[item].at == self.at[item]
    }

    fn takes(&self, to: usize, more_of: &Amounts) -> bool {
        let coming = more(&self.came[to], more_of);
        let has_room = self.bins[to].room.is_none_or(|room| needs(coming[BYTES]) <= room);
        coming[TENANTS] <= self.bins[to].slots && has_room
    }

    fn may_be(&self, bin: usize, has: &Amounts) -> bool {
        let now = self.off(bin, has);
        now.iter().zip(&self.may[bin]).all(|(now, may)| now.is_none_or(|now| now <= *may))
    }

    fn go(&mut self, item: usize, to: usize) {
        let (from, goes) = (self.at[item], &self.items[item]);
        self.has[from] = less(&self.has[from], &goes.has);
        self.has[to] = more(&self.has[to], &goes.has);
        for bin in [from, to] {
            self.bad[bin] = self.bad(bin, &self.has[bin]);
        }
        if goes.at == from {
            self.away += 1;
            self.copied = self.copied.saturating_add(goes.has[BYTES]);
            if !self.order.contains(&item) {
                self.order.push(item);
            }
        } else {
            self.came[from] = less(&self.came[from], &goes.has);
        }
        if goes.at == to {
            self.away -= 1;
            self.copied = self.copied.saturating_sub(goes.has[BYTES]);
        } else {
            self.came[to] = more(&self.came[to], &goes.has);
        }
        self.at[item] = to;
    }
}

/// What it needs where it comes to.
pub fn needs(bytes: u64) -> u64 {
    bytes.saturating_add(bytes.div_ceil(MARGIN))
}

pub fn more(one: &Amounts, other: &Amounts) -> Amounts {
    std::array::from_fn(|of| one[of].saturating_add(other[of]))
}

pub fn less(one: &Amounts, other: &Amounts) -> Amounts {
    std::array::from_fn(|of| one[of].saturating_sub(other[of]))
}
