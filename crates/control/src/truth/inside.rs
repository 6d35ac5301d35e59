//! Looks into databases that the store does not know for the sealed note that says whose they were. Only catalogs, and a
//! table that is proven to be the admin's, are read: such a database may be anybody's.

use std::time::Duration;

use freehold_drivers::server::sql::{Admin, Observed};
use freehold_durable::{Failure, LoopCx};
use serde::Deserialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::store;
use crate::plane::Core;
use crate::server::hands;
use crate::server::store::ServerRow;
use crate::stock::note;

/// For one database, and for all of one round: a server may hold thousands that are none of ours.
const ONE: Duration = Duration::from_secs(5);
const ALL: Duration = Duration::from_secs(10);

/// What a note says.
#[derive(Deserialize)]
struct Note {
    tenant: Tenant,
}

#[derive(Deserialize)]
struct Tenant {
    id: String,
}

/// Those that were not looked into yet. Where going in would run an event trigger as the admin, nobody goes in.
pub async fn look(
    core: &Core,
    cx: &LoopCx,
    server: &ServerRow,
    home: &Admin,
    observed: &Observed,
) -> Result<(), Failure> {
    let end = Instant::now() + ALL;
    let shut = observed.databases.iter().filter(|database| database.has_login_trigger && !home.passes_event_triggers());
    let shut: Vec<&str> = shut.map(|database| database.name.as_str()).collect();
    for database in store::unread(&core.store, &server.id, &shut).await? {
        let found = match timeout_at(end, timeout(ONE, read(core, cx, server, home, &database))).await {
            Err(_) => break,
            Ok(Ok(Ok(found))) => found,
            Ok(Ok(Err(failure))) => {
                tracing::debug!(server = server.id, database, %failure, "not looked into");
                Found::Nothing
            }
            Ok(Err(_)) => Found::Nothing,
        };
        let (ghost, tenant) = match found {
            Found::Nothing => (None, None),
            Found::Sealed => (Some("another_note"), None),
            Found::Ours(tenant) => (Some("note"), Some(tenant)),
        };
        store::record_note(&core.store, &server.id, &database, ghost, tenant.as_deref()).await?;
    }
    Ok(())
}

enum Found {
    Nothing,
    /// By another Freehold: this one's key does not open it.
    Sealed,
    Ours(String),
}

async fn read(core: &Core, cx: &LoopCx, server: &ServerRow, home: &Admin, database: &str) -> Result<Found, Failure> {
    let inside = hands::enter(core, cx, server, home, database).await?;
    let Some(sealed) = inside.read_note().await.map_err(hands::failure)? else { return Ok(Found::Nothing) };
    let Ok(opened) = core.sealer.open(&note::context(), &sealed) else { return Ok(Found::Sealed) };
    Ok(serde_json::from_slice::<Note>(&opened).map_or(Found::Sealed, |note| Found::Ours(note.tenant.id)))
}
