//! Who copies a template when. Absent: what is copied.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Turns at copying a template, per server: more at once are not faster, and each makes the others' commits wait.
#[derive(Clone)]
pub struct Turns {
    at_once: usize,
    servers: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

impl Turns {
    pub fn new(at_once: u32) -> Self {
        Self { at_once: at_once.max(1) as usize, servers: Arc::default() }
    }

    /// A tenant that waits does not queue behind stock, which nobody waits for.
    pub async fn take(&self, server: &str, for_tenant: bool) -> Option<OwnedSemaphorePermit> {
        let queue = format!("{server}/{}", if for_tenant { "tenant" } else { "stock" });
        let turns = {
            let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            servers.entry(queue).or_insert_with(|| Arc::new(Semaphore::new(self.at_once))).clone()
        };
        turns.acquire_owned().await.ok()
    }
}
