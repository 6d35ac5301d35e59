//! The table of contents of what runs by itself. Loops take no input: a signal or a period wakes them, and they look.

use std::time::Duration;

use async_trait::async_trait;
use freehold_durable::{Builder, Failure, Loop, LoopCx};

use crate::audit::checkpoint::Anchor;
use crate::audit::retention::Retention;
use crate::audit::seal::Seal;
use crate::audit::stream::file::ToFile;
use crate::audit::stream::url::ToUrl;
use crate::health::Health;
use crate::http::idempotency;
use crate::plane::Core;
use crate::pooler::external::External;
use crate::pooler::keep::Keep;
use crate::pooler::managed::grow::Grow as GrowPoolers;
use crate::quota::Quota;
use crate::server_pool::grow::Grow;
use crate::stats::Stats;
use crate::stock::fill::Fill;
use crate::stock::note::Note;
use crate::tenant::credential::due::RetireDue;
use crate::tenant::movability::nightly::Nightly;
use crate::tenant::moving::finish::FinishDue;
use crate::tenant::plan::due::ChangeDue;
use crate::tenant::purge::PurgeDue;
use crate::tenant::report;
use crate::truth::Truth;

pub fn register(engine: Builder, core: &Core) -> Builder {
    let core = || core.clone();
    engine
        .register_loop(Fill::new(core()))
        .register_loop(Note { core: core() })
        .register_loop(Health { core: core() })
        .register_loop(Truth { core: core() })
        .register_loop(Stats { core: core() })
        .register_loop(Quota { core: core() })
        .register_loop(Nightly { core: core() })
        .register_loop(PurgeDue { core: core() })
        .register_loop(RetireDue { core: core() })
        .register_loop(FinishDue { core: core() })
        .register_loop(ChangeDue { core: core() })
        .register_loop(Grow { core: core() })
        .register_loop(Keep { core: core() })
        .register_loop(External::new(core()))
        .register_loop(GrowPoolers { core: core() })
        .register_loop(Seal { core: core() })
        .register_loop(Anchor::new(core()))
        .register_loop(Retention { core: core() })
        .register_loop(ToFile { core: core() })
        .register_loop(ToUrl::new(core()))
        .register_loop(Prune { core: core() })
}

/// Removes what is kept for a time only: finished operations, and answers for repeated requests.
struct Prune {
    core: Core,
}

#[async_trait]
impl Loop for Prune {
    fn name(&self) -> &'static str {
        "prune"
    }
    fn period(&self) -> Duration {
        Duration::from_secs(600)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        let keep = Duration::from_secs(u64::from(self.core.settings.operations.keep_days) * 24 * 3600);
        cx.engine().prune(keep).await?;
        while idempotency::prune(&self.core.store).await? > 0 {
            cx.still_mine().await?;
        }
        report::prune(&self.core.store).await?;
        Ok(())
    }
}
