//! Looks at ways back while nobody needs them: the server that a tenant moved to keeps its log for the side that was left,
//! and may give that up when the side does not follow. Then it is said now, and not when somebody wants to go back.

use std::collections::BTreeMap;
use std::time::Duration;

use freehold_drivers::server::sql::moving::Link;
use freehold_durable::{Failure, LoopCx};
use serde_json::json;

use super::store::{self, Following};
use crate::audit::record::{Actor, Event};
use crate::plane::Core;
use crate::server::hands;

const STATEMENT: Duration = Duration::from_secs(5);

pub async fn watch(core: &Core, cx: &LoopCx, actor: &Actor) -> Result<(), Failure> {
    let mut servers: BTreeMap<String, Vec<Following>> = BTreeMap::new();
    for kept in store::following(&core.store).await? {
        servers.entry(kept.to_server.clone()).or_default().push(kept);
    }
    for (server, kept) in servers {
        cx.still_mine().await?;
        // A server that is away keeps what it has, and is health's to report.
        if let Err(failure) = look(core, cx, actor, &server, &kept).await {
            tracing::debug!(server, why = failure.message, "nobody saw whether it keeps what is to follow");
        }
    }
    Ok(())
}

async fn look(core: &Core, cx: &LoopCx, actor: &Actor, server: &str, kept: &[Following]) -> Result<(), Failure> {
    let row = hands::server(core, server).await?;
    let admin = hands::reader(core, cx, &row, STATEMENT).await?;
    let slots = admin.slots_kept().await.map_err(hands::failure)?;
    admin.close().await;
    for of in kept {
        let Ok(link) = Link::back(&of.id.simple().to_string()) else { continue };
        if slots.iter().any(|slot| slot == link.name()) {
            continue;
        }
        let mut tx = core.store.begin().await?;
        if store::ends_following(&mut tx, of.id).await? {
            tracing::error!(tenant = of.tenant_id, server, "it gave up what its former side had not got: no way back");
            let event = Event::done(actor, "tenant.move.way_back_lost", format!("tenant:{}", of.tenant_id));
            event.with(json!({"server": server})).save(&mut *tx).await?;
            tx.commit().await?;
        }
    }
    Ok(())
}
