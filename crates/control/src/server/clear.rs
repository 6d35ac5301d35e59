//! Takes away what Freehold made on a server for nobody: stock, built templates, the login that health comes in with.
//! What cannot be reached any more is left: nobody could take it away.

use freehold_durable::{Cx, Failure, Resolution};

use super::store::ServerRow;
use super::{forget, hands};
use crate::health::store as visitors;
use crate::plane::Core;
use crate::schema::{build, store as templates};
use crate::server_pool::store;
use crate::stock::make;
use crate::stock::making::Making;

/// What is being made there at the moment; None: nothing. On a server that does not answer nothing ends by itself, and
/// nothing will be made: that work is ended here.
pub async fn in_flight(core: &Core, cx: &Cx, server: &ServerRow) -> Result<Option<String>, Failure> {
    let found = store::in_flight(&core.store, &server.id).await?;
    let Some((_, kind)) = found.first() else { return Ok(None) };
    let message = format!("waiting for {} operations on server {} ({kind}, …)", found.len(), server.id);
    if !answers(server) {
        for (id, _) in &found {
            // Refused while somebody is at it; then it is tried again.
            let _ = cx.engine().resolve(*id, Resolution::Failed, None).await;
        }
    }
    Ok(Some(message))
}

/// Of a server that is removed with its service, the platform takes the rest away.
pub async fn away(core: &Core, cx: &Cx, server: &ServerRow) -> Result<(), Failure> {
    if server.platform.is_some() || !answers(server) {
        return Ok(());
    }
    for database in store::unowned(&core.store, &server.id).await? {
        let making = Making::find(core, database).await?;
        make::remove(core, cx, &making).await?;
    }
    cx.fault("stock_cleared")?;
    let admin = hands::admin(core, cx, server, None).await?;
    for row in templates::builds_of(&core.store, &server.id).await? {
        build::discard(core, cx, server, &admin, &row).await?;
    }
    if let Some(visitor) = visitors::visitor(&core.store, &server.id).await? {
        forget::drop_roles(core, cx, server, &admin, &[&visitor.role]).await?;
    }
    Ok(())
}

fn answers(server: &ServerRow) -> bool {
    server.health != "unhealthy" && server.resume_to.as_deref() != Some("failed")
}
