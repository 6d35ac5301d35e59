//! Looks at every service again and again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::place::Place;
use super::{Inner, converge};
use crate::platform::PlatformError;

pub(super) async fn watch(inner: Arc<Inner>, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // One that takes long, because it recovers or stops, does not keep the others waiting.
    let mut at_work: JoinSet<String> = JoinSet::new();
    let mut busy = BTreeSet::new();
    loop {
        ticks.tick().await;
        while let Some(done) = at_work.try_join_next() {
            match done {
                Ok(name) => drop(busy.remove(&name)),
                // Its name is lost; whoever is still at work is found out by its lock.
                Err(_) => busy.clear(),
            }
        }
        for place in inner.places() {
            if busy.insert(place.name.clone()) {
                let inner = inner.clone();
                at_work.spawn(async move {
                    if let Err(error) = watch_one(&inner, &place).await {
                        tracing::warn!(service = %place.name, %error, "a service cannot be looked after");
                    }
                    place.name
                });
            }
        }
    }
}

async fn watch_one(inner: &Inner, place: &Place) -> Result<(), PlatformError> {
    if place.read()?.is_none() {
        return Ok(());
    }
    let Some(_lock) = place.try_lock()? else { return Ok(()) };
    let Some(mut record) = place.read()? else { return Ok(()) };
    converge::watch(&inner.means(), place, &mut record).await
}
