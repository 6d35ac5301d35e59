//! The pooler that `freehold dev` runs itself: registered, and kept in step with where it listens now and who vouches for it.

use freehold_api::id::PoolerId;
use freehold_api::pooler::AddPooler;

use super::{add, store};
use crate::audit::record::Actor;
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};
use crate::server_pool::secrets::{self, Vouched};

/// Names it has on its own machine, by which clients may verify it.
const NAMES: [&str; 2] = ["127.0.0.1", "localhost"];
/// There is no network in between: a handshake at each connect would protect from nobody. Who wants one asks for it.
const SSLMODE: &str = "disable";

/// A new one at each start. What clients trust is the authority, which stays.
pub async fn certificate(plane: &Plane) -> Answer<Vouched> {
    let vouched = secrets::vouch(&plane.core, &NAMES).await;
    vouched.map_err(|failure| Refused::internal("make the pooler's certificate", &failure))
}

/// May be called at every start. `ca`: the authority, in PEM.
pub async fn ensure(plane: &Plane, name: &str, port: u16, ca: &str) -> Answer<()> {
    let host = NAMES[0];
    let id: PoolerId = name.parse().map_err(|error| Refused::field("id", format!("{error}")))?;
    if store::find(&plane.store, name).await?.is_some() {
        return Ok(store::relocate(&plane.store, name, host, port, SSLMODE, ca).await?);
    }
    let body = AddPooler {
        id,
        kind: None,
        address: Some(format!("{host}:{port}")),
        platform: None,
        sslmode: Some(SSLMODE.to_owned()),
        ca_certificate: Some(ca.to_owned()),
        capacity: None,
        external: None,
    };
    add::ensure(plane, &Actor::system(), &body).await.map(drop)
}
