//! The stock loop: compares what each server has ready with what it should have, and starts what is missing.
//! Takes no input; is woken when stock was made or taken. Only starts operations; touches no server itself.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use freehold_api::template::Template;
use freehold_durable::{Failure, Loop, LoopCx, New, StartError, Started};

use super::build::{BuildStock, Step as BuildStep};
use super::declare::{self, Wanted};
use super::drop::{DropStock, Step as DropStep};
use super::store::{self, Level};
use crate::plane::Core;
use crate::schema::retire::{Retire, Step as RetireStep};
use crate::schema::{build as template_build, store as templates};
use crate::server::store::{self as servers, ServerWithUse};

/// Between looks for what is to go from the stock: each database that is taken or made wakes the loop, and many are.
const CLEAR_EVERY: Duration = Duration::from_millis(500);

pub struct Fill {
    core: Core,
    cleared: Mutex<Option<Instant>>,
}

#[async_trait]
impl Loop for Fill {
    fn name(&self) -> &'static str {
        "stock"
    }
    fn period(&self) -> Duration {
        Duration::from_secs(5)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        if self.is_to_clear() {
            self.clear_out(cx).await?;
            store::unpooled(&self.core.store).await?;
        }
        let levels = store::levels(&self.core.store).await?;
        let fleet = self.core.fleet.rows(&self.core.store).await?;
        for server in fleet.iter() {
            // A dedicated server that has its tenant keeps nothing ready.
            let wants = match server.row.kind.as_str() {
                "shared" => true,
                "dedicated" => server.taken_by_now() == 0,
                _ => false,
            };
            if wants && server.row.state == "active" && server.row.health != "unhealthy" {
                self.fill(cx, server, &levels).await?;
            }
        }
        Ok(())
    }
}

impl Fill {
    pub fn new(core: Core) -> Self {
        Self { core, cleared: Mutex::new(None) }
    }

    fn is_to_clear(&self) -> bool {
        let mut cleared = self.cleared.lock().expect("nothing panics here");
        let due = cleared.is_none_or(|at| at.elapsed() >= CLEAR_EVERY);
        if due {
            *cleared = Some(Instant::now());
        }
        due
    }

