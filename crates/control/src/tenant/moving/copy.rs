//! From the plan to a target that follows: what replication needs of the schema, the copy, and then the rest of the schema.

use std::collections::BTreeMap;
use std::time::Duration;

use freehold_api::movability::MoveMethod;
use freehold_drivers::server::sql::moving::{Content, Part, Side, find_pg_dump};
use freehold_durable::{Cx, Failure, Outcome};
use tokio::time::{Instant, sleep};

use super::sides::Moving;
use super::store::{self, Plan};
use super::{How, LOCKS, ROWS, Step};
use crate::plane::Core;
use crate::server::hands;

/// How often it is looked how far the copy is.
const LOOK: Duration = Duration::from_millis(500);
/// How long by the same sessions.
const LOOKING: Duration = Duration::from_secs(30);
/// For open transactions of the whole server, which a slot waits for.
const SLOT: Duration = Duration::from_secs(60);
/// What differs is compared again while the tenant works, for so long.
const SETTLE: Duration = Duration::from_secs(20);

/// Looks, and changes nothing.
pub async fn plan(core: &Core, cx: &Cx, how: How) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    let old = moving.source(core, cx).await?;
    let fingerprint = old.fingerprint().await.map_err(hands::failure)?;
    let added = match moving.row.plans() {
        Some((_, plan)) if !core.plan(plan).extensions.is_empty() => {
            // Nothing else is there yet that the source has not.
            let there = moving.target(core, cx).await?.fingerprint().await.map_err(hands::failure)?;
            there.shape.into_iter().filter(|(what, _)| !fingerprint.shape.contains_key(what)).collect()
        }
        _ => BTreeMap::new(),
    };
    let (identities, forced) = match how.method {
        MoveMethod::Logical => (old.plan_identities().await.map_err(hands::failure)?, Vec::new()),
        MoveMethod::Dump => {
            // One that cannot be carried is to be heard of before anybody is shut out.
            old.large_objects().await.map_err(hands::failure)?;
            (Vec::new(), old.forced_tables().await.map_err(hands::failure)?)
        }
    };
    let plan = Plan {
        identities,
        forced,
        fingerprint,
        added,
        waking: old.waking_triggers().await.map_err(hands::failure)?,
        bytes: old.bytes().await.map_err(hands::failure)?,
        roles: moving.tenant.role_names().iter().map(|name| (*name).to_owned()).collect(),
        subscription: None,
        place: None,
    };
    let id = moving.row.id;
    let next = match how.method {
        MoveMethod::Logical => Step::Publish { how },
        MoveMethod::Dump => Step::Define { how },
    };
    Ok(Outcome::step(next).recording(move |tx| Box::pin(async move { Ok(store::set_plan(tx, id, &plan).await?) })))
}

pub async fn publish(core: &Core, cx: &Cx, how: How) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    moving.require_not_flipped()?;
    let (old, new) = moving.both(core, cx).await?;
    let plan = &moving.row.plan.0;
    // Before it is published: an UPDATE of a table without an identity would fail from then on.
    old.set_identities(&plan.identities, LOCKS).await.map_err(hands::failure)?;
    cx.fault("identities")?;
    carry_schema(&moving, &old, &new, Part::First).await?;
    cx.fault("schema")?;
    old.ensure_marker().await.map_err(hands::failure)?;
    new.ensure_marker().await.map_err(hands::failure)?;
    old.publish(&moving.there).await.map_err(hands::failure)?;
    cx.fault("published")?;
    old.ensure_reader(&moving.there, &moving.verifier(&moving.there)?).await.map_err(hands::failure)?;
    old.create_slot(&moving.there, SLOT).await.map_err(hands::failure)?;
    cx.fault("slot")?;
    let from = moving.reader(core, &moving.there)?;
    cx.still_mine().await?;
    let subscription = new.subscribe(&moving.there, &from, Content::Copied).await.map_err(hands::failure)?;
    let (id, plan) = (moving.row.id, Plan { subscription: Some(subscription), ..plan.clone() });
    // Enabled once its number is on record: what its copies leave at the source is called after it.
    store::set_plan(&core.store, id, &plan).await?;
    cx.fault("subscribed")?;
    new.enable(&moving.there).await.map_err(hands::failure)?;
    Ok(Outcome::step(Step::Copy { how }))
}

