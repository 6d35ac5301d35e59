//! The side of a move that does not serve, while its tenant is suspended: nobody logs in there either. The suspension refuses
//! that where the server answers by then, and every step of a move at its end; this finds what neither came to.

use std::collections::HashSet;

use freehold_drivers::server::sql::{Admin, Observed};
use freehold_durable::{Failure, LoopCx};
use serde_json::json;

use super::store;
use crate::audit::record::{Actor, Event};
use crate::plane::Core;
use crate::server::hands;
use crate::server::store::ServerRow;

pub async fn refuse(
    core: &Core,
    cx: &LoopCx,
    server: &ServerRow,
    admin: &Admin,
    observed: &Observed,
) -> Result<(), Failure> {
    let first = found(core, server, observed).await?;
    if first.is_empty() {
        return Ok(());
    }
    // Asked twice on both sides: a step of a move may have been at work.
    let logins: Vec<&str> = first.iter().flat_map(|(_, logins)| logins).map(String::as_str).collect();
    let again = admin.observe(&logins, &[]).await.map_err(hands::failure)?;
    for (tenant, admitted) in found(core, server, &again).await? {
        let admitted: Vec<&str> = admitted.iter().map(String::as_str).collect();
        cx.still_mine().await?;
        tracing::warn!(server = server.id, tenant, ?admitted, "drift: admitted where its former side is kept");
        if let Err(error) = admin.refuse_logins(&admitted).await {
            if admin.is_closed() {
                return Err(hands::failure(error));
            }
            tracing::warn!(server = server.id, tenant, %error, "not repaired; tried again later");
            continue;
        }
        metrics::counter!("freehold_drift_total", "server" => server.id.clone()).increment(1);
        let event = Event::done(&Actor::of_loop("truth"), "truth.repair", format!("tenant:{tenant}"));
        event.with(json!({"drift": ["admitted_where_kept"]})).save(&core.store).await?;
    }
    Ok(())
}

/// Tenants, and who of each may log in.
async fn found(core: &Core, server: &ServerRow, observed: &Observed) -> Result<Vec<(String, Vec<String>)>, Failure> {
    let seen: HashSet<&str> =
        observed.roles.iter().filter(|role| role.can_login).map(|role| role.name.as_str()).collect();
    let mut found = store::refused_where_kept(&core.store, &server.id).await?;
    for (_, logins) in &mut found {
        logins.retain(|login| seen.contains(login.as_str()));
    }
    found.retain(|(_, logins)| !logins.is_empty());
    Ok(found)
}
