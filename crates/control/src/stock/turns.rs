//! Who copies a template when. Absent: what is copied.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Turns at copying a template, per server: more at once are not faster, and each makes the others' commits wait.
#[derive(Clone)]
pub struct Turns {
    at_once: usize,
    servers: Arc<Mutex<HashMap<String, Arc<Queue>>>>,
}

struct Queue {
    turns: Arc<Semaphore>,
    /// Nobody waits for stock: of all that is to be copied for it, only the first stands in the queue. A tenant has one
    /// of it before him at most.
    stock: Semaphore,
}

impl Turns {
    pub fn new(at_once: u32) -> Self {
        Self { at_once: at_once.max(1) as usize, servers: Arc::default() }
    }

    pub async fn take(&self, server: &str, for_tenant: bool) -> Option<OwnedSemaphorePermit> {
        let queue = {
            let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(Queue { turns: Arc::new(Semaphore::new(self.at_once)), stock: Semaphore::new(1) });
            servers.entry(server.to_owned()).or_insert_with(new).clone()
        };
        let _first = if for_tenant { None } else { Some(queue.stock.acquire().await.ok()?) };
        queue.turns.clone().acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn turns_are_as_many_as_said_and_a_tenant_waits_for_one_of_stock_at_most() {
        let turns = Turns::new(2);
        let held = [turns.take("one", false).await, turns.take("one", true).await];
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for who in ["stock", "stock", "stock", "tenant", "tenant"] {
            let (turns, order) = (turns.clone(), order.clone());
            waiting.push(tokio::spawn(async move {
                let _turn = turns.take("one", who == "tenant").await;
                order.lock().unwrap().push(who);
                yield_now().await;
            }));
            yield_now().await;
        }
        assert_eq!(*order.lock().unwrap(), [""; 0]);
        // Another server has turns of its own.
        assert!(turns.take("two", false).await.is_some());
        drop(held);
        for waits in waiting {
            waits.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), ["stock", "tenant", "tenant", "stock", "stock"]);
    }
}
