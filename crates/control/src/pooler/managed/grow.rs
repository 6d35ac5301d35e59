//! The loop that starts poolers on the platform: when databases have none, and before that, when few fit. One at a time,
//! however many wait. It also brings back what is not there any more, or not as the settings want it now.

use std::time::Duration;

use async_trait::async_trait;
use freehold_drivers::pooler::agents::AgentSeen;
use freehold_durable::{Engine, Failure, Loop, LoopCx, New, StartError, Started};
use sqlx::PgConnection;

use super::need::{Need, need};
use super::start::{self, Start};
use super::store::ServiceRow;
use super::{STARTER, agents, store};
use crate::audit::record::{Actor, Event};
use crate::plane::Core;
use crate::settings::{PoolerPlatform, Ports};

pub use crate::server_pool::grow::free_port;

pub struct Grow {
    pub core: Core,
}

#[async_trait]
impl Loop for Grow {
    fn name(&self) -> &'static str {
        "pooler_platform"
    }
    fn period(&self) -> Duration {
        Duration::from_secs(2)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        let core = &self.core;
        let Some(settings) = &core.settings.pooler.platform else { return Ok(()) };
        if let Some((name, started)) = when_needed(core, &cx.engine(), settings, Some(cx)).await? {
            tracing::info!(pooler = name, "a pooler is started");
            cx.engine().go(started);
        }
        tend(core, cx).await
    }
}

/// Starts the next one if there is need of it, whoever asks at the same time.
pub async fn when_needed(
    core: &Core,
    engine: &Engine,
    settings: &PoolerPlatform,
    cx: Option<&LoopCx>,
) -> Result<Option<(String, Started)>, Failure> {
    let capacity = core.settings.pooler.capacity;
    let (headroom, maximum) = (settings.headroom(capacity), settings.maximum_poolers);
    // Most of the time nothing is missing: that takes no lock.
    if !matches!(need(&store::supply(&core.store).await?, headroom, maximum), Need::One { .. }) {
        return Ok(None);
    }
    let mut tx = core.store.begin().await?;
    store::lock(&mut tx).await?;
    let Need::One { short } = need(&store::supply(&mut *tx).await?, headroom, maximum) else { return Ok(None) };
    let name = match store::failed(&mut tx).await? {
        Some(failed) => failed,
        None => store::next_name(&mut tx, &settings.name).await?,
    };
    let reason = format!("{short} more databases have to fit");
    let begun = begin(core, engine, &mut tx, &name, capacity, &Actor::of_loop(STARTER), &reason).await?;
    match begun {
        Begun::Started(started) => {
            if let Some(cx) = cx {
                cx.still_mine_in(&mut tx).await?;
            }
            tx.commit().await?;
            Ok(Some((name, started)))
        }
        Begun::Taken => Ok(None),
        Begun::NoPort(ports) => {
            tracing::error!(%ports, "no pooler is started: the ports of pooler.platform are all taken");
            Ok(None)
        }
    }
}

pub enum Begun {
    Started(Started),
    /// There is one of this name, or an operation still works on it.
    Taken,
    NoPort(Ports),
}

/// Declares a pooler and starts its start, in the caller's transaction, who holds the lock.
pub async fn begin(
    core: &Core,
    engine: &Engine,
    tx: &mut PgConnection,
    id: &str,
    capacity: u32,
    actor: &Actor,
    reason: &str,
) -> Result<Begun, Failure> {
    let (_, settings) = core.agents()?;
    let Some(port) = free_port(settings.ports, &store::ports(tx, &settings.address, id).await?, &[]) else {
        return Ok(Begun::NoPort(settings.ports));
    };
    let read = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path).map_err(|error| {
            let detail = format!("read pooler.platform.ca_certificate, {}: {error}", path.display());
            Failure::transient("settings_unreadable", detail)
        })
    };
    let ca_certificate = settings.ca_certificate.as_ref().map(read).transpose()?;
    let declared = store::Declared {
        id,
        platform: settings.kind.as_str(),
        host: &settings.address,
        port,
        sslmode: settings.sslmode(),
        ca_certificate: ca_certificate.as_deref(),
        capacity: i32::try_from(capacity).unwrap_or(i32::MAX),
    };
    if !store::declare(tx, &declared).await? {
        return Ok(Begun::Taken);
    }
    let subject = format!("pooler:{id}");
    let new = New {
        subject: Some(subject.clone()),
        deadline: Some(start::DEADLINE),
        requested_by: Some(actor.reference.clone()),
        request_id: actor.request.clone(),
        ..New::of("pooler.start", start::Step::Key)
    };
    let started = match engine.start::<Start>(tx, new).await {
        Ok(started) => started,
        Err(StartError::Busy { .. }) => return Ok(Begun::Taken),
        Err(StartError::Store(error)) => return Err(error.into()),
    };
    let details = serde_json::json!({"platform": settings.kind.as_str(), "capacity": capacity, "reason": reason});
    Event::done(actor, "pooler.start.begin", subject).with(details).save(tx).await?;
    Ok(Begun::Started(started))
}

/// What was begun here is there, as the settings want it now.
async fn tend(core: &Core, cx: &LoopCx) -> Result<(), Failure> {
    let (platform, _) = core.agents()?;
    let place = platform.place().await.map_err(agents::failure)?;
    let rows = store::running(&core.store).await?;
    let mut all_are_well = rows.iter().all(|row| row.healthy);
    let mut trouble = None;
    for row in rows.iter().filter(|row| row.place.as_deref() == Some(&place)) {
        match tend_one(core, cx, row, all_are_well).await {
            // The next one is replaced once this one was heard of: not all of them at once.
            Ok(is_replaced) => all_are_well &= !is_replaced,
            // The others are looked after all the same.
            Err(failure) => {
                tracing::warn!(pooler = row.id, %failure, "a pooler is not brought back yet");
                trouble = trouble.or(Some(failure));
            }
        }
    }
    trouble.map_or(Ok(()), Err)
}

/// True: it runs otherwise than before.
async fn tend_one(core: &Core, cx: &LoopCx, row: &ServiceRow, all_are_well: bool) -> Result<bool, Failure> {
    let (platform, settings) = core.agents()?;
    let agent = agents::agent(core, settings, row)?;
    let is_missing = match platform.observe(&agent).await.map_err(agents::failure)? {
        AgentSeen::Absent => true,
        // Its platform starts it again.
        AgentSeen::Down { .. } => return Ok(false),
        AgentSeen::Running { current } if current || !all_are_well => return Ok(false),
        AgentSeen::Running { .. } => false,
    };
    cx.still_mine().await?;
    // It may have been removed since the rows were read.
    let now = store::find(&core.store, &row.id).await?;
    if !now.is_some_and(|now| ["active", "cordoned"].contains(&now.state.as_str())) {
        return Ok(false);
    }
    tracing::info!(pooler = row.id, is_missing, "a pooler is not as it should be; it is brought back");
    platform.ensure(&agent).await.map_err(agents::failure)?;
    let now = store::find(&core.store, &row.id).await?;
    if now.is_none_or(|now| now.state == "removing") {
        platform.remove(&row.id).await.map_err(agents::failure)?;
    }
    Ok(!is_missing)
}
