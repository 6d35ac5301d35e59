//! Refuses and admits a tenant's logins at its server: what suspend, resume, delete and undelete do there.

use freehold_durable::{Cx, Failure};

use crate::plane::Core;
use crate::server::hands;
use crate::stock::store as databases;

pub fn tenant(cx: &Cx) -> Result<String, Failure> {
    let id = cx.subject.as_deref().and_then(|subject| subject.strip_prefix("tenant:"));
    id.map(str::to_owned).ok_or_else(|| Failure::permanent("bad_subject", "the operation is not about a tenant"))
}

/// NOLOGIN for every login of the tenant, the maintenance login too, then its sessions are ended until none is left.
pub async fn refuse(core: &Core, cx: &Cx, tenant: &str) -> Result<(), Failure> {
    let Some(row) = databases::find_of_tenant(&core.store, tenant).await? else { return Ok(()) };
    let logins = databases::logins(&core.store, row.id).await?;
    let roles: Vec<&str> = logins.iter().map(|login| login.role.as_str()).collect();
    let server = hands::server(core, &row.server_id).await?;
    let admin = hands::admin(core, cx, &server, None).await?;
    admin.refuse_logins(&roles).await.map_err(hands::failure)
}

pub async fn admit(core: &Core, cx: &Cx, tenant: &str) -> Result<(), Failure> {
    let Some(row) = databases::find_of_tenant(&core.store, tenant).await? else { return Ok(()) };
    let logins = databases::logins(&core.store, row.id).await?;
    let roles: Vec<&str> = logins.iter().map(|login| login.role.as_str()).collect();
    let server = hands::server(core, &row.server_id).await?;
    let admin = hands::admin(core, cx, &server, None).await?;
    admin.admit_logins(&roles).await.map_err(hands::failure)
}
