//! Servers, in SaaSOdoo's words: listed, shown, counted, and looked at now.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use freehold_api::id::ServerId;
use freehold_api::problem::Code;
use freehold_api::server::{Server, ServerKind, ServerState};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use super::{At, first_host};
use crate::http::access::Caller;
use crate::http::extract::{Id, Json, Query};
use crate::http::problem::Refused;
use crate::plane::Answer;
use crate::server::check as look;
use crate::server::store::{self as servers, ServerWithUse};

const STATUSES: [&str; 7] =
    ["provisioning", "initializing", "active", "full", "maintenance", "error", "deprovisioning"];
const TYPES: [&str; 3] = ["platform", "shared", "dedicated"];

#[derive(Serialize)]
pub struct Pool {
    id: String,
    name: String,
    server_type: &'static str,
    status: &'static str,
    health_status: &'static str,
    current_instances: u32,
    max_instances: u32,
    capacity_percentage: f64,
    host: String,
    port: u16,
    postgres_version: String,
    cpu_limit: Option<String>,
    memory_limit: Option<String>,
    created_at: Timestamp,
    last_health_check: Option<Timestamp>,
}

#[derive(Deserialize)]
pub struct Wanted {
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    server_type: Option<String>,
}

#[derive(Serialize)]
pub struct Pools {
    total_count: usize,
    pools: Vec<Pool>,
}

pub async fn list(State(at): State<At>, Query(wanted): Query<Wanted>) -> Answer<Json<Pools>> {
    one_of("status", wanted.status.as_deref(), &STATUSES)?;
    one_of("server_type", wanted.server_type.as_deref(), &TYPES)?;
    let mut pools = all(&at.plane.store).await?;
    pools.retain(|pool| {
        wanted.status.as_deref().is_none_or(|status| status == pool.status)
            && wanted.server_type.as_deref().is_none_or(|kind| kind == pool.server_type)
    });
    pools.sort_by_key(|pool| std::cmp::Reverse(pool.created_at));
    Ok(Json(Pools { total_count: pools.len(), pools }))
}

#[derive(Serialize)]
pub struct Detail {
    pool: Pool,
    swarm_service_id: Option<String>,
    swarm_service_name: Option<String>,
    storage_path: Option<String>,
    allocated_storage_gb: Option<u64>,
    provisioned_at: Option<Timestamp>,
    last_allocated_at: Option<Timestamp>,
}

pub async fn show(State(at): State<At>, Id(id): Id<ServerId>) -> Answer<Json<Detail>> {
    let store = &at.plane.store;
    let found = servers::find_with_use(store, id.as_str()).await?;
    let found = found.filter(|found| found.row.state != "removed").ok_or_else(|| {
        Refused::new(Code::NotFound, format!("there is no pool {id}; GET /api/database/admin/pools lists them"))
    })?;
    let definition = found.row.definition.as_ref().map(|definition| &definition.0);
    let storage = definition.and_then(|definition| definition.storage.as_ref());
    Ok(Json(Detail {
        // Freehold finds a service by its name and keeps no id of it.
        swarm_service_id: None,
        swarm_service_name: (found.row.platform.as_deref() == Some("docker")).then(|| id.to_string()),
        storage_path: storage.map(|directory| directory.path.display().to_string()),
        allocated_storage_gb: definition.and_then(|definition| definition.disk_bytes).map(|bytes| bytes >> 30),
        provisioned_at: found.row.provisioned_at.map(jiff_sqlx::Timestamp::to_jiff),
        last_allocated_at: last_allocated(store, id.as_str()).await?,
        pool: Pool::from(Server::from(found)),
    }))
}

#[derive(Serialize)]
pub struct Stats {
    total_pools: usize,
    active_pools: usize,
    total_capacity: u64,
    total_used: u64,
    overall_utilization: f64,
    by_status: BTreeMap<&'static str, u32>,
    by_type: BTreeMap<&'static str, u32>,
}

pub async fn stats(State(at): State<At>) -> Answer<Json<Stats>> {
    let pools = all(&at.plane.store).await?;
    // No instance is ever put on a platform server.
    let takes = || pools.iter().filter(|pool| pool.server_type != "platform");
    let total_capacity = takes().map(|pool| u64::from(pool.max_instances)).sum();
    let total_used = takes().map(|pool| u64::from(pool.current_instances)).sum();
    let count = |word: fn(&Pool) -> &'static str| {
        pools.iter().fold(BTreeMap::new(), |mut counts, pool| {
            *counts.entry(word(pool)).or_default() += 1;
            counts
        })
    };
    Ok(Json(Stats {
        total_pools: pools.len(),
        active_pools: pools.iter().filter(|pool| pool.status == "active").count(),
        total_capacity,
        total_used,
        overall_utilization: percent(total_used, total_capacity),
        by_status: count(|pool| pool.status),
        by_type: count(|pool| pool.server_type),
    }))
}

