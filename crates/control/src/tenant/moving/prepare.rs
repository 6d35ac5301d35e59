//! The target, where nobody may log in yet: roles, database, grants, extensions. Undone by dropping them.

use freehold_durable::{Cx, Failure, Outcome};

use super::sides::Moving;
use super::{How, Step};
use crate::plane::Core;
use crate::server::hands;
use crate::stock::make;

pub async fn run(core: &Core, cx: &Cx, how: How) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    moving.require_not_flipped()?;
    let tenant = &moving.tenant;
    let (source, target) =
        tokio::try_join!(hands::admin(core, cx, &moving.from, None), hands::admin(core, cx, &moving.to, None))?;
    cx.still_mine().await?;
    target.prepare_roles(&source, tenant).await.map_err(hands::failure)?;
    if let Some((_, plan)) = moving.row.plans() {
        core.known_plan(plan)?;
        moving.limit(&target, plan, core).await?;
    }
    if !moving.row.is_dump() {
        // Tables are published, all the time that the move takes.
        for admin in [&source, &target] {
            admin.act_for(&tenant.role_names()).await.map_err(hands::failure)?;
        }
    }
    cx.fault("roles")?;
    target.prepare_database(&source, tenant).await.map_err(hands::failure)?;
    cx.fault("database")?;
    let inside = hands::admin_of_new(core, cx, &moving.to, &tenant.database).await?;
    for finding in inside.prepare_grants(&source, tenant).await.map_err(hands::failure)? {
        tracing::warn!(tenant = moving.row.tenant_id, code = %finding.code, message = finding.message, "not as it was");
    }
    inside.close().await;
    let (old, new) = moving.both(core, cx).await?;
    for extension in new.prepare_extensions(&old).await.map_err(hands::failure)? {
        tracing::info!(tenant = moving.row.tenant_id, extension, "in another version at the target");
    }
    if let Some((_, plan)) = moving.row.plans() {
        make::extensions(core, plan, &new.admin).await?;
    }
    Ok(Outcome::step(Step::Plan { how }))
}
