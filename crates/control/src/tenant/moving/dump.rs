//! By dump and restore: the tables, then with everybody shut out their rows, what stands on them, and whether both sides are
//! the same; then the target serves.

use freehold_drivers::server::sql::moving::Part;
use freehold_drivers::server::sql::{SqlError, SqlErrorKind};
use freehold_durable::{Cx, Failure, Outcome};

use super::sides::Moving;
use super::turn::{self, Turn, Uncommitted};
use super::{How, ROWS, Step, copy, stall, stop};
use crate::plane::Core;
use crate::server::hands;

/// Sessions at each side. More of them would be felt by its neighbours.
const SESSIONS: usize = 4;

/// While the tenant works: the more tables there are, the less of this is to be waited for.
pub async fn define(core: &Core, cx: &Cx, how: How) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    moving.require_not_flipped()?;
    let (old, new) = moving.both(core, cx).await?;
    copy::carry_schema(&moving, &old, &new, Part::PreData).await?;
    Ok(Outcome::step(Step::Stop { how, tries: 0 }))
}

pub async fn stream(core: &Core, cx: &Cx, how: How) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    moving.require_not_flipped()?;
    let (old, new) = moving.both(core, cx).await?;
    old.lift_force(&moving.row.plan.forced).await.map_err(hands::failure)?;
    cx.fault("lifted")?;
    let work = async { new.stream(&old, SESSIONS).await.map_err(hands::failure) };
    stop::while_shut(core, cx, &moving, &how, &new, work).await?;
    Ok(Outcome::step(Step::Build { how }))
}

pub async fn build(core: &Core, cx: &Cx, how: How) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    moving.require_not_flipped()?;
    let (old, new) = moving.both(core, cx).await?;
    let plan = &moving.row.plan.0;
    let work = async {
        copy::carry_schema(&moving, &old, &new, Part::PostData).await?;
        cx.fault("schema")?;
        let sequences = old.sequences().await.map_err(hands::failure)?;
        new.set_sequences(&sequences).await.map_err(hands::failure)?;
        new.refresh_views(&old).await.map_err(hands::failure)?;
        new.wake_triggers(&plan.waking).await.map_err(hands::failure)?;
        new.analyze().await.map_err(hands::failure)?;
        let unlike = new.fingerprint().await.map_err(hands::failure)?.unlike(&plan.of_target());
        match unlike.is_empty() {
            true => Ok::<_, Failure>(()),
            false => {
                let message = format!("not the same on both servers: {}", copy::named(&unlike));
                Err(Failure::permanent("schema_differs", message))
            }
        }
    };
    stop::while_shut(core, cx, &moving, &how, &new, work).await?;
    Ok(Outcome::step(Step::Check { how }))
}

/// What differs never serves.
pub async fn check(core: &Core, cx: &Cx, how: How) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    moving.require_not_flipped()?;
    let (old, new) = moving.both(core, cx).await?;
    let forced = &moving.row.plan.forced;
    let work = async {
        for side in [&old, &new] {
            side.lift_force(forced).await.map_err(hands::failure)?;
        }
        cx.fault("lifted")?;
        let unlike = new.unlike(&old, ROWS, SESSIONS).await.map_err(hands::failure)?;
        for side in [&old, &new] {
            side.force_again(forced).await.map_err(hands::failure)?;
        }
        Ok::<_, Failure>(unlike)
    };
    let unlike = stop::while_shut(core, cx, &moving, &how, &new, work).await?;
    match unlike.is_empty() {
        true => Ok(Outcome::step(Step::Switch { how })),
        false => {
            let message = format!(
                "not the same on server {} as on server {}, where the tenant goes on: {}",
                moving.to.id,
                moving.from.id,
                copy::named(&unlike)
            );
            Err(Failure::permanent("digests_differ", message))
        }
    }
}

pub async fn switch(core: &Core, cx: &Cx, how: How) -> Result<Outcome<Step>, Failure> {
    let moving = Moving::find(core, cx).await?;
    if moving.row.is_flipped() {
        // Whoever was at it before may have ended between the commit and this.
        stall::let_go(core, cx, &moving, &moving.to, None).await?;
        return Ok(Outcome::step(Step::Verify { how }));
    }
    stop::left(core, &moving, &how).await?;
    let (old, new) = moving.both(core, cx).await?;
    // Somebody was let in behind our back: nobody knows what was written since it was compared.
    let admitted = |error: SqlError| match error.kind {
        SqlErrorKind::Contention => Failure::permanent("let_in", hands::chain(&error)),
        _ => hands::failure(error),
    };
    old.still_fenced(&moving.tenant.login_names()).await.map_err(admitted)?;
    if let Err(Uncommitted::Surely(failure) | Uncommitted::Perhaps(failure)) =
        turn::commit(core, cx, &moving, Turn::ByDump).await
    {
        // Nobody is let in until the store has said which side serves: the next run asks.
        return Err(failure);
    }
    cx.fault("turned")?;
    stall::let_go(core, cx, &moving, &moving.to, Some(&new)).await?;
    Ok(Outcome::step(Step::Verify { how }))
}
