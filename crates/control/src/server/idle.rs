//! Admin sessions that were just done with, for whoever comes next within a moment: while many databases are made one
//! after the other, a process of PostgreSQL for each would cost as much as a good part of the making.
//!
//! Only sessions that nothing was set in and nothing failed in are kept, and only for a second: a server that is being
//! stopped, replaced or given another password is not held up by them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use freehold_drivers::server::sql::Admin;
use tokio::time::Instant;
use uuid::Uuid;

use super::store::ServerRow;

const KEPT: Duration = Duration::from_secs(1);

/// By server and connection string: another one is sealed under another id.
type Idle = HashMap<(String, Uuid), Vec<(Instant, Admin)>>;

#[derive(Clone, Default)]
pub struct IdleSessions {
    idle: Arc<Mutex<Idle>>,
}

impl IdleSessions {
    /// The one that was used last.
    pub fn take(&self, server: &ServerRow) -> Option<Admin> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let of_server = idle.get_mut(&key(server))?;
        while let Some((since, admin)) = of_server.pop() {
            if since.elapsed() < KEPT && !admin.is_closed() {
                return Some(admin);
            }
        }
        None
    }

    /// For a moment: it hangs up by itself.
    pub fn keep(&self, server: &ServerRow, admin: Admin) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.entry(key(server)).or_default().push((Instant::now(), admin));
        drop(idle);
        let sessions = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            sessions.forget_old();
        });
    }

    fn forget_old(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, of_server| {
            of_server.retain(|(since, _)| since.elapsed() < KEPT);
            !of_server.is_empty()
        });
    }
}

fn key(server: &ServerRow) -> (String, Uuid) {
    (server.id.clone(), server.dsn_seal_id)
}
