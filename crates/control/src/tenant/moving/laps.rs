//! Where the time of a stall goes: for the log, and for whoever asks why somebody waited.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

pub struct Laps {
    began: Instant,
    done: Mutex<Vec<(&'static str, Duration)>>,
}

impl Laps {
    pub fn begin() -> Self {
        Self { began: Instant::now(), done: Mutex::default() }
    }

    pub fn began(&self) -> Instant {
        self.began
    }

    /// This is done, since the beginning or what was done before it.
    pub fn done(&self, what: &'static str) {
        self.done.lock().expect("nothing panics here").push((what, self.began.elapsed()));
    }

    /// Milliseconds of each.
    pub fn told(&self) -> String {
        told(&self.done.lock().expect("nothing panics here"))
    }
}

fn told(done: &[(&str, Duration)]) -> String {
    let (mut text, mut before) = (String::new(), Duration::ZERO);
    for (what, at) in done {
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{comma}{what} {:.1}", (*at - before).as_secs_f64() * 1000.0);
        before = *at;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laps_tell_what_each_took() {
        let done = [("pause", Duration::from_millis(12)), ("fence", Duration::from_micros(17_500))];
        assert_eq!(told(&done), "pause 12.0, fence 5.5");
    }
}
