//! What no program could undercut on this cluster: one commit, one rename, one login.

use serde_json::Value;
use tokio_postgres::{Client, Statement};

use crate::Res;
use crate::bench::{Place, config, connect};
use crate::samples::{Samples, timed};

pub struct Floor {
    client: Client,
    insert: Statement,
    renamed: bool,
}

impl Floor {
    pub async fn start(place: &Place<'_>) -> Res<Self> {
        let admin = place.admin("postgres").await?;
        for sql in ["CREATE DATABASE bench_floor", "CREATE DATABASE bench_name_a", "CREATE ROLE bench_name_a LOGIN"] {
            admin.batch_execute(sql).await?;
        }
        let client = place.admin("bench_floor").await?;
        client.batch_execute("CREATE TABLE commits (id bigint GENERATED ALWAYS AS IDENTITY, word text)").await?;
        let insert = client.prepare("INSERT INTO commits (word) VALUES ($1)").await?;
        Ok(Self { client, insert, renamed: false })
    }

    pub async fn commit(&self, into: &mut Samples) -> Res<()> {
        timed(into, async { Ok(self.client.execute(&self.insert, &[&"one word"]).await?) }).await.map(drop)
    }

    /// There and back again, in turns.
    pub async fn rename(&mut self, into: &mut Samples) -> Res<()> {
        let (from, to) = if self.renamed { ("b", "a") } else { ("a", "b") };
        let sql = format!(
            "ALTER ROLE bench_name_{from} RENAME TO bench_name_{to}; ALTER DATABASE bench_name_{from} RENAME TO bench_name_{to}"
        );
        timed(into, async { Ok(self.client.batch_execute(&sql).await?) }).await?;
        self.renamed = !self.renamed;
        Ok(())
    }

    /// The login of a tenant that has logged in before.
    pub async fn connect(&self, into: &mut Samples, endpoint: &Value) -> Res<()> {
        let config = config(endpoint)?;
        timed(into, connect(&config)).await.map(drop)
    }
}
