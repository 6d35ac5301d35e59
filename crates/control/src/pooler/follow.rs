//! Where a database stands with its pooler, for operations: they go on once it is seen to be as it should, or once
//! waiting has become too long. A pooler that is down hinders nothing.

use std::time::Duration;

use freehold_durable::Failure;
use uuid::Uuid;

use super::store::{self, Standing};
use super::{assign, raise};
use crate::plane::Core;
use crate::tenant::credential::store as rotation;

/// How often an operation looks.
pub const LOOK: Duration = Duration::from_millis(50);
/// At most one reload per second, and what that takes.
const PATIENCE: f64 = 3.0;

/// Gives it a pooler where it has none. True: the pooler serves it as it is, or is not to be waited for.
pub async fn is_served(core: &Core, database: Uuid) -> Result<bool, Failure> {
    let Some(mut standing) = look(core, database).await? else { return Ok(true) };
    if standing.pooled || standing.pooler_id.is_none() && !standing.has_choice {
        return Ok(true);
    }
    if !standing.waits || standing.pooler_id.is_none() {
        store::begin_pooling(&core.store, database).await?;
        if standing.pooler_id.is_none() {
            assign::assign_one(&core.store, database).await?;
        }
        match look(core, database).await? {
            Some(now) => standing = now,
            None => return Ok(true),
        }
    }
    is_settled(core, standing).await
}

/// True: the pooler has it no more, or is not to be waited for. The caller has marked it, as to be purged or dropped.
pub async fn is_gone(core: &Core, database: Uuid) -> Result<bool, Failure> {
    match look(core, database).await? {
        Some(standing) => is_settled(core, standing).await,
        None => Ok(true),
    }
}

/// True: the pooler has what it should of this login beside the one that is handed out, or is not to be waited for.
pub async fn knows(core: &Core, database: Uuid, purpose: &str) -> Result<bool, Failure> {
    let told = rotation::told(&core.store, database, purpose, PATIENCE).await?;
    let Some(told) = told.filter(|told| !told.seen) else { return Ok(true) };
    let Some(pooler) = told.pooler_id else { return Ok(true) };
    see_to(core, &pooler, told.raised).await?;
    Ok(!told.healthy || told.over)
}

async fn look(core: &Core, database: Uuid) -> Result<Option<Standing>, Failure> {
    Ok(store::standing(&core.store, database, PATIENCE).await?)
}

async fn is_settled(core: &Core, standing: Standing) -> Result<bool, Failure> {
    let Some(pooler) = standing.pooler_id.filter(|_| !standing.pooled) else { return Ok(true) };
    see_to(core, &pooler, standing.raised).await?;
    Ok(!standing.healthy || standing.over)
}

/// Once the change is part of a generation nothing is left to do but to look.
async fn see_to(core: &Core, pooler: &str, raised: bool) -> Result<(), Failure> {
    if !raised && raise::raise(&core.store, pooler).await? {
        core.poolers.poke();
    }
    Ok(())
}
