//! Who would go where, so that servers come to be even. Pure: reads neither store nor server.
//!
//! What is evened out are bytes, tenants and transactions per second. Of each, how far a server is off is how much it has more
//! or less than the mean, as a part of the mean. One tenant after the other goes to where that helps most for what has to be
//! copied, until every server is within the tolerance or nobody is left whose going helps. No server comes to be further off
//! in anything than it was, or than the tolerance. Who is sent on is sent from where he was: each goes once.
//!
//! Asked again of what it came to, it has nothing to say: each choice is by whole numbers and names alone.

/// Bytes, tenants, thousandths of transactions per second.
pub type Amounts = [u64; 3];

/// Below such a mean nobody moves for the sake of it.
const NOTABLE: Amounts = [64 << 20, 1, 1000];
/// What a move costs however little it copies, in bytes.
const EACH: u64 = 32 << 20;
/// So many tenants at most; whoever has done that asks again.
pub const MOST: usize = 100;
/// Of what comes to a server, it needs so much more meanwhile.
const MARGIN_PERCENT: u64 = 20;
const NOTHING: f64 = 1e-9;

#[derive(Debug, Clone, PartialEq)]
pub struct Bin {
    pub id: String,
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
pub struct Step {
    pub item: usize,
    pub from: usize,
    pub to: usize,
}

/// In the order in which they help most. `fits`: whether placement lets this one (of the items) go there (of the bins).
pub fn plan(bins: &[Bin], items: &[Item], tolerance: f64, fits: &dyn Fn(usize, usize) -> bool) -> Vec<Step> {
    let mut state = State::of(bins, items, tolerance);
    let mut order = Vec::new();
    while let Some((item, to)) = state.best(fits) {
        if !order.contains(&item) {
            if order.len() == MOST {
                break;
            }
            order.push(item);
        }
        state.go(item, to);
    }
    let steps = order.into_iter().map(|item| Step { item, from: items[item].at, to: state.at[item] });
    steps.filter(|step| step.from != step.to).collect()
}

/// How far this server is off in each, as a part of the mean; None where the mean is not worth it.
pub fn off(total: &Amounts, count: usize, has: &Amounts) -> [Option<f64>; 3] {
    std::array::from_fn(|of| {
        let mean = total[of] as f64 / count.max(1) as f64;
        (mean >= NOTABLE[of] as f64).then(|| (has[of] as f64 - mean).abs() / mean)
    })
}

pub fn total(bins: &[Bin]) -> Amounts {
    std::array::from_fn(|of| bins.iter().map(|bin| bin.has[of]).sum())
}

struct State<'a> {
    bins: &'a [Bin],
    items: &'a [Item],
    total: Amounts,
    tolerance: f64,
    /// How far each may be off.
    may: Vec<[Option<f64>; 3]>,
    has: Vec<Amounts>,
    at: Vec<usize>,
    came: Vec<Amounts>,
    /// By name: whatever the order they come in.
    items_by_id: Vec<usize>,
    bins_by_id: Vec<usize>,
}

impl<'a> State<'a> {
    fn of(bins: &'a [Bin], items: &'a [Item], tolerance: f64) -> Self {
        let total = total(bins);
        let may = |bin: &Bin| off(&total, bins.len(), &bin.has).map(|off| off.map(|off| off.max(tolerance)));
        let mut items_by_id: Vec<usize> = (0..items.len()).collect();
        items_by_id.sort_by_key(|item| &items[*item].id);
        let mut bins_by_id: Vec<usize> = (0..bins.len()).collect();
        bins_by_id.sort_by_key(|bin| &bins[*bin].id);
        Self {
            may: bins.iter().map(may).collect(),
            has: bins.iter().map(|bin| bin.has).collect(),
            at: items.iter().map(|item| item.at).collect(),
            came: vec![[0; 3]; bins.len()],
            bins,
            items,
            total,
            tolerance,
            items_by_id,
            bins_by_id,
        }
    }

    /// The move that helps most for its bytes; the first by name of several that help as much.
    fn best(&self, fits: &dyn Fn(usize, usize) -> bool) -> Option<(usize, usize)> {
        let mut best: Option<(f64, usize, usize)> = None;
        for &item in &self.items_by_id {
            for &to in &self.bins_by_id {
                let Some(helps) = self.helps(item, to) else { continue };
                let better = best.is_none_or(|(most, ..)| helps > most);
                if better && (to == self.items[item].at || fits(item, to)) {
                    best = Some((helps, item, to));
                }
            }
        }
        best.map(|(_, item, to)| (item, to))
    }

    /// None: it does not, or may not be.
    fn helps(&self, item: usize, to: usize) -> Option<f64> {
        let (from, goes) = (self.at[item], &self.items[item]);
        if from == to {
            return None;
        }
        let (before, after) =
            ((self.has[from], self.has[to]), (less(&self.has[from], &goes.has), more(&self.has[to], &goes.has)));
        let helps = self.bad(&before.0) + self.bad(&before.1) - self.bad(&after.0) - self.bad(&after.1);
        if helps <= NOTHING || !self.may_be(from, &after.0) || !self.may_be(to, &after.1) {
            return None;
        }
        // Back home takes no slot, and no bytes.
        let home = goes.at == to;
        if !home && !self.takes(to, &goes.has) {
            return None;
        }
        let copied = if goes.at == from { goes.has[0] } else { 0 };
        Some(helps / (copied + EACH) as f64)
    }

