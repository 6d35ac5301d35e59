//! On which servers a loop has ended the sessions of those who ran it before, by epoch. Once is enough: whoever comes back
//! later under an epoch that is over reads that before he does anything (rule 8). A loop that goes from database to database
//! would look through all sessions of the server for each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use super::store::ServerRow;

/// By server, its connection string, and loop: the epoch.
type Epochs = HashMap<(String, Uuid, String), i64>;

#[derive(Clone, Default)]
pub struct Fenced {
    epochs: Arc<Mutex<Epochs>>,
}

impl Fenced {
    pub fn has(&self, server: &ServerRow, name: &str, epoch: i64) -> bool {
        let epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        epochs.get(&key(server, name)) == Some(&epoch)
    }

    pub fn remember(&self, server: &ServerRow, name: &str, epoch: i64) {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner).insert(key(server, name), epoch);
    }
}

/// A server that is added again under its name is another one.
fn key(server: &ServerRow, name: &str) -> (String, Uuid, String) {
    (server.id.clone(), server.dsn_seal_id, name.to_owned())
}
