//! The servers that `freehold dev` runs itself: registered, and kept in step with where they listen now.

use std::collections::BTreeSet;
use std::time::Duration;

use freehold_api::id::ServerId;
use freehold_api::server::AddServer;
use uuid::Uuid;

use super::add::Added;
use super::{add, hands, store};
use crate::audit::record::{Actor, Event};
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};

/// The first look at it takes a fraction of this.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns once tenants can be put on it: whoever is told that `dev` is ready may create one.
pub async fn ensure(plane: &Plane, name: &str, dsn: String, host: &str, port: u16, capacity: u32) -> Answer<()> {
    let id: ServerId = name.parse().map_err(|error| Refused::field("id", format!("{error}")))?;
    // One that health made failed comes back by itself.
    if store::find(&plane.store, name).await?.is_some_and(|row| row.state != "failed" || row.state_before.is_some()) {
        let seal_id = Uuid::now_v7();
        let sealed = plane.sealer.seal(&hands::dsn_context(seal_id, 1), dsn.as_bytes());
        return Ok(store::relocate(&plane.store, name, &dsn, &sealed, seal_id, host, port, capacity).await?);
    }
    let body = AddServer {
        id,
        dsn,
        kind: None,
        capacity: Some(capacity),
        region: None,
        tenant_address: Some(format!("{host}:{port}")),
        ca_certificate: None,
    };
    if let Added::Started(operation) | Added::InFlight(operation) = add::start(plane, &Actor::system(), &body).await? {
        plane.engine.wait(operation.0, PATIENCE).await?;
        plane.fleet.forget().await;
    }
    Ok(())
}

/// What is not started is in nobody's way: no tenant and no stock is put there, and its silence is no trouble.
pub async fn park(plane: &Plane, name: &str) -> Answer<()> {
    let why = "freehold dev has not started it, because no tenant lives there";
    move_to(plane, name, "active", "maintenance", Some(why)).await
}

/// It is started again.
pub async fn unpark(plane: &Plane, name: &str) -> Answer<()> {
    move_to(plane, name, "maintenance", "active", None).await
}

async fn move_to(plane: &Plane, name: &str, from: &str, to: &str, why: Option<&str>) -> Answer<()> {
    let mut tx = plane.store.begin().await?;
    if store::set_state(&mut tx, name, &[from], to, why).await? {
        Event::done(&Actor::system(), &format!("server.{to}"), format!("server:{name}")).save(&mut *tx).await?;
        tx.commit().await?;
        plane.fleet.forget().await;
        plane.engine.wake("stock");
    }
    Ok(())
}

/// Servers with somebody's database on them, whatever state it is in.
pub async fn with_tenants(plane: &Plane) -> Answer<BTreeSet<String>> {
    Ok(store::with_tenants(&plane.store).await?.into_iter().collect())
}
