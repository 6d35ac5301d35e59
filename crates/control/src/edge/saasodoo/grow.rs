//! Provision-pool: one more server of a declared server pool. At most one is being made for each; asking again answers it.

use axum::Extension;
use axum::extract::State;
use freehold_api::problem::Code;
use freehold_api::server::ServerKind;
use serde::{Deserialize, Serialize};

use super::{At, pools};
use crate::http::access::Caller;
use crate::http::extract::Json;
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};
use crate::server_pool::grow;
use crate::settings::ServerPool;

#[derive(Deserialize)]
pub struct Wanted {
    /// The pool's own where it is absent: 50, unless its settings or DB_POOL_MAX_INSTANCES say otherwise.
    #[serde(default)]
    max_instances: Option<u32>,
    #[serde(default)]
    server_type: Option<String>,
}

#[derive(Serialize)]
pub struct Growing {
    task_id: String,
    message: String,
    max_instances: u32,
}

pub async fn provision_pool(
    State(at): State<At>,
    Extension(caller): Extension<Caller>,
    Json(wanted): Json<Wanted>,
) -> Answer<Json<Growing>> {
    let mut refusal = None;
    for pool in matching(&at.plane, &wanted)? {
        match grow::begin(&at.plane, &caller.actor(), &pool.name).await {
            Ok(operation) => {
                let server = operation.subject.as_deref().and_then(|subject| subject.strip_prefix("server:"));
                let message = format!(
                    "server {} of server pool {} is being made; GET /v1/operations/{} tells how far it is",
                    server.unwrap_or("(unnamed)"),
                    pool.name,
                    operation.id
                );
                let max_instances = pool.slots();
                return Ok(Json(Growing { task_id: operation.id.to_string(), message, max_instances }));
            }
            // It has all that it may have: another may have room for one more.
            Err(refused) if matches!(refused.code(), Code::WrongState | Code::NoRoom) => {
                refusal.get_or_insert(refused);
            }
            Err(refused) => return Err(refused),
        }
    }
    Err(refusal.unwrap_or_else(|| Refused::new(Code::NoRoom, "no server pool can have one more server")))
}

/// Lower priority first, then by name; never empty.
fn matching<'a>(plane: &'a Plane, wanted: &Wanted) -> Answer<Vec<&'a ServerPool>> {
    let kind = wanted.server_type.as_deref().unwrap_or("shared");
    if !["shared", "dedicated"].contains(&kind) {
        let detail =
            format!("server_type {} cannot be made here; use shared or dedicated", freehold_api::id::shown(kind));
        return Err(Refused::new(Code::BadRequest, detail));
    }
    let of_kind = |pool: &&ServerPool| pools::server_type(pool.kind) == kind;
    let mut found: Vec<&ServerPool> = plane.settings.server_pools.iter().filter(of_kind).collect();
    if found.is_empty() {
        let detail = format!(
            "no server pool is declared that makes {kind} servers; write a [[server_pool]] with kind = \"{kind}\" into the settings, with its platform and postgres"
        );
        return Err(Refused::new(Code::Prerequisite, detail));
    }
    let has: Vec<String> = found.iter().map(|pool| format!("{}: {}", pool.name, pool.slots())).collect();
    // A dedicated server has one instance whatever is asked.
    if let Some(slots) = wanted.max_instances.filter(|_| kind != pools::server_type(ServerKind::Dedicated)) {
        found.retain(|pool| pool.slots() == slots);
    }
    if found.is_empty() {
        let message = format!(
            "no {kind} server pool has servers of this size (there are: {}); leave it out, or set capacity in [[server_pool]]",
            has.join(", ")
        );
        return Err(Refused::field("max_instances", message));
    }
    found.sort_by_key(|pool| (pool.priority, pool.name.as_str()));
    Ok(found)
}