/// Looks for a while, then sleeps and holds nothing: whoever asked for its end is heard in between.
pub async fn copy(core: &Core, cx: &Cx, how: How) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    let (old, new) = moving.both(core, cx).await?;
    let end = Instant::now() + LOOKING;
    loop {
        // A slot that the server gave up is an error: the copy would never be whole.
        old.slot_seen(&moving.there).await.map_err(hands::failure)?;
        let progress = new.progress(&moving.there).await.map_err(hands::failure)?;
        let (total, done) = (moving.row.plan.bytes, new.bytes().await.map_err(hands::failure)?);
        cx.progress(done.min(total), total, "bytes").await?;
        if progress.is_ready() {
            return Ok(Outcome::step(Step::Complete { how }));
        }
        if Instant::now() > end || cx.cancel_requested().await? {
            let outcome = Outcome::again(LOOK, Step::Copy { how });
            return Ok(match progress.hindered {
                Some(why) => outcome.waiting_for("copy_hindered", format!("server {}: {why}", moving.to.id)),
                None => outcome.waiting_for("copying", format!("the tables are copied to server {}", moving.to.id)),
            });
        }
        sleep(LOOK).await;
    }
}

/// Indexes, constraints, triggers, statistics; then it is seen that nothing is missing.
pub async fn complete(core: &Core, cx: &Cx, how: How) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    moving.require_not_flipped()?;
    let (old, new) = moving.both(core, cx).await?;
    carry_schema(&moving, &old, &new, Part::Rest).await?;
    cx.fault("schema")?;
    new.analyze().await.map_err(hands::failure)?;
    new.refresh_views(&old).await.map_err(hands::failure)?;
    let plan = &moving.row.plan.0;
    let changed = old.fingerprint().await.map_err(hands::failure)?.changed_since(&plan.fingerprint);
    if !changed.is_empty() {
        return Ok(redo(&changed, how));
    }
    let unlike = new.fingerprint().await.map_err(hands::failure)?.unlike(&plan.of_target());
    if !unlike.is_empty() {
        let message = format!("not the same on both servers: {}", named(&unlike));
        return Err(Failure::permanent("schema_differs", message));
    }
    // What the tenant always writes to differs; it is compared under the fence.
    let ranges = old.ranges(ROWS).await.map_err(hands::failure)?;
    let left = old.settle(&new, &ranges, SETTLE).await.map_err(hands::failure)?;
    if !left.is_empty() {
        tracing::info!(tenant = moving.row.tenant_id, ranges = left.len(), "written to while they were compared");
    }
    Ok(Outcome::step(Step::Ready { how }))
}

/// The way back, before there is a fence: a slot waits for every writer on the server.
pub async fn ready(core: &Core, cx: &Cx, how: How) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    moving.require_not_flipped()?;
    let new = moving.target(core, cx).await?;
    new.publish(&moving.back).await.map_err(hands::failure)?;
    cx.fault("published")?;
    new.ensure_reader(&moving.back, &moving.verifier(&moving.back)?).await.map_err(hands::failure)?;
    new.create_slot(&moving.back, SLOT).await.map_err(hands::failure)?;
    cx.fault("slot")?;
    new.advance_slot(&moving.back).await.map_err(hands::failure)?;
    Ok(Outcome::step(Step::Flip { how, tries: 0 }))
}

pub async fn carry_schema(moving: &Moving, old: &Side, new: &Side, part: Part) -> Result<(), Failure> {
    let binary = find_pg_dump(&[], old.admin.version_num()).map_err(hands::failure)?;
    new.carry_schema(old, &binary, part).await.map_err(|error| {
        let failure = hands::failure(error);
        Failure { message: format!("tenant {}: {}", moving.row.tenant_id, failure.message), ..failure }
    })
}

/// What the tenant changed is not in the copy: that begins anew.
pub fn redo(changed: &[String], how: How) -> Outcome<Step> {
    tracing::info!(changed = named(changed), "the schema was changed: the copy begins anew");
    Outcome::step(Step::Redo { how })
}

/// The first few of them.
pub fn named(names: &[String]) -> String {
    let first: Vec<&str> = names.iter().take(5).map(String::as_str).collect();
    match names.len() - first.len() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
