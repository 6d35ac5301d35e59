//! The pooler that `freehold dev` runs itself: registered, and kept in step with where it listens now.

use freehold_api::id::PoolerId;
use freehold_api::pooler::AddPooler;

use super::{add, store};
use crate::audit::record::Actor;
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};

/// May be called at every start.
pub async fn ensure(plane: &Plane, name: &str, host: &str, port: u16, sslmode: &str) -> Answer<()> {
    let id: PoolerId = name.parse().map_err(|error| Refused::field("id", format!("{error}")))?;
    if store::find(&plane.store, name).await?.is_some() {
        return Ok(store::relocate(&plane.store, name, host, port, sslmode).await?);
    }
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let sslmode = Some(sslmode.to_owned());
    let body = AddPooler {
        id,
        kind: None,
        address: Some(address),
        platform: None,
        sslmode,
        ca_certificate: None,
        capacity: None,
        external: None,
    };
    add::ensure(plane, &Actor::system(), &body).await.map(drop)
}
