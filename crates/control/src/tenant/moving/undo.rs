//! The way back from before the flip, and what it has in common with the end of a move: what replicates goes, then a side.

use freehold_api::template::DatabaseOwner;
use freehold_drivers::server::sql::moving::Side;
use freehold_durable::{Class, Cx, Failure, Outcome};

use super::sides::Moving;
use super::{How, LOCKS, Step, stall, stop, store};
use crate::plane::Core;
use crate::server::store::ServerRow;
use crate::server::{forget, hands};
use crate::tenant::fence;

/// Before anything else: whoever is to come in comes in. Where the target serves already, nothing is undone.
pub async fn let_go(core: &Core, cx: &Cx, how: How) -> Result<Outcome<Step>, Failure> {
    let Some(moving) = Moving::look(core, cx).await? else { return Ok(Outcome::done()) };
    match moving.row.is_dump() {
        true => stop::let_go(core, cx, &moving).await?,
        false => stall::let_go(core, cx, &moving, moving.serving().0, None).await?,
    }
    Ok(Outcome::step(match moving.row.is_flipped() {
        true => Step::Unfollow { how },
        false => Step::Withdraw,
    }))
}

pub async fn withdraw(core: &Core, cx: &Cx) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    moving.require_not_flipped()?;
    withdraw_all(core, cx, &moving).await?;
    Ok(Outcome::step(Step::Drop))
}

pub async fn drop_target(core: &Core, cx: &Cx) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    moving.require_not_flipped()?;
    drop_side(core, cx, &moving, &moving.to).await?;
    Ok(Outcome::step(Step::Release))
}

pub async fn release(cx: &Cx) -> Result<Outcome<Step>, Failure> {
    let tenant = fence::tenant(cx)?;
    let engine = cx.engine();
    Ok(Outcome::done().recording(move |tx| {
        Box::pin(async move {
            store::forget_unflipped(tx, &tenant).await?;
            Ok(engine.wake_in(tx, "stock").await?)
        })
    }))
}

/// The tenant changed its schema: all of the copy goes, the slot at the target stays.
pub async fn redo(core: &Core, cx: &Cx, how: How) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    moving.require_not_flipped()?;
    withdraw_all(core, cx, &moving).await?;
    cx.fault("withdrawn")?;
    drop_side(core, cx, &moving, &moving.to).await?;
    Ok(Outcome::step(Step::Prepare { how }))
}

/// The source is as it was before, whether or not the target answers; what the target has goes with it or, here, before it.
async fn withdraw_all(core: &Core, cx: &Cx, moving: &Moving) -> Result<(), Failure> {
    if moving.row.is_dump() {
        return Ok(());
    }
    let target = target_if_there(core, cx, moving).await;
    if let Ok(Some(new)) = &target {
        new.unlink(&moving.there).await.map_err(hands::failure)?;
        new.unpublish(&moving.back).await.map_err(hands::failure)?;
    }
    cx.fault("unlinked")?;
    let old = moving.source(core, cx).await?;
    end_publishing(moving, &old).await?;
    tidy(moving, &old).await?;
    target.map(drop)
}

/// None: nothing is there that could replicate. A database that is half prepared lets nobody in.
async fn target_if_there(core: &Core, cx: &Cx, moving: &Moving) -> Result<Option<Side>, Failure> {
    let admin = hands::admin(core, cx, &moving.to, None).await?;
    if !admin.database_exists(&moving.tenant.database).await.map_err(hands::failure)? {
        return Ok(None);
    }
    match moving.target(core, cx).await {
        Ok(side) => Ok(Some(side)),
        Err(failure) if matches!(failure.class, Class::Transient | Class::Fenced) => Err(failure),
        Err(_) => Ok(None),
    }
}

/// What the two sides have of the way there.
pub async fn end_way_there(moving: &Moving, old: &Side, new: &Side) -> Result<(), Failure> {
    new.unlink(&moving.there).await.map_err(hands::failure)?;
    end_publishing(moving, old).await
}

/// The source's part of it, after the target's.
pub async fn end_publishing(moving: &Moving, old: &Side) -> Result<(), Failure> {
    old.unpublish(&moving.there).await.map_err(hands::failure)?;
    if let Some(subscription) = moving.row.plan.subscription {
        old.drop_slots_of_copies(subscription).await.map_err(hands::failure)?;
    }
    Ok(())
}

pub async fn end_way_back(moving: &Moving, old: &Side, new: &Side) -> Result<(), Failure> {
    old.unlink(&moving.back).await.map_err(hands::failure)?;
    new.unpublish(&moving.back).await.map_err(hands::failure)
}

/// Database and roles of the side that does not serve: those that there are now, and those that there were when it was made.
pub async fn drop_side(core: &Core, cx: &Cx, moving: &Moving, server: &ServerRow) -> Result<(), Failure> {
    if moving.making.server.id == server.id {
        let message = format!("server {} serves the tenant: nothing of it is dropped there", server.id);
        return Err(Failure::stuck("not_ours", message));
    }
    let admin = hands::admin(core, cx, server, None).await?;
    let mut names = moving.tenant.role_names();
    names.extend(gone_since(moving));
    cx.still_mine().await?;
    admin.drop_database(&moving.tenant.database).await.map_err(hands::failure)?;
    cx.fault("database_dropped")?;
    forget::drop_roles(core, cx, server, &admin, &names).await
}

/// Roles that there were when the other side was made, and are no more.
fn gone_since(moving: &Moving) -> Vec<&str> {
    let now = moving.tenant.role_names();
    moving.row.plan.roles.iter().map(String::as_str).filter(|name| !now.contains(name)).collect()
}

/// Where it serves again, logins that were retired while it was elsewhere: nobody has come in by them since.
pub async fn drop_retired(core: &Core, cx: &Cx, moving: &Moving) -> Result<(), Failure> {
    let (serves, gone) = (moving.serving().0, gone_since(moving));
    if gone.is_empty() {
        return Ok(());
    }
    let admin = hands::admin(core, cx, serves, None).await?;
    forget::drop_roles(core, cx, serves, &admin, &gone).await
}

/// What a move gave the side that serves goes as well.
pub async fn tidy(moving: &Moving, serves: &Side) -> Result<(), Failure> {
    serves.restore_identities(&moving.row.plan.identities, LOCKS).await.map_err(hands::failure)?;
    serves.remove_marker().await.map_err(hands::failure)?;
    if moving.making.template.manifest.database_owner == DatabaseOwner::Tenant {
        return Ok(());
    }
    serves.admin.act_no_more_for(&moving.tenant.role_names()).await.map_err(hands::failure)
}
