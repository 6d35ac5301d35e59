//! How long a failed step waits. Pure, but for the jitter.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const FORWARD: Duration = Duration::from_secs(30);
/// An undo has no deadline and nobody waits for it.
const UNDO: Duration = Duration::from_secs(300);

/// The pause after the given attempt (1 is the first): doubled each time up to a cap, and up to a quarter less,
/// so that what failed together does not come back together.
pub(crate) fn pause(attempt: u32, undoing: bool) -> Duration {
    let full = full_pause(attempt, undoing);
    full.mul_f64(1.0 - rand::random::<f64>() / 4.0)
}

fn full_pause(attempt: u32, undoing: bool) -> Duration {
    let cap = if undoing { UNDO } else { FORWARD };
    FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(20)).min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap() {
        let forward: Vec<u128> = (1..=10).map(|attempt| full_pause(attempt, false).as_millis()).collect();
        assert_eq!(forward, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(full_pause(u32::MAX, true), UNDO);
    }
}