#[derive(Serialize)]
pub struct Checked {
    pool_id: String,
    status: &'static str,
    health_status: &'static str,
    message: String,
    checked_at: Option<Timestamp>,
}

pub async fn check(
    State(at): State<At>,
    Extension(caller): Extension<Caller>,
    Id(id): Id<ServerId>,
) -> Answer<Json<Checked>> {
    let Json(server) = look::check(State(at.plane), caller, Id(id)).await?;
    let message = server.health_message.clone().unwrap_or_else(|| "it answers as tenants and as the admin come".into());
    let pool = Pool::from(server);
    Ok(Json(Checked {
        pool_id: pool.id,
        status: pool.status,
        health_status: pool.health_status,
        message,
        checked_at: pool.last_health_check,
    }))
}

async fn all(store: &PgPool) -> Answer<Vec<Pool>> {
    let rows: Vec<ServerWithUse> = servers::page(store, None, None, i64::MAX).await?;
    Ok(rows.into_iter().map(|found| Pool::from(Server::from(found))).collect())
}

async fn last_allocated(store: &PgPool, server: &str) -> Answer<Option<Timestamp>> {
    let sql = "SELECT max(claimed_at) FROM tenant_database WHERE server_id = $1 AND tenant_id IS NOT NULL";
    let at: Option<jiff_sqlx::Timestamp> = sqlx::query_scalar(sql).bind(server).fetch_one(store).await?;
    Ok(at.map(jiff_sqlx::Timestamp::to_jiff))
}

impl From<Server> for Pool {
    fn from(server: Server) -> Self {
        let limits = server.limits.unwrap_or_default();
        Self {
            id: server.id.to_string(),
            server_type: server_type(server.kind),
            status: status(server.state, server.has_room),
            health_status: server.health.as_str(),
            current_instances: server.tenants,
            max_instances: server.capacity,
            capacity_percentage: percent(server.tenants.into(), server.capacity.into()),
            postgres_version: server.postgres_version.unwrap_or_default(),
            cpu_limit: limits.cpus.map(|cpus| cpus.to_string()),
            memory_limit: limits.memory_bytes.map(memory),
            created_at: server.created_at,
            last_health_check: server.checked_at,
            host: first_host(&server.host),
            port: server.port,
            name: server.id.into(),
        }
    }
}

pub fn server_type(kind: ServerKind) -> &'static str {
    match kind {
        ServerKind::Shared => "shared",
        ServerKind::Dedicated => "dedicated",
        ServerKind::System => "platform",
    }
}

fn status(state: ServerState, has_room: bool) -> &'static str {
    match state {
        ServerState::Provisioning => "provisioning",
        ServerState::Active if has_room => "active",
        ServerState::Active => "full",
        ServerState::Cordoned | ServerState::Maintenance => "maintenance",
        ServerState::Draining | ServerState::Removed => "deprovisioning",
        ServerState::Failed => "error",
    }
}

fn percent(used: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { (used as f64 / of as f64 * 10_000.0).round() / 100.0 }
}

/// As Docker writes it: `4G`.
fn memory(bytes: u64) -> String {
    let units = [("G", 1u64 << 30), ("M", 1 << 20), ("K", 1 << 10)];
    let fits = units.into_iter().find(|(_, size)| bytes > 0 && bytes.is_multiple_of(*size));
    fits.map_or_else(|| bytes.to_string(), |(unit, size)| format!("{}{unit}", bytes / size))
}

fn one_of(field: &str, given: Option<&str>, known: &[&str]) -> Answer<()> {
    match given {
        Some(given) if !known.contains(&given) => {
            let shown = freehold_api::id::shown(given);
            Err(Refused::field(field, format!("{shown} is none of {}", known.join(", "))))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_a_server_has_its_word() {
        for (state, has_room, word) in [
            (ServerState::Provisioning, false, "provisioning"),
            (ServerState::Active, true, "active"),
            (ServerState::Active, false, "full"),
            (ServerState::Cordoned, false, "maintenance"),
            (ServerState::Maintenance, false, "maintenance"),
            (ServerState::Draining, false, "deprovisioning"),
            (ServerState::Failed, false, "error"),
        ] {
            assert_eq!(status(state, has_room), word);
            assert!(STATUSES.contains(&word));
        }
    }

    #[test]
    fn percentages_and_sizes_are_written_as_the_original_does() {
        assert_eq!((percent(1, 3), percent(0, 0), percent(50, 50)), (33.33, 0.0, 100.0));
        let sizes = [4 << 30, 1536 << 20, 10 << 10, 1001].map(memory);
        assert_eq!(sizes, ["4G", "1536M", "10K", "1001"]);
    }
}
