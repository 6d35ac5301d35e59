//! The fleet as placement sees it: a snapshot a few seconds old. It orders servers; only the lock on a server's
//! row gives a slot away.
//!
//! Rows are compared by their version and read where it changed. Databases are counted more rarely, and only for whoever
//! asks for counts: that reads a row for each of them. What this process places in between it adds itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::store::{self, ServerRow, ServerWithUse};

const ROWS: Duration = Duration::from_secs(3);
const COUNTS: Duration = Duration::from_secs(10);

#[derive(Clone, Default)]
pub struct Fleet {
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    servers: Arc<Vec<ServerWithUse>>,
    /// Of each row, which version it is.
    versions: HashMap<String, i64>,
    compared: Option<Instant>,
    counted: Option<Instant>,
}

impl Fleet {
    /// With counts: for placement.
    pub async fn servers(&self, store: &PgPool) -> sqlx::Result<Arc<Vec<ServerWithUse>>> {
        self.look(store, ROWS, Some(COUNTS)).await
    }

    /// The same for whoever was told that there is no room, and wants to be sure.
    pub async fn no_older_than(&self, store: &PgPool, age: Duration) -> sqlx::Result<Arc<Vec<ServerWithUse>>> {
        self.look(store, age, Some(age)).await
    }

    /// Whatever was counted last, at some time.
    pub async fn rows(&self, store: &PgPool) -> sqlx::Result<Arc<Vec<ServerWithUse>>> {
        self.look(store, ROWS, None).await
    }

    async fn look(
        &self,
        store: &PgPool,
        rows: Duration,
        counts: Option<Duration>,
    ) -> sqlx::Result<Arc<Vec<ServerWithUse>>> {
        let mut known = self.known.lock().await;
        let is_due = |at: Option<Instant>, age: Duration| at.is_none_or(|at| at.elapsed() >= age);
        if is_due(known.compared, rows) {
            known.compare(store).await?;
        }
        if counts.is_some_and(|age| is_due(known.counted, age)) {
            known.count(store).await?;
        }
        Ok(known.servers.clone())
    }

    /// A server's row, where it is known in just this version. The store is not asked.
    pub async fn known(&self, id: &str, version: i64) -> Option<Arc<ServerRow>> {
        let known = self.known.lock().await;
        if known.versions.get(id) != Some(&version) {
            return None;
        }
        let found = known.servers.binary_search_by(|known| known.row.id.as_str().cmp(id)).ok()?;
        Some(known.servers[found].row.clone())
    }

    /// One more tenant is there than was counted.
    pub async fn placed(&self, server: &str) {
        let known = self.known.lock().await;
        if let Ok(found) = known.servers.binary_search_by(|known| known.row.id.as_str().cmp(server)) {
            known.servers[found].placed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The next reader looks again.
    pub async fn forget(&self) {
        let mut known = self.known.lock().await;
        known.compared = None;
        known.counted = None;
    }
}

impl Known {
    async fn compare(&mut self, store: &PgPool) -> sqlx::Result<()> {
        let now = Instant::now();
        let versions: HashMap<String, i64> = store::versions(store).await?.into_iter().collect();
        if versions != self.versions {
            let changed = versions.iter().filter(|(id, version)| self.versions.get(*id) != Some(version));
            let changed: Vec<String> = changed.map(|(id, _)| id.clone()).collect();
            let mut read: HashMap<String, ServerRow> = HashMap::new();
            for row in store::rows(store, &changed).await? {
                read.insert(row.id.clone(), row);
            }
            let kept = self.servers.iter().filter(|server| versions.contains_key(&server.row.id));
            let mut servers: Vec<ServerWithUse> = kept
                .map(|server| match read.remove(&server.row.id) {
                    Some(row) => ServerWithUse { row: Arc::new(row), ..server.clone() },
                    None => server.clone(),
                })
                .collect();
            if !read.is_empty() {
                // Nothing is known of what is on them.
                self.counted = None;
            }
            servers.extend(read.into_values().map(ServerWithUse::uncounted));
            servers.sort_unstable_by(|a, b| a.row.id.cmp(&b.row.id));
            self.servers = Arc::new(servers);
            self.versions = versions;
        }
        self.compared = Some(now);
        Ok(())
    }

    async fn count(&mut self, store: &PgPool) -> sqlx::Result<()> {
        let now = Instant::now();
        let mut counts: HashMap<String, store::Counts> = HashMap::new();
        for count in store::counts(store).await? {
            counts.insert(count.server_id.clone(), count);
        }
        let counted = self.servers.iter().map(|server| {
            let of = |count: &store::Counts| (count.tenants, count.stock, count.moving, count.used);
            let (tenants, stock, moving, used) = counts.get(&server.row.id).map_or((0, 0, 0, 0), of);
            ServerWithUse { tenants, stock, moving, used, placed: Arc::default(), ..server.clone() }
        });
        self.servers = Arc::new(counted.collect());
        self.counted = Some(now);
        Ok(())
    }
}
