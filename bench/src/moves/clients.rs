//! Clients that write without a rest, and how long each write took.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_postgres::Config;

use crate::Res;
use crate::bench::{config, connect};
use crate::samples::Samples;

pub const CLIENTS: usize = 8;
/// Between two writes of one client: somebody is always about to write, and the machine has time for the rest.
const THINKS: Duration = Duration::from_millis(5);
/// Who waited at a moment was asked for at most this long before or after it.
const AROUND: Duration = Duration::from_millis(250);

/// At work until they are ended. None of their writes may fail.
pub struct Clients {
    stop: Arc<AtomicBool>,
    began: Instant,
    date: Timestamp,
    tasks: Vec<JoinHandle<Res<Vec<Write>>>>,
}

#[derive(Debug, Clone, Copy)]
pub struct Write {
    pub began: Instant,
    pub took: Duration,
}

/// What each of them saw.
pub struct Seen {
    began: Instant,
    date: Timestamp,
    each: Vec<Vec<Write>>,
}

impl Clients {
    /// On pgbench's accounts, of which there are so many.
    pub async fn start(endpoint: &Value, accounts: u64) -> Res<Self> {
        let stop = Arc::<AtomicBool>::default();
        let mut tasks = Vec::new();
        for number in 0..CLIENTS as u64 {
            tasks.push(tokio::spawn(write(config(endpoint)?, number, accounts, stop.clone())));
        }
        Ok(Self { stop, began: Instant::now(), date: Timestamp::now(), tasks })
    }

    pub async fn end(self) -> Res<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let mut each = Vec::new();
        for task in self.tasks {
            each.push(task.await??);
        }
        Ok(Seen { began: self.began, date: self.date, each })
    }
}

impl Seen {
    /// The longest that each of them waited around a moment of the store's clock, which is this machine's.
    pub fn waits_at(&self, moment: Timestamp) -> Res<Samples> {
        let at = self.began + Duration::try_from(moment.duration_since(self.date))?;
        Ok(self.waits_between(at - AROUND, at + AROUND))
    }

    pub fn waits_between(&self, from: Instant, to: Instant) -> Samples {
        let mut waits = Samples::default();
        for writes in &self.each {
            let during = writes.iter().filter(|write| write.began <= to && write.began + write.took >= from);
            if let Some(longest) = during.map(|write| write.took).max() {
                waits.push(longest);
            }
        }
        waits
    }

    /// Of each, whenever that was.
    pub fn longest(&self) -> Samples {
        let mut waits = Samples::default();
        self.each
            .iter()
            .filter_map(|writes| writes.iter().map(|write| write.took).max())
            .for_each(|took| waits.push(took));
        waits
    }

    /// Of everybody, in seconds since they began, and milliseconds.
    pub fn points(&self) -> Vec<(f64, f64)> {
        let point = |write: &Write| (self.second(write.began), write.took.as_secs_f64() * 1000.0);
        let mut points: Vec<(f64, f64)> = self.each.iter().flatten().map(point).collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        points
    }

    pub fn second(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.began).as_secs_f64()
    }

    pub fn second_of(&self, moment: Timestamp) -> f64 {
        moment.duration_since(self.date).as_secs_f64()
    }
}

async fn write(config: Config, number: u64, accounts: u64, stop: Arc<AtomicBool>) -> Res<Vec<Write>> {
    let client = connect(&config).await?;
    let (mut writes, mut account) = (Vec::new(), number);
    while !stop.load(Ordering::Relaxed) {
        // All over the table, and never the same one as another client.
        account = (account + CLIENTS as u64 * 7_919) % accounts;
        let sql = format!("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = {}", account + 1);
        let began = Instant::now();
        client.batch_execute(&sql).await?;
        writes.push(Write { began, took: began.elapsed() });
        tokio::time::sleep(THINKS).await;
    }
    Ok(writes)
}
