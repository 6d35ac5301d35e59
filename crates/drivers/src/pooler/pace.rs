//! At most one reload per pooler and second (rule 4 of the design): each freezes everybody for a moment.
//!
//! Absent: coalescing. Who has ten changes in a second says them in one configuration.

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep_until};

#[derive(Debug)]
pub struct Pace {
    every: Duration,
    last: Mutex<Option<Instant>>,
}

/// The turn; others wait until it is dropped.
pub struct Turn<'a>(MutexGuard<'a, Option<Instant>>);

impl Pace {
    pub fn new(every: Duration) -> Self {
        Self { every, last: Mutex::new(None) }
    }

    /// Waits until the next reload may be made.
    pub async fn turn(&self) -> Turn<'_> {
        let last = self.last.lock().await;
        if let Some(at) = *last {
            sleep_until(at + self.every).await;
        }
        Turn(last)
    }
}

impl Turn<'_> {
    /// A reload is made now.
    pub fn taken(&mut self) {
        *self.0 = Some(Instant::now());
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pace_lets_one_reload_through_in_its_time() {
        let pace = Pace::new(Duration::from_millis(40));
        let began = Instant::now();
        for _ in 0..3 {
            pace.turn().await.taken();
        }
        assert!(began.elapsed() >= Duration::from_millis(80));
        // Who looks and finds nothing to do takes no turn from anybody.
        for _ in 0..100 {
            drop(pace.turn().await);
        }
        assert!(began.elapsed() < Duration::from_secs(3));
    }
}
