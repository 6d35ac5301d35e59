//! Where a tenant stands. Pure.
//!
//! ```text
//! below → 80 % → near → 100 % → reached
//!       ← 75 %        ← 95 %
//! ```
//!
//! The way back is longer than the way there, so that whoever stays around a line is told once.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Storage,
    Connections,
}

impl Resource {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Connections => "connections",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Below,
    Near,
    Reached,
}

impl Level {
    /// As the store has it.
    pub fn of(percent: Option<i32>) -> Self {
        match percent {
            None => Self::Below,
            Some(percent) if percent < 100 => Self::Near,
            Some(_) => Self::Reached,
        }
    }

    pub fn percent(self) -> i32 {
        match self {
            Self::Below => 0,
            Self::Near => 80,
            Self::Reached => 100,
        }
    }

    /// No quota: nothing is near it.
    pub fn after(self, used: u64, quota: Option<u64>) -> Self {
        let Some(quota) = quota else { return Self::Below };
        let at_least = |percent: u128| u128::from(used) * 100 >= u128::from(quota) * percent;
        let (near, reached) = match self {
            Self::Below => (80, 100),
            Self::Near => (75, 100),
            Self::Reached => (75, 95),
        };
        match () {
            () if at_least(reached) => Self::Reached,
            () if at_least(near) => Self::Near,
            () => Self::Below,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_line_is_told_once_and_only_a_real_return_counts() {
        let mut level = Level::Below;
        let mut told = Vec::new();
        for used in [79, 80, 79, 85, 76, 99, 100, 104, 97, 100, 95, 94, 100, 74, 81] {
            let now = level.after(used, Some(100));
            if now != level {
                told.push((used, now.percent()));
            }
            level = now;
        }
        assert_eq!(told, [(80, 80), (100, 100), (94, 80), (100, 100), (74, 0), (81, 80)]);
        assert_eq!(Level::Reached.after(u64::MAX, None), Level::Below);
        assert_eq!(Level::Below.after(u64::MAX, Some(u64::MAX)), Level::Reached);
    }

    proptest! {
        /// Whatever the usage does, a line is crossed again only after the usage was really on its other side.
        #[test]
        fn nobody_is_told_twice_of_one_crossing(usage in proptest::collection::vec(0u64..130, 1..60)) {
            let mut level = Level::Below;
            let (mut since_80, mut since_100) = (0, 0);
            for used in usage {
                (since_80, since_100) = (since_80.min(used), since_100.min(used));
                let now = level.after(used, Some(100));
                if level < Level::Near && now >= Level::Near {
                    prop_assert!(since_80 < 75 && used >= 80);
                }
                if level < Level::Reached && now == Level::Reached {
                    prop_assert!(since_100 < 95 && used >= 100);
                }
                if now >= Level::Near && level < Level::Near { since_80 = u64::MAX; }
                if now == Level::Reached && level < Level::Reached { since_100 = u64::MAX; }
                prop_assert_eq!(now.after(used, Some(100)), now);
                level = now;
            }
        }
    }
}
