//! What each server should have of everything, and how far it is off.

use super::{Amounts, Bin, TENANTS};

/// Where servers have less on the average, nobody moves for the sake of it.
const NOTABLE: Amounts = [64 << 20, 1, 10_000];
/// What is off by more than this, in thousandths, is not told apart.
const FURTHEST: u128 = 1 << 24;

/// All servers together.
#[derive(Debug, Clone, Copy)]
pub struct Whole {
    total: Amounts,
    capacity: u128,
    count: u128,
}

impl Whole {
    pub fn of(bins: &[Bin]) -> Self {
        Self {
            total: std::array::from_fn(|of| bins.iter().map(|bin| bin.has[of]).sum()),
            capacity: bins.iter().map(Bin::weight).sum(),
            count: bins.len() as u128,
        }
    }

    /// How far this server is off in each, in thousandths of its share, had it so much; None where it is not worth it. By less
    /// than one tenant it is not off: none can be divided.
    pub fn off(&self, bin: &Bin, has: &Amounts) -> [Option<u64>; 3] {
        std::array::from_fn(|of| {
            let total = u128::from(self.total[of]);
            let share = total * bin.weight();
            let apart = (u128::from(has[of]) * self.capacity).abs_diff(share);
            let is_less_than_one = of == TENANTS && apart < self.capacity;
            let off = || if is_less_than_one { 0 } else { (apart * 1000 / share).min(FURTHEST) as u64 };
            (total >= u128::from(NOTABLE[of]) * self.count).then(off)
        })
    }
}

impl Bin {
    fn weight(&self) -> u128 {
        u128::from(self.capacity.max(1))
    }
}
