//! The server that `freehold dev` runs itself: registered, and kept in step with where it listens now.

use std::time::Duration;

use freehold_api::id::ServerId;
use freehold_api::server::AddServer;
use uuid::Uuid;

use super::add::Added;
use super::{add, hands, store};
use crate::audit::record::Actor;
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};

/// The first look at it takes a fraction of this.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns once tenants can be put on it: whoever is told that `dev` is ready may create one.
pub async fn ensure(plane: &Plane, name: &str, dsn: String, host: &str, port: u16, capacity: u32) -> Answer<()> {
    let id: ServerId = name.parse().map_err(|error| Refused::field("id", format!("{error}")))?;
    if store::find(&plane.store, name).await?.is_some_and(|row| row.state != "failed") {
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
