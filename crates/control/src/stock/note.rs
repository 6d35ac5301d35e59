//! The note loop: writes into each claimed database, sealed and unreadable to the tenant, whom it belongs to;
//! enough to rebuild a lost store (rule 10). After the create has answered: nobody waits for it. What is made for a tenant has
//! its note from the beginning.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine as _;
use freehold_drivers::secrets::Context;
use freehold_drivers::server::sql::Admin;
use freehold_durable::{Failure, Loop, LoopCx};
use uuid::Uuid;

use super::making::Making;
use super::store;
use crate::plane::Core;
use crate::server::hands;
use crate::tenant;

const BATCH: i64 = 50;
const REST_MAX: Duration = Duration::from_millis(400);

pub struct Note {
    pub core: Core,
}

#[async_trait]
impl Loop for Note {
    fn name(&self) -> &'static str {
        "note"
    }
    fn period(&self) -> Duration {
        Duration::from_secs(3)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        for database in store::unnoted(&self.core.store, BATCH).await? {
            cx.still_mine().await?;
            let began = Instant::now();
            // One server that is down keeps only its own tenants waiting.
            if let Err(failure) = write(&self.core, cx, database).await {
                tracing::warn!(%database, %failure, "note not written; tried again later");
            }
            // Whoever has just come logs in now, and others come: after a burst of creates, nine tenths of the time are left
            // to them.
            tokio::time::sleep((began.elapsed() * 9).min(REST_MAX)).await;
        }
        Ok(())
    }
}

async fn write(core: &Core, cx: &LoopCx, database: Uuid) -> Result<(), Failure> {
    let Some(making) = Making::look(core, database).await? else { return Ok(()) };
    let Some(sealed) = sealed(core, &making).await? else { return Ok(()) };
    let inside = hands::admin(core, cx, &making.server, Some(&making.row.database)).await?;
    inside.write_note(&sealed).await.map_err(hands::failure)?;
    Ok(store::set_noted(&core.store, database).await?)
}

/// In a database that is made for its tenant, while whoever made it is in there.
pub async fn write_in(core: &Core, inside: &Admin, making: &Making) -> Result<(), Failure> {
    let Some(sealed) = sealed(core, making).await? else { return Ok(()) };
    inside.write_note(&sealed).await.map_err(hands::failure)
}

/// None: it is nobody's.
async fn sealed(core: &Core, making: &Making) -> Result<Option<Vec<u8>>, Failure> {
    let row = &making.row;
    let Some(tenant) = row.tenant_id.as_deref() else { return Ok(None) };
    let Some(tenant) = tenant::store::find(&core.store, tenant).await? else { return Ok(None) };
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let logins: Vec<_> = [&making.login, &making.maintenance]
        .into_iter()
        .chain(&making.beside)
        .map(|login| {
            serde_json::json!({"id": login.id, "purpose": login.purpose, "role": login.role, "version": login.version,
                "password": base64(&login.password), "verifier": login.verifier})
        })
        .collect();
    let note = serde_json::json!({
        "format": 1,
        "database": {"id": row.id, "name": row.database, "owner": row.owner, "plan": row.plan,
            "template": row.template, "template_version": row.template_version},
        "logins": logins,
        "tenant": {"id": tenant.id, "name": tenant.name, "plan": tenant.plan, "region": tenant.region, "template": tenant.template,
            "labels": tenant.labels, "created_at": tenant.created_at.to_jiff()},
    });
    Ok(Some(core.sealer.seal(&context(), note.to_string().as_bytes())))
}

/// The same for every note: whoever finds one after the store was lost knows nothing else about it.
pub fn context() -> Context {
    Context { id: Uuid::nil(), field: "note", version: 1 }
}
