//! Looks at every agent of this machine again and again, and starts those that died. Needs neither the store nor the plane:
//! what an agent is started with is beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::process::{Inner, found, read, start};
use crate::platform::PlatformError;

const LOOK: Duration = Duration::from_millis(500);
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LAST_BACKOFF: Duration = Duration::from_secs(10);
const STEADY: Duration = Duration::from_secs(60);

/// How often one was started in vain or died, lately.
struct Tries {
    last: Instant,
    backoff: Duration,
}

pub(super) async fn watch(inner: Arc<Inner>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tries: BTreeMap<PathBuf, Tries> = BTreeMap::new();
    loop {
        ticks.tick().await;
        let homes = inner.homes();
        tries.retain(|home, tries| homes.contains(home) && tries.last.elapsed() < STEADY);
        for home in homes {
            if tries.get(&home).is_some_and(|tries| tries.last.elapsed() < tries.backoff) {
                continue;
            }
            match again(&inner, &home).await {
                Ok(false) => continue,
                Ok(true) => tracing::warn!(home = %home.display(), "a pooler's agent had died; it runs again"),
                Err(error) => {
                    tracing::warn!(home = %home.display(), %error, "a pooler's agent is not started again yet")
                }
            }
            let backoff = tries.get(&home).map_or(FIRST_BACKOFF, |tries| (tries.backoff * 2).min(LAST_BACKOFF));
            tries.insert(home, Tries { last: Instant::now(), backoff });
        }
    }
}

/// True: it was started.
async fn again(inner: &Inner, home: &Path) -> Result<bool, PlatformError> {
    if found(home).is_some() {
        return Ok(false);
    }
    // Whoever holds it is starting or ending one.
    let Some(_lock) = inner.try_lock()? else { return Ok(false) };
    let wanted = read(home)?.filter(|record| record.wanted && inner.owns(record));
    let Some(record) = wanted else { return Ok(false) };
    if found(home).is_some() {
        return Ok(false);
    }
    start(home, &record).await.map(|()| true)
}
