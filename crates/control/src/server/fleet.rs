//! The fleet as placement sees it: a snapshot a few seconds old. It orders servers; only the lock on a server's
//! row gives a slot away.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::store::{self, ServerWithUse};

const FRESH: Duration = Duration::from_secs(3);

type Snapshot = Option<(Instant, Arc<Vec<ServerWithUse>>)>;

#[derive(Clone, Default)]
pub struct Fleet {
    snapshot: Arc<Mutex<Snapshot>>,
}

impl Fleet {
    pub async fn servers(&self, store: &PgPool) -> sqlx::Result<Arc<Vec<ServerWithUse>>> {
        let mut snapshot = self.snapshot.lock().await;
        if let Some((taken, servers)) = snapshot.as_ref()
            && taken.elapsed() < FRESH
        {
            return Ok(servers.clone());
        }
        let servers = Arc::new(store::all_with_use(store).await?);
        *snapshot = Some((Instant::now(), servers.clone()));
        Ok(servers)
    }

    /// The next reader looks again.
    pub async fn forget(&self) {
        *self.snapshot.lock().await = None;
    }
}
