//! All SQL about health.

use std::collections::BTreeMap;

use freehold_durable::Failure;
use serde_json::json;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};

use super::judge::{Found, Standing};
use super::look::{Look, Seen};
use super::visitor::Visitor;
use crate::audit::record::Event;
use crate::plane::Core;
use crate::server::hands::Holder;
use crate::server::store::ServerRow;

/// Servers to look at: all but those that are no servers yet, or none any more.
pub async fn watched(store: &PgPool) -> sqlx::Result<Vec<ServerRow>> {
    let sql = "SELECT * FROM server WHERE state NOT IN ('removed', 'provisioning')
        AND (state <> 'failed' OR state_before IS NOT NULL) ORDER BY id";
    sqlx::query_as(sql).fetch_all(store).await
}

pub async fn visitors(store: &PgPool) -> sqlx::Result<BTreeMap<String, Visitor>> {
    let rows: Vec<Visitor> = sqlx::query_as("SELECT * FROM visitor").fetch_all(store).await?;
    Ok(rows.into_iter().map(|visitor| (visitor.server_id.clone(), visitor)).collect())
}

pub async fn visitor(store: &PgPool, server: &str) -> sqlx::Result<Option<Visitor>> {
    sqlx::query_as("SELECT * FROM visitor WHERE server_id = $1").bind(server).fetch_optional(store).await
}

pub async fn declare_visitor(store: &PgPool, visitor: &Visitor) -> sqlx::Result<()> {
    let sql = "INSERT INTO visitor (server_id, id, role, password, verifier)
        SELECT s.id, $2, $3, $4, $5 FROM server s WHERE s.id = $1 AND s.state NOT IN ('draining', 'removed')
        ON CONFLICT (server_id) DO NOTHING";
    sqlx::query(sql)
        .bind(&visitor.server_id)
        .bind(visitor.id)
        .bind(&visitor.role)
        .bind(&visitor.password)
        .bind(&visitor.verifier)
        .execute(store)
        .await?;
    Ok(())
}

/// Whether it is on its way out, or gone.
pub async fn is_leaving(store: &PgPool, server: &str) -> sqlx::Result<bool> {
    let sql = "SELECT NOT EXISTS (SELECT FROM server WHERE id = $1 AND state NOT IN ('draining', 'removed'))";
    sqlx::query_scalar(sql).bind(server).fetch_one(store).await
}

/// From which state to which.
pub struct Change {
    pub to: String,
}

/// What a look found, and what that makes of the server; None where its state stays. A look at a connection string that
/// was replaced meanwhile says nothing.
pub async fn record(
    core: &Core,
    holder: &impl Holder,
    server: &ServerRow,
    look: &Look,
) -> Result<Option<Change>, Failure> {
    let mut tx = core.store.begin().await?;
    let sql = "SELECT state, state_before, health_failures FROM server
        WHERE id = $1 AND dsn_seal_id = $2 AND dsn_version = $3 AND state NOT IN ('removed', 'provisioning') FOR NO KEY UPDATE";
    let was: Option<(String, Option<String>, i32)> = sqlx::query_as(sql)
        .bind(&server.id)
        .bind(server.dsn_seal_id)
        .bind(server.dsn_version)
        .fetch_optional(&mut *tx)
        .await?;
    let Some((state, state_before, failures)) = was else { return Ok(None) };
    let was = Standing { state, state_before, failures };
    let found = match &look.sick {
        None => Found::Well,
        Some(sick) if sick.wrong => Found::Wrong,
        Some(_) => Found::Failed,
    };
    let is = was.after(found);
    let (code, message) = look.sick.as_ref().map(|sick| (sick.code.as_str(), sick.message.as_str())).unzip();
    let sql = "UPDATE server SET checked_at = now(), health = $2, health_failures = $3, health_code = $4, health_message = $5,
            state = $6, state_before = $7, health_findings = $8 WHERE id = $1";
    sqlx::query(sql)
        .bind(&server.id)
        .bind(is.health())
        .bind(is.failures)
        .bind(code)
        .bind(message)
        .bind(&is.state)
        .bind(&is.state_before)
        .bind(Json(&look.findings))
        .execute(&mut *tx)
        .await?;
    if let Some(seen) = &look.seen {
        record_seen(&mut tx, &server.id, seen).await?;
    }
    let changed = is.state != was.state;
    if changed {
        let actor = holder.actor();
        let subject = format!("server:{}", server.id);
        let event = match code {
            Some(code) => Event::failed(&actor, "server.fail", subject, code),
            None => Event::done(&actor, "server.recover", subject),
        };
        event.with(json!({"from": was.state, "to": is.state, "message": message})).save(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(changed.then_some(Change { to: is.state }))
}

async fn record_seen(tx: &mut PgConnection, id: &str, seen: &Seen) -> sqlx::Result<()> {
    let vitals = &seen.vitals;
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let sql = "UPDATE server SET observed_at = now(), connections = $2, connections_max = $3, databases = $4,
            oldest_transaction_seconds = $5, xid_age = $6, replication_lag_bytes = $7, data_free_bytes = $8, data_total_bytes = $9
        WHERE id = $1";
    sqlx::query(sql)
        .bind(id)
        .bind(vitals.connections)
        .bind(vitals.connections_max)
        .bind(vitals.databases)
        .bind(vitals.oldest_transaction_seconds)
        .bind(vitals.xid_age.max(vitals.mxid_age))
        .bind(vitals.replication_lag_bytes)
        .bind(seen.disk.map(|disk| bytes(disk.free_bytes)))
        .bind(seen.disk.map(|disk| bytes(disk.total_bytes)))
        .execute(tx)
        .await?;
    Ok(())
}
