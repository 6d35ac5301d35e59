//! A tenant at work while its servers change, and what it was told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freehold_testkit::{Told, as_tenant};
use serde_json::{Value as Json, json};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::rig::Rig;
use crate::serving::{Serve, until};

/// Writes one row after another on whichever side lets it in.
pub struct Writer {
    stop: Arc<AtomicBool>,
    told: Arc<Mutex<Told>>,
    task: JoinHandle<()>,
}

impl Writer {
    /// A table without a key: what came twice would be there twice.
    pub async fn start(rig: &Rig, serve: &Serve, id: &str) -> Self {
        let connection = connection(serve, id).await;
        let client = as_tenant(&connection).await.expect("the tenant logs in");
        client.batch_execute("CREATE TABLE ledger (id bigint)").await.expect("make a table");
        let mut other = connection.clone();
        other["direct"]["port"] = json!(rig.second.as_ref().expect("two servers").port());
        let (stop, told) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Told>>::default());
        let task = tokio::spawn(write([connection, other], stop.clone(), told.clone()));
        Self { stop, told, task }
    }

    pub async fn more(&self) {
        let before = self.told.lock().unwrap().committed.len();
        until("the tenant gets on", async || self.told.lock().unwrap().committed.len() > before + 20).await;
    }

    /// What was acknowledged is there, once, and nothing is that was never asked for.
    pub async fn end(self, serve: &Serve, id: &str) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the writer ends");
        let client = as_tenant(&connection(serve, id).await).await.expect("the tenant logs in");
        let rows = client.query("SELECT id FROM ledger", &[]).await.expect("read what was written");
        let there: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        let told = self.told.lock().unwrap().clone();
        told.compare("ledger", &there).unwrap_or_else(|wrong| panic!("{wrong}\n{}", serve.output()));
    }
}

async fn write(sides: [Json; 2], stop: Arc<AtomicBool>, told: Arc<Mutex<Told>>) {
    let (mut id, mut session): (i64, Option<Client>) = (0, None);
    while !stop.load(Ordering::Relaxed) {
        let Some(client) = &session else {
            for side in &sides {
                if let Ok(client) = as_tenant(side).await {
                    session = Some(client);
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        id += 1;
        match client.batch_execute(&format!("INSERT INTO ledger VALUES ({id})")).await {
            Ok(()) => drop(told.lock().unwrap().committed.insert(id)),
            Err(_) => {
                told.lock().unwrap().unknown.insert(id);
                session = None;
            }
        }
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}

pub async fn connection(serve: &Serve, id: &str) -> Json {
    let (status, connection) = serve.get(&format!("/v1/tenants/{id}/connection")).await;
    assert_eq!(status, 200, "{connection}");
    connection
}
