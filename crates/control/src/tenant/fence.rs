//! Refuses and admits a tenant's logins at its server: what suspend, resume, delete and undelete do there.

use freehold_durable::{Cx, Failure};
use uuid::Uuid;

use super::adopt;
use crate::plane::Core;
use crate::server::hands;
use crate::stock::store as databases;

pub fn tenant(cx: &Cx) -> Result<String, Failure> {
    let id = cx.subject.as_deref().and_then(|subject| subject.strip_prefix("tenant:"));
    id.map(str::to_owned).ok_or_else(|| Failure::permanent("bad_subject", "the operation is not about a tenant"))
}

/// Its logins, and those of an adopted database that were there before.
async fn roles(core: &Core, database: Uuid) -> Result<Vec<String>, Failure> {
    let logins = databases::logins(&core.store, database).await?;
    let mut roles: Vec<String> = logins.into_iter().map(|login| login.role).collect();
    roles.extend(adopt::store::kept_logins(&core.store, database).await?);
    Ok(roles)
}

/// NOLOGIN for every login of the tenant, the maintenance login too, then its sessions are ended until none is left.
pub async fn refuse(core: &Core, cx: &Cx, tenant: &str) -> Result<(), Failure> {
    let Some(row) = databases::find_of_tenant(&core.store, tenant).await? else { return Ok(()) };
    let roles = roles(core, row.id).await?;
    let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
    let server = hands::server(core, &row.server_id).await?;
    let admin = hands::admin(core, cx, &server, None).await?;
    admin.refuse_logins(&roles).await.map_err(hands::failure)
}

pub async fn admit(core: &Core, cx: &Cx, tenant: &str) -> Result<(), Failure> {
    let Some(row) = databases::find_of_tenant(&core.store, tenant).await? else { return Ok(()) };
    let roles = roles(core, row.id).await?;
    let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
    let server = hands::server(core, &row.server_id).await?;
    let admin = hands::admin(core, cx, &server, None).await?;
    admin.admit_logins(&roles).await.map_err(hands::failure)
}
