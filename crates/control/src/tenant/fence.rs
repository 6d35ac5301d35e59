//! Refuses and admits a tenant's logins at its server: what suspend, resume, delete and undelete do there.

use freehold_drivers::server::sql::Admin;
use freehold_durable::{Cx, Failure};

use super::adopt;
use crate::plane::Core;
use crate::server::hands;
use crate::stock::store::{self as databases, DatabaseRow};

pub fn tenant(cx: &Cx) -> Result<String, Failure> {
    let id = cx.subject.as_deref().and_then(|subject| subject.strip_prefix("tenant:"));
    id.map(str::to_owned).ok_or_else(|| Failure::permanent("bad_subject", "the operation is not about a tenant"))
}

/// What comes in: the tenant's own logins, and those that an adopted database had before.
struct Fenced {
    row: DatabaseRow,
    logins: Vec<String>,
    /// Retired ones: they stay out.
    out: Vec<String>,
    kept: Vec<String>,
    admin: Admin,
}

impl Fenced {
    async fn of(core: &Core, cx: &Cx, row: DatabaseRow) -> Result<Self, Failure> {
        let logins = databases::logins(&core.store, row.id).await?;
        let out = logins.iter().filter(|login| login.refused_at.is_some()).map(|login| login.role.clone()).collect();
        let logins = logins.into_iter().map(|login| login.role).collect();
        let kept = adopt::store::kept_logins(&core.store, row.id).await?;
        let server = hands::server(core, &row.server_id).await?;
        let admin = hands::admin(core, cx, &server, None).await?;
        Ok(Self { row, logins, out, kept, admin })
    }

    async fn refuse_kept(&self) -> Result<(), Failure> {
        if self.kept.is_empty() {
            return Ok(());
        }
        let roles: Vec<&str> = self.logins.iter().chain([&self.row.owner]).map(String::as_str).collect();
        self.admin.refuse_kept(&self.row.database, &names(&self.kept), &roles).await.map_err(hands::failure)
    }
}

fn names(roles: &[String]) -> Vec<&str> {
    roles.iter().map(String::as_str).collect()
}

/// NOLOGIN for every login of the tenant, the maintenance login too, then its sessions are ended until none is left.
/// Logins that were kept lose this database and nothing else.
pub async fn refuse(core: &Core, cx: &Cx, tenant: &str) -> Result<(), Failure> {
    let Some(row) = databases::find_of_tenant(&core.store, tenant).await? else { return Ok(()) };
    let fenced = Fenced::of(core, cx, row).await?;
    fenced.admin.refuse_logins(&names(&fenced.logins)).await.map_err(hands::failure)?;
    cx.fault("refused")?;
    fenced.refuse_kept().await
}

pub async fn admit(core: &Core, cx: &Cx, tenant: &str) -> Result<(), Failure> {
    let Some(row) = databases::find_of_tenant(&core.store, tenant).await? else { return Ok(()) };
    let fenced = Fenced::of(core, cx, row).await?;
    let admitted: Vec<&str> =
        fenced.logins.iter().filter(|login| !fenced.out.contains(login)).map(String::as_str).collect();
    fenced.admin.admit_logins(&admitted).await.map_err(hands::failure)?;
    cx.fault("admitted")?;
    fenced.admin.admit_kept(&names(&fenced.kept), &fenced.row.owner).await.map_err(hands::failure)
}

/// Before the database goes: who is kept outlives it, and a weak admin could not drop it under his sessions.
pub async fn refuse_kept(core: &Core, cx: &Cx, row: &DatabaseRow) -> Result<(), Failure> {
    if adopt::store::kept_logins(&core.store, row.id).await?.is_empty() {
        return Ok(());
    }
    Fenced::of(core, cx, row.clone()).await?.refuse_kept().await
}