    async fn fill(&self, cx: &LoopCx, server: &ServerWithUse, levels: &[Level]) -> Result<(), Failure> {
        let core = &self.core;
        let here: Vec<&Level> = levels.iter().filter(|level| level.server_id == server.row.id).collect();
        let in_flight: i64 = here.iter().map(|level| level.building).sum();
        // Twice as many as copy at once: the others are owned and probed meanwhile.
        let mut turns = i64::from(core.settings.stock.concurrency) * 2 - in_flight;
        for (template, stocked) in core.catalog.all(&core.store).await?.values() {
            if !stocked || turns <= 0 {
                continue;
            }
            let wanted = match server.row.kind.as_str() {
                "dedicated" => self.wanted_by_one(template),
                _ => self.wanted(template),
            };
            if wanted.is_empty() || !self.is_built(cx, &server.row.id, template).await? {
                continue;
            }
            for (plan, wanted) in wanted {
                let have = here.iter().filter(|level| {
                    level.template == template.name.as_str()
                        && level.template_version == template.version
                        && level.plan == plan
                });
                let have: i64 = have.map(|level| level.ready + level.building + level.pooling).sum();
                for _ in 0..(wanted - have).clamp(0, turns.max(0)) {
                    turns -= 1;
                    if !self.start_one(cx, &server.row.id, template, &plan).await? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Per plan: the default plan has the template's number, others what they ask for.
    fn wanted(&self, template: &Template) -> BTreeMap<String, i64> {
        let settings = &self.core.settings;
        let mut wanted = BTreeMap::new();
        for plan in settings.plans.iter().filter(|plan| plan.server == freehold_api::server::ServerKind::Shared) {
            let count =
                if plan.default { settings.stock_of(template.name.as_str()).max(plan.stock) } else { plan.stock };
            wanted.insert(plan.name.to_string(), i64::from(count));
        }
        wanted
    }

    /// A spare dedicated server has one slot: a database of the default template waits there, with the limits of the
    /// lowest dedicated plan, so that a create is a commit there too. For another template or plan it gives way.
    fn wanted_by_one(&self, template: &Template) -> BTreeMap<String, i64> {
        let settings = &self.core.settings;
        let dedicated = settings.plans.iter().filter(|plan| plan.server == freehold_api::server::ServerKind::Dedicated);
        let plan = dedicated.min_by_key(|plan| (plan.rank, plan.name.as_str()));
        let plan = plan.filter(|_| template.name == settings.tenants.default_template);
        plan.map(|plan| (plan.name.to_string(), 1)).into_iter().collect()
    }

    /// Starts the build when there is none. A failed one waits until somebody adds the template or checks the
    /// server again; one whose copies fail, for a time that grows.
    async fn is_built(&self, cx: &LoopCx, server: &str, template: &Template) -> Result<bool, Failure> {
        let found = templates::find_build(&self.core.store, server, template.name.as_str(), &template.version).await?;
        if let Some(build) = found {
            return Ok(build.state == "ready" && !build.resting);
        }
        cx.still_mine().await?;
        let mut tx = self.core.store.begin().await?;
        let started = template_build::start(&cx.engine(), &mut tx, server, template).await?;
        tx.commit().await?;
        go(cx, started);
        Ok(false)
    }

    /// False when the server is full.
    async fn start_one(&self, cx: &LoopCx, server: &str, template: &Template, plan: &str) -> Result<bool, Failure> {
        let minted = declare::mint(&self.core, template.manifest.password.length).await;
        cx.still_mine().await?;
        let mut tx = self.core.store.begin().await?;
        if servers::lock_free_slots(&mut tx, server).await?.is_none_or(|free| free <= 0) {
            return Ok(false);
        }
        let wanted = Wanted { server, template, plan, tenant: None, names: None };
        let row = declare::declare(&mut tx, &wanted, minted).await?;
        let new = New {
            subject: Some(format!("database:{}", row.id)),
            ..New::of("stock.build", BuildStep::Create { database: row.id })
        };
        let started = match cx.engine().start::<BuildStock>(&mut tx, new).await {
            Ok(started) => started,
            Err(StartError::Busy { .. }) => return Ok(true),
            Err(StartError::Store(error)) => return Err(error.into()),
        };
        // The wait for the server's row may have been long: another leader has counted since.
        cx.still_mine_in(&mut tx).await?;
        tx.commit().await?;
        cx.engine().go(started);
        Ok(true)
    }

    /// Stock and builds of versions that are not current any more.
    async fn clear_out(&self, cx: &LoopCx) -> Result<(), Failure> {
        let core = &self.core;
        let outdated = store::outdated(&core.store).await?;
        let displaced = store::displaced(&core.store).await?;
        for row in outdated.into_iter().chain(displaced) {
            cx.still_mine().await?;
            let mut tx = core.store.begin().await?;
            if row.state == "ready" && !store::begin_dropping(&mut tx, row.id).await? {
                continue;
            }
            let new = New {
                subject: Some(format!("database:{}", row.id)),
                ..New::of("stock.drop", DropStep::Remove { database: row.id })
            };
            match cx.engine().start::<DropStock>(&mut tx, new).await {
                Ok(started) => {
                    tx.commit().await?;
                    cx.engine().go(started);
                }
                Err(StartError::Busy { .. }) => {}
                Err(StartError::Store(error)) => return Err(error.into()),
            }
        }
        for build in templates::outdated_builds(&core.store).await? {
            cx.still_mine().await?;
            let mut tx = core.store.begin().await?;
            if !templates::begin_dropping(&mut tx, &build).await? {
                continue;
            }
            let subject = Some(format!("template:{}:{}:{}", build.server_id, build.name, &build.version[..12]));
            let step = RetireStep::Drop { server: build.server_id, name: build.name, version: build.version };
            match cx.engine().start::<Retire>(&mut tx, New { subject, ..New::of("template.retire", step) }).await {
                Ok(started) => {
                    tx.commit().await?;
                    cx.engine().go(started);
                }
                Err(StartError::Busy { .. }) => {}
                Err(StartError::Store(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn go(cx: &LoopCx, started: Option<Started>) {
    if let Some(started) = started {
        cx.engine().go(started);
    }
}
