//! The server that `freehold dev` runs itself: registered, and kept in step with where it listens now.

use freehold_api::id::ServerId;
use freehold_api::server::AddServer;
use uuid::Uuid;

use super::{add, hands, store};
use crate::audit::record::Actor;
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};

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
    add::start(plane, &Actor::system(), &body).await?;
    Ok(())
}
