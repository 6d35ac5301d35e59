//! What becomes of a tenant that no server has room for: it waits for the next server of a pool, or is refused with the
//! reason. Only [`super::grow`] starts servers, so that it is one, however many wait.

use std::time::Duration;

use freehold_api::id::PoolName;

use super::store;
use crate::http::problem::Refused;
use crate::plane::{Answer, Core};
use crate::server::store::ServerWithUse;
use crate::tenant::placement::pools::{self, Growth, PoolView};
use crate::tenant::placement::{Want, explain};

/// How old a look at the fleet may be by which somebody is refused.
pub const SURE: Duration = Duration::from_millis(250);

pub async fn growth(core: &Core) -> sqlx::Result<Growth> {
    if core.settings.server_pools.is_empty() {
        return Ok(Growth::default());
    }
    store::growth(&core.store, &core.settings.placement.labels).await
}

/// How many of those that wait for the pool have no slot to go to: of those that want the same, the most.
pub async fn short(core: &Core, view: &PoolView<'_>) -> sqlx::Result<i64> {
    if view.waiting.is_empty() {
        return Ok(0);
    }
    let templates = core.catalog.all(&core.store).await?;
    let short = view.waiting.iter().filter_map(|waiters| {
        let (template, _) = templates.get(&waiters.template)?;
        let plan = core.plan(&waiters.plan);
        let want = Want {
            kind: plan.server,
            region: waiters.region.as_deref(),
            labels: &waiters.labels,
            template,
            extensions: &plan.extensions,
            rules: &core.settings.placement,
        };
        Some(view.short_of(waiters, &want))
    });
    Ok(short.max().unwrap_or(0).max(0))
}

/// Who asks: whoever waits already has his place among those that do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    Anew,
    Waiting,
}

/// The pool to wait for, and the server of it that is being made, if one is.
pub struct Awaited {
    pub pool: PoolName,
    pub server: Option<String>,
}

impl Awaited {
    /// For whoever looks at the operation or the tenant.
    pub fn message(&self) -> String {
        match &self.server {
            Some(server) => format!("waiting for server {server} of server pool {}", self.pool),
            None => format!("waiting for a server of server pool {}", self.pool),
        }
    }
}

pub async fn decide(core: &Core, want: &Want<'_>, fleet: &[ServerWithUse], asking: Asking) -> Answer<Awaited> {
    let mut growth = growth(core).await?;
    if asking == Asking::Waiting {
        growth.waiting.clear();
    }
    let views = pools::views(&core.settings.server_pools, &core.settings.placement, fleet, &growth);
    let refused = || -> Refused { explain::refusal(want, fleet, &views) };
    let view = pools::choose(want, &views).ok_or_else(refused)?;
    Ok(Awaited { pool: view.pool.name.clone(), server: view.growing().map(|server| server.row.id.clone()) })
}
