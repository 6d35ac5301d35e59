//! Tells the plane how it stands: at once after a change, every few seconds, and every second while clients wait, because
//! the plane may have more for them. A plane that is away is asked less often.

use std::sync::Arc;
use std::time::Duration;

use freehold_api::pooler::{PauseTold, PooledDatabase, PoolerReport};
use freehold_control::pooler::counts::busiest;
use freehold_drivers::pooler::pgbouncer::PgBouncer;
use freehold_drivers::pooler::{DatabaseStats, PoolStats, Pooler};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::agent::Event;
use super::link::Link;

const EVERY: Duration = Duration::from_secs(5);
/// How often it is looked whether somebody waits.
const LOOK: Duration = Duration::from_secs(1);
/// As long as nobody notices.
const PATIENCE: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(10);
/// Ten changes at once are one report.
const GATHER: Duration = Duration::from_millis(20);

/// All of a report but what PgBouncer counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    pub generation: Option<u64>,
    pub version: Option<String>,
    pub reloads: u64,
    pub deaths: u64,
    pub repaired: u64,
    pub error: Option<String>,
    pub needs_restart: Vec<String>,
    pub pauses: Vec<PauseTold>,
}

pub async fn tell(
    link: Arc<Link>,
    driver: Arc<PgBouncer>,
    mut told: watch::Receiver<Told>,
    events: mpsc::Sender<Event>,
) {
    let mut failures = 0;
    let mut pauses = Vec::new();
    loop {
        let now = told.borrow_and_update().clone();
        let databases = match now.pauses == pauses {
            true => match timeout(EVERY, driver.stats()).await {
                Ok(Ok(stats)) => Some(busiest(stats)),
                // It is being started again, perhaps: the report says so by other means.
                Ok(Err(_)) | Err(_) => None,
            },
            // Somebody's clients wait for whoever waits for this: what is counted comes with the next one.
            false => None,
        };
        pauses.clone_from(&now.pauses);
        match link.report(&now.with(databases)).await {
            Ok(()) => {
                if failures > 0 {
                    tracing::info!("the plane hears reports again");
                }
                failures = 0;
                if events.send(Event::Reported(pauses.clone())).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(%error, "the plane does not hear reports; what is served goes on");
                }
                failures += 1;
            }
        }
        if failures > 0 {
            tokio::select! {
                () = sleep(backoff(failures)) => {}
                () = link.answers.notified() => {}
            }
            continue;
        }
        tokio::select! {
            () = sleep(EVERY.mul_f64(0.7 + 0.3 * rand::random::<f64>())) => {}
            () = somebody_waits(&driver) => {}
            changed = told.changed() => match changed {
                Ok(()) if told.borrow().pauses != pauses => {}
                Ok(()) => sleep(GATHER).await,
                Err(_) => return,
            },
        }
    }
}

/// Returns when clients have waited for longer than they should.
async fn somebody_waits(driver: &PgBouncer) {
    loop {
        sleep(LOOK).await;
        let waits = |pool: &PoolStats| {
            pool.maxwait >= PATIENCE || pool.sv_active > 0 && pool.cl_waiting >= pool.sv_active + pool.sv_idle
        };
        let waits = |database: &DatabaseStats| !database.paused && database.pools.iter().any(waits);
        if let Ok(Ok(stats)) = timeout(EVERY, driver.stats()).await
            && stats.iter().any(waits)
        {
            return;
        }
    }
}

/// Never all agents at once.
pub fn backoff(failures: u32) -> Duration {
    let longest = (Duration::from_millis(500) * 2u32.saturating_pow(failures.min(6) - 1)).min(LAST_BACKOFF);
    longest.mul_f64(0.5 + rand::random::<f64>() / 2.0)
}

impl Told {
    fn with(self, databases: Option<Vec<PooledDatabase>>) -> PoolerReport {
        let Self { generation, version, reloads, deaths, repaired, error, needs_restart, pauses } = self;
        PoolerReport { generation, version, reloads, deaths, repaired, error, needs_restart, pauses, databases }
    }
}
