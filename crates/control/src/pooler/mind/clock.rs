//! The clock that deadlines are counted on: it begins with the machine, goes on while the machine sleeps, and nobody sets
//! it. An agent that is started again finds it as it was.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::pauses::Moment;

pub fn now() -> Moment {
    // It is there since Linux 2.6.39.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// Another one after each start of the machine. Empty where the system does not say.
pub fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
