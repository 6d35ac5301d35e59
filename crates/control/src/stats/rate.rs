//! What happened between two looks at a counter. Pure.

use freehold_drivers::server::sql::Counters;

/// How much more there is of each; what a database counted since its counters began again, where they did.
pub fn since(before: &Counters, now: &Counters) -> Counters {
    let parts = |c: &Counters| [c.transactions, c.blocks_hit, c.blocks_read, c.deadlocks, c.temp_bytes];
    let reset = parts(before).iter().zip(parts(now)).any(|(before, now)| now < *before);
    let zero = Counters::default();
    let from = if reset { &zero } else { before };
    Counters {
        database: now.database.clone(),
        transactions: now.transactions.saturating_sub(from.transactions),
        blocks_hit: now.blocks_hit.saturating_sub(from.blocks_hit),
        blocks_read: now.blocks_read.saturating_sub(from.blocks_read),
        deadlocks: now.deadlocks.saturating_sub(from.deadlocks),
        temp_bytes: now.temp_bytes.saturating_sub(from.temp_bytes),
    }
}

pub fn per_second(count: i64, elapsed: f64) -> Option<f64> {
    (elapsed > 0.0).then(|| count.max(0) as f64 / elapsed)
}

/// The share of blocks that were in memory; None where nothing was read.
pub fn hit_ratio(hit: i64, read: i64) -> Option<f64> {
    let all = hit.saturating_add(read);
    (all > 0).then(|| hit as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counters(parts: [i64; 5]) -> Counters {
        let [transactions, blocks_hit, blocks_read, deadlocks, temp_bytes] = parts;
        Counters { database: "d".into(), transactions, blocks_hit, blocks_read, deadlocks, temp_bytes }
    }

    #[test]
    fn a_reset_counts_from_nothing() {
        let delta = since(&counters([1000, 500, 20, 3, 7]), &counters([5, 600, 30, 3, 9]));
        assert_eq!(delta, counters([5, 600, 30, 3, 9]));
    }

    proptest! {
        /// However often the server's counters begin again, nothing that was counted is lost or counted twice, and no
        /// rate is negative.
        #[test]
        fn sums_of_what_happened_are_what_happened(steps in proptest::collection::vec((proptest::array::uniform5(0i64..1_000_000), any::<bool>()), 1..20)) {
            let mut now = counters([0; 5]);
            let (mut told, mut happened) = (0i64, 0i64);
            for (more, reset) in steps {
                let before = now.clone();
                let from = if reset { counters([0; 5]) } else { now.clone() };
                now = counters([from.transactions + more[0], from.blocks_hit + more[1], from.blocks_read + more[2],
                    from.deadlocks + more[3], from.temp_bytes + more[4]]);
                let delta = since(&before, &now);
                // A reset after which every counter has passed where it was cannot be seen: then less is told.
                let unseen = reset && now.transactions >= before.transactions && now.blocks_hit >= before.blocks_hit
                    && now.blocks_read >= before.blocks_read && now.deadlocks >= before.deadlocks && now.temp_bytes >= before.temp_bytes;
                happened += if unseen { now.transactions - before.transactions } else { more[0] };
                told += delta.transactions;
                prop_assert!(per_second(delta.transactions, 60.0).is_some_and(|rate| rate >= 0.0));
                prop_assert!(hit_ratio(delta.blocks_hit, delta.blocks_read).is_none_or(|ratio| (0.0..=1.0).contains(&ratio)));
            }
            prop_assert_eq!(told, happened);
        }
    }
}