    fn takes(&self, to: usize, more_of: &Amounts) -> bool {
        let coming = more(&self.came[to], more_of);
        coming[1] <= self.bins[to].slots && self.bins[to].room.is_none_or(|room| holds(room, coming[0]))
    }

    fn may_be(&self, bin: usize, has: &Amounts) -> bool {
        let now = off(&self.total, self.bins.len(), has);
        now.iter().zip(&self.may[bin]).all(|(now, may)| match (now, may) {
            (Some(now), Some(may)) => now <= may,
            _ => true,
        })
    }

    /// Of what is beyond the tolerance, more weighs more.
    fn bad(&self, has: &Amounts) -> f64 {
        let beyond = off(&self.total, self.bins.len(), has).map(|off| (off.unwrap_or(0.0) - self.tolerance).max(0.0));
        beyond.iter().map(|beyond| beyond * beyond).sum()
    }

    fn go(&mut self, item: usize, to: usize) {
        let (from, goes) = (self.at[item], &self.items[item]);
        self.has[from] = less(&self.has[from], &goes.has);
        self.has[to] = more(&self.has[to], &goes.has);
        if goes.at != from {
            self.came[from] = less(&self.came[from], &goes.has);
        }
        if goes.at != to {
            self.came[to] = more(&self.came[to], &goes.has);
        }
        self.at[item] = to;
    }
}

fn holds(room: u64, bytes: u64) -> bool {
    u128::from(bytes) * u128::from(100 + MARGIN_PERCENT) <= u128::from(room) * 100
}

pub fn more(one: &Amounts, other: &Amounts) -> Amounts {
    std::array::from_fn(|of| one[of].saturating_add(other[of]))
}

