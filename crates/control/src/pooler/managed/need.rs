//! Whether another pooler is to be started. Pure: the caller brings what there is.

/// What there is, all poolers counted, also those that were registered by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Supply {
    /// Databases that still fit on poolers that take some.
    pub free: i64,
    /// Databases without a pooler, those that are being made included.
    pub homeless: i64,
    /// Poolers that Freehold runs or starts or ends.
    pub managed: i64,
    pub starting: i64,
    /// One could not be started a moment ago, and its next try is not due.
    pub resting: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Enough,
    /// That many more have to fit.
    One {
        short: i64,
    },
    /// One is on its way already, or is tried again later.
    Coming,
    /// There are as many as there may be.
    Full,
}

pub fn need(supply: &Supply, headroom: u32, maximum: u32) -> Need {
    let short = i64::from(headroom) - (supply.free - supply.homeless);
    match short > 0 {
        false => Need::Enough,
        true if supply.starting > 0 || supply.resting => Need::Coming,
        true if supply.managed >= i64::from(maximum) => Need::Full,
        true => Need::One { short },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn supply(free: i64, homeless: i64, managed: i64) -> Supply {
        Supply { free, homeless, managed, starting: 0, resting: false }
    }

    #[test]
    fn one_comes_when_too_few_fit_and_never_one_too_many() {
        assert_eq!(need(&supply(0, 0, 0), 1, 3), Need::One { short: 1 }, "the first of all");
        assert_eq!(need(&supply(5, 0, 1), 5, 3), Need::Enough);
        assert_eq!(need(&supply(5, 1, 1), 5, 3), Need::One { short: 1 });
        assert_eq!(need(&supply(5, 1, 3), 5, 3), Need::Full);
        assert_eq!(need(&Supply { starting: 1, ..supply(0, 900, 1) }, 5, 3), Need::Coming);
        assert_eq!(need(&Supply { resting: true, ..supply(0, 900, 1) }, 5, 3), Need::Coming);
        assert_eq!(need(&supply(0, 0, 1), 0, 3), Need::Enough, "nothing is kept free");
    }

    proptest! {
        /// Asked again and again, it ends with room for all, or with as many as there may be.
        #[test]
        fn need_settles(capacity in 1i64..600, homeless in 0i64..4000, headroom in 0u32..100, maximum in 1u32..12) {
            let headroom = headroom.min(u32::try_from(capacity).unwrap());
            let mut now = supply(0, homeless, 0);
            let mut last = None;
            for _ in 0..=maximum {
                last = Some(need(&now, headroom, maximum));
                match last {
                    Some(Need::One { short }) => {
                        prop_assert!(short > 0);
                        now.managed += 1;
                        now.free += capacity;
                    }
                    _ => break,
                }
            }
            prop_assert!(now.managed <= i64::from(maximum));
            match last {
                Some(Need::Enough) => {
                    prop_assert!(now.free - now.homeless >= i64::from(headroom));
                    // Not one more than that takes.
                    prop_assert!(now.managed == 0 || now.free - capacity - now.homeless < i64::from(headroom));
                }
                other => prop_assert_eq!(other, Some(Need::Full)),
            }
        }
    }
}
