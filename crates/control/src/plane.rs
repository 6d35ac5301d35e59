//! What every verb has at hand: the store, the engine, the sealer and the settings.
//!
//! Absent: drivers' connections. Only operations and loops open those, through `server::hands`.

use std::sync::Arc;

use freehold_drivers::secrets::Sealer;
use freehold_durable::Engine;
use sqlx::PgPool;

use crate::http::problem::Refused;
use crate::schema::catalog::Catalog;
use crate::server::fleet::Fleet;
use crate::settings::Settings;
use crate::stock::turns::Turns;

pub type Plane = Arc<Inner>;

/// What operations and loops hold: the plane without the engine that runs them.
#[derive(Clone)]
pub struct Core {
    pub store: PgPool,
    pub sealer: Arc<Sealer>,
    pub settings: Arc<Settings>,
    pub catalog: Catalog,
    pub fleet: Fleet,
    /// Turns at copying a template.
    pub copying: Turns,
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
    pub fn plan(&self, name: &str) -> &freehold_api::plan::Plan {
        // A plan that was taken out of the settings while tenants have it: the default's limits, so that they go on.
        self.settings.plan(name).unwrap_or_else(|| self.settings.default_plan())
    }
}