pub fn less(one: &Amounts, other: &Amounts) -> Amounts {
    std::array::from_fn(|of| one[of].saturating_sub(other[of]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIB: u64 = 1 << 30;

    /// What each has beside those that can go; slots, room; and who can go, from where, and where not.
    type World = (Vec<Bin>, Vec<Item>, Vec<(usize, usize)>);

    fn worlds() -> impl Strategy<Value = World> {
        let bins = prop::collection::vec((0u64..4, 0u64..6, prop::option::of(0u64..8)), 1..6);
        let items = prop::collection::vec((any::<prop::sample::Index>(), 0u64..3000, 0u64..4), 0..24);
        let bars = prop::collection::vec((0usize..24, 0usize..6), 0..12);
        (bins, items, bars).prop_map(|(bins, items, bars)| {
            let mut bins: Vec<Bin> = bins
                .into_iter()
                .enumerate()
                .map(|(n, (fixed, slots, room))| Bin {
                    id: format!("server-{n}"),
                    has: [fixed * GIB, fixed, fixed * 700],
                    slots,
                    room: room.map(|room| room * GIB),
                })
                .collect();
            let items: Vec<Item> = items
                .into_iter()
                .enumerate()
                .map(|(n, (at, megabytes, load))| Item {
                    id: format!("tenant-{n:02}"),
                    at: at.index(bins.len()),
                    has: [megabytes << 20, 1, load * 500],
                })
                .collect();
            for item in &items {
                bins[item.at].has = more(&bins[item.at].has, &item.has);
            }
            (bins, items, bars)
        })
    }

    fn applied(bins: &[Bin], items: &[Item], steps: &[Step]) -> (Vec<Bin>, Vec<Item>) {
        let (mut bins, mut items) = (bins.to_vec(), items.to_vec());
        for step in steps {
            let goes = items[step.item].has;
            bins[step.from].has = less(&bins[step.from].has, &goes);
            bins[step.to].has = more(&bins[step.to].has, &goes);
            bins[step.to].slots -= 1;
            let needed = goes[0] + goes[0].div_ceil(5);
            bins[step.to].room = bins[step.to].room.map(|room| room.saturating_sub(needed));
            items[step.item].at = step.to;
        }
        (bins, items)
    }

    fn worst(bins: &[Bin], tolerance: f64) -> f64 {
        let total = total(bins);
        let off = bins.iter().flat_map(|bin| off(&total, bins.len(), &bin.has)).flatten();
        off.fold(tolerance, f64::max)
    }

    #[test]
    fn the_fewest_bytes_make_it_even() {
        let bin =
            |id: &str, gib: u64, tenants| Bin { id: id.into(), has: [gib * GIB, tenants, 0], slots: 10, room: None };
        let item = |id: &str, gib: u64| Item { id: id.into(), at: 0, has: [gib * GIB, 1, 0] };
        let bins = [bin("a", 12, 4), bin("b", 4, 2)];
        let items = [item("huge", 6), item("large", 4), item("one", 1), item("two", 1)];
        let steps = plan(&bins, &items, 0.1, &|_, _| true);
        assert_eq!(steps, [Step { item: 1, from: 0, to: 1 }]);
        assert_eq!(plan(&bins, &items, 0.1, &|item, _| item != 1 && item != 0).len(), 1, "as far as it goes");
        assert_eq!(plan(&bins, &items, 0.5, &|_, _| true), []);
        assert_eq!(plan(&bins[..1], &items, 0.1, &|_, _| true), []);
        // Of next to nothing, nobody makes much.
        let small = [Bin { has: [9 << 20, 1, 900], ..bins[0].clone() }, Bin { has: [0, 1, 0], ..bins[1].clone() }];
        assert_eq!(plan(&small, &items[..0], 0.1, &|_, _| true), []);
    }

    #[test]
    fn load_is_evened_out_as_size_is() {
        let bin = |id: &str, load| Bin { id: id.into(), has: [4 * GIB, 4, load], slots: 10, room: None };
        let bins = [bin("a", 8000), bin("b", 0)];
        let of = |n: usize, at: usize, load| Item { id: format!("t{n}"), at, has: [GIB, 1, load] };
        let items: Vec<Item> = (0..8).map(|n| of(n, n / 4, if n < 4 { 2000 } else { 0 })).collect();
        let (after, _) = applied(&bins, &items, &plan(&bins, &items, 0.1, &|_, _| true));
        // One at a time, and never further off in size: two that trade places are not found.
        assert!(worst(&after, 0.1) <= worst(&bins, 0.1));
    }

    proptest! {
        #[test]
        fn no_server_comes_to_be_over_its_limits_or_worse_than_it_was((bins, items, bars) in worlds(), percent in 1u32..60) {
            let tolerance = f64::from(percent) / 100.0;
            let fits = |item: usize, bin: usize| !bars.contains(&(item, bin));
            let steps = plan(&bins, &items, tolerance, &fits);
            let (total, count) = (total(&bins), bins.len());
            let (after, _) = applied_unchecked(&bins, &items, &steps);
            for (n, bin) in bins.iter().enumerate() {
                let come: Vec<&Item> = steps.iter().filter(|step| step.to == n).map(|step| &items[step.item]).collect();
                prop_assert!(come.len() as u64 <= bin.slots);
                let bytes: u64 = come.iter().map(|item| item.has[0]).sum();
                prop_assert!(bin.room.is_none_or(|room| holds(room, bytes)));
                for (before, now) in off(&total, count, &bin.has).iter().zip(off(&total, count, &after[n].has)) {
                    let (before, now) = (before.unwrap_or(0.0), now.unwrap_or(0.0));
                    prop_assert!(now <= before.max(tolerance) + 1e-6, "{before} became {now}");
                }
            }
            prop_assert!(worst(&after, tolerance) <= worst(&bins, tolerance) + 1e-6);
            // Each once, from where it is, to where it may.
            for (n, step) in steps.iter().enumerate() {
                prop_assert!(step.from == items[step.item].at && step.from != step.to && fits(step.item, step.to));
                prop_assert!(steps[..n].iter().all(|other| other.item != step.item));
            }
        }

        #[test]
        fn asked_again_it_has_nothing_to_say((bins, items, bars) in worlds(), percent in 1u32..60) {
            let tolerance = f64::from(percent) / 100.0;
            let fits = |item: usize, bin: usize| !bars.contains(&(item, bin));
            let steps = plan(&bins, &items, tolerance, &fits);
            let (bins, items) = applied(&bins, &items, &steps);
            prop_assert_eq!(plan(&bins, &items, tolerance, &fits), []);
        }

        #[test]
        fn in_whatever_order_they_come_it_says_the_same((bins, items, bars) in worlds(), turn in 0usize..24) {
            let named = |bins: &[Bin], items: &[Item], steps: &[Step]| {
                let named = steps.iter().map(|step| (items[step.item].id.clone(), bins[step.to].id.clone()));
                named.collect::<Vec<_>>()
            };
            let fits = |item: usize, bin: usize| !bars.contains(&(item, bin));
            let told = named(&bins, &items, &plan(&bins, &items, 0.1, &fits));
            let (mut others, mut turned) = (bins.clone(), items.clone());
            others.reverse();
            let count = items.len().max(1);
            turned.rotate_left(turn % count);
            for item in &mut turned {
                item.at = bins.len() - 1 - item.at;
            }
            let fits = |item: usize, bin: usize| fits((item + turn % count) % count, bins.len() - 1 - bin);
            prop_assert_eq!(told, named(&others, &turned, &plan(&others, &turned, 0.1, &fits)));
        }
    }

    /// Without the limits, which the steps are held against.
    fn applied_unchecked(bins: &[Bin], items: &[Item], steps: &[Step]) -> (Vec<Bin>, Vec<Item>) {
        let free: Vec<Bin> = bins.iter().map(|bin| Bin { slots: 1000, room: None, ..bin.clone() }).collect();
        applied(&free, items, steps)
    }
}
