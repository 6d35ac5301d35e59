//! Drops roles for good, wherever on their server somebody named them.

use freehold_drivers::server::sql::Admin;
use freehold_durable::Failure;

use super::hands::{self, Holder};
use super::store::ServerRow;
use crate::plane::Core;
use crate::stock::store as databases;

/// Their own databases are gone. A tenant may have granted them something in its database, or given them things there:
/// the grant goes, the things become that database's owner's.
pub async fn drop_roles(
    core: &Core,
    holder: &impl Holder,
    server: &ServerRow,
    admin: &Admin,
    names: &[&str],
) -> Result<(), Failure> {
    for database in admin.databases_naming(names).await.map_err(hands::failure)? {
        let heir = databases::owner_of(&core.store, &server.id, &database).await?;
        let heir = heir.filter(|heir| !names.contains(&heir.as_str()));
        let inside = hands::enter(core, holder, server, admin, &database).await?;
        if let Some(trigger) = inside.event_triggers_of_others().await.map_err(hands::failure)?.first() {
            let message = format!(
                "roles are named in database {database} on server {}, whose event trigger {trigger} would run as {}: drop it first",
                server.id,
                inside.user()
            );
            return Err(Failure::stuck("event_trigger", message));
        }
        inside.forget_roles(names, heir.as_deref()).await.map_err(hands::failure)?;
    }
    admin.drop_roles(names).await.map_err(hands::failure)
}
