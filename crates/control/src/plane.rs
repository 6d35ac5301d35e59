//! What every verb has at hand: the store, the engine, the sealer and the settings.
//!
//! Absent: drivers' connections. Only operations and loops open those, through `server::hands`.

use std::sync::Arc;

use freehold_drivers::secrets::Sealer;
use freehold_durable::{Engine, Failure};
use sqlx::PgPool;

use crate::http::problem::Refused;
use crate::pooler::managed::agents::Agents;
use crate::pooler::wakes::Wakes;
use crate::schema::catalog::Catalog;
use crate::server::fenced::Fenced;
use crate::server::fleet::Fleet;
use crate::server::idle::IdleSessions;
use crate::server_pool::platforms::Platforms;
use crate::settings::Settings;
use crate::stock::turns::Turns;
use crate::tenant::line::Line;

pub type Plane = Arc<Inner>;

/// What operations and loops hold: the plane without the engine that runs them.
#[derive(Clone)]
pub struct Core {
    pub store: PgPool,
    /// The same store for what callers wait for and repeat: few connections, whose plans are made once and kept.
    /// One statement at a time; nothing that waits for a second connection.
    pub quick: PgPool,
    pub sealer: Arc<Sealer>,
    pub settings: Arc<Settings>,
    pub catalog: Catalog,
    pub fleet: Fleet,
    pub idle_sessions: IdleSessions,
    pub fenced: Fenced,
    pub platforms: Platforms,
    /// Where poolers run that Freehold starts itself.
    pub agents: Agents,
    /// Agents that wait here for what their poolers are to serve.
    pub poolers: Wakes,
    /// Turns at copying a template.
    pub copying: Turns,
    /// Turns at creates that are one statement.
    pub instants: Line,
    /// Turns at all others.
    pub creates: Line,
}

pub struct Inner {
    pub core: Core,
    pub engine: Engine,
}

impl std::ops::Deref for Inner {
    type Target = Core;
    fn deref(&self) -> &Core {
        &self.core
    }
}

/// What a verb answers when it cannot do what was asked.
pub type Answer<T> = Result<T, Refused>;

impl Core {
    /// Before the store's PostgreSQL goes, so that no connection is torn.
    pub async fn close(&self) {
        tokio::join!(self.store.close(), self.quick.close());
    }

    /// For whoever is going to give it to a tenant: another process may know more plans than this one.
    pub fn known_plan(&self, name: &str) -> Result<&freehold_api::plan::Plan, Failure> {
        let unknown = || {
            let message =
                format!("there is no plan {name} in this process's settings: give it back to them, or cancel this");
            Failure::transient("unknown_plan", message)
        };
        self.settings.plan(name).ok_or_else(unknown)
    }

    pub fn plan(&self, name: &str) -> &freehold_api::plan::Plan {
        // A plan that was taken out of the settings while tenants have it: the default's limits, so that they go on.
        self.settings.plan(name).unwrap_or_else(|| self.settings.default_plan())
    }
}
