//! The quota loop: who reached 80 or 100 percent of what his plan grants, told once for each time.
//!
//! Storage and connections are compared with what the stats loop last saw: a minute, and for sizes some minutes, may have
//! passed. PostgreSQL itself enforces connections; of storage nothing is enforced but by suspending, where the plan says so.
//! A tenant that was suspended for its size is resumed by a person: nothing shrinks while nobody can log in, and who is
//! resumed while still above is not suspended again before he was below.

mod judge;
mod store;

use std::time::Duration;

use async_trait::async_trait;
use freehold_api::plan::OnStorageQuota;
use freehold_api::tenant::TenantState;
use freehold_durable::{Failure, Loop, LoopCx, StartError};
use serde_json::json;

use crate::audit::record::{Actor, Event};
use crate::plane::Core;
use crate::tenant::suspend::Suspending;
use crate::tenant::turn::{Step, Turn, Turning};
use crate::tenant::{change, store as tenants};
use judge::{Level, Resource};
use store::Usage;

pub struct Quota {
    pub core: Core,
}

#[async_trait]
impl Loop for Quota {
    fn name(&self) -> &'static str {
        "quota"
    }
    fn period(&self) -> Duration {
        Duration::from_secs(self.core.settings.stats.period_seconds)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        for usage in store::near(&self.core).await? {
            let plan = self.core.plan(&usage.plan);
            let of_connections = Some(u64::from(plan.connection_limit));
            self.compare(cx, &usage, Resource::Storage, usage.size_bytes, plan.storage_quota, usage.storage_level)
                .await?;
            let open = Some(i64::from(usage.connections));
            self.compare(cx, &usage, Resource::Connections, open, of_connections, usage.connections_level).await?;
        }
        for tenant in store::to_suspend(&self.core.store).await? {
            self.suspend(cx, &tenant).await?;
        }
        Ok(())
    }
}

impl Quota {
    async fn compare(
        &self,
        cx: &LoopCx,
        usage: &Usage,
        resource: Resource,
        used: Option<i64>,
        quota: Option<u64>,
        level: Option<i32>,
    ) -> Result<(), Failure> {
        let before = Level::of(level);
        // What was never measured crosses nothing.
        let Some(used) = used.and_then(|used| u64::try_from(used).ok()) else { return Ok(()) };
        let now = before.after(used, quota);
        if now == before {
            return Ok(());
        }
        let plan = self.core.plan(&usage.plan);
        let suspend = (resource, now, plan.on_storage_quota, usage.state.as_str())
            == (Resource::Storage, Level::Reached, OnStorageQuota::Suspend, "active");
        let mut tx = self.core.store.begin().await?;
        if !store::set_level(&mut tx, &usage.tenant, resource, before, now, suspend).await? {
            return Ok(());
        }
        let action = match now {
            _ if now < before => "tenant.quota.relieve",
            Level::Near => "tenant.quota.warn",
            Level::Below | Level::Reached => "tenant.quota.reach",
        };
        let details = json!({"resource": resource.as_str(), "percent": now.percent(), "used": used, "quota": quota,
            "plan": usage.plan, "suspend": suspend});
        Event::done(&Actor::of_loop("quota"), action, format!("tenant:{}", usage.tenant))
            .with(details)
            .save(&mut *tx)
            .await?;
        cx.still_mine_in(&mut tx).await?;
        tx.commit().await?;
        let percent = now.percent().to_string();
        metrics::counter!("freehold_quota_crossings_total", "resource" => resource.as_str(), "percent" => percent)
            .increment(1);
        match now > before {
            true => tracing::warn!(
                tenant.id = usage.tenant,
                resource = resource.as_str(),
                percent = now.percent(),
                used,
                quota,
                "quota"
            ),
            false => tracing::info!(
                tenant.id = usage.tenant,
                resource = resource.as_str(),
                percent = now.percent(),
                used,
                quota,
                "quota: below again"
            ),
        }
        Ok(())
    }

    /// As soon as nothing else works on the tenant; what a person did meanwhile has the say.
    async fn suspend(&self, cx: &LoopCx, tenant: &str) -> Result<(), Failure> {
        let mut tx = self.core.store.begin().await?;
        let Some(row) = tenants::lock(&mut tx, tenant).await? else { return Ok(()) };
        let plan = self.core.plan(&row.plan);
        let still = row.state() == TenantState::Active && plan.on_storage_quota == OnStorageQuota::Suspend;
        let mut started = None;
        if still {
            let quota = plan.storage_quota.unwrap_or(0);
            let reason = format!("its database reached the storage quota of plan {}: {quota} bytes", row.plan);
            let actor = Actor::of_loop("quota");
            let step = Step::Refuse { reason: Some(reason), grace: 0 };
            let new = change::new::<Turning<Suspending>>(Suspending::KIND, tenant, step, &actor);
            match cx.engine().start::<Turning<Suspending>>(&mut tx, new).await {
                Ok(begun) => started = Some(begun),
                Err(StartError::Busy { .. }) => return Ok(()),
                Err(StartError::Store(error)) => return Err(error.into()),
            }
            Event::done(&actor, "tenant.suspend.begin", format!("tenant:{tenant}")).save(&mut *tx).await?;
        }
        store::suspend_done(&mut tx, tenant).await?;
        cx.still_mine_in(&mut tx).await?;
        tx.commit().await?;
        if let Some(started) = started {
            cx.engine().go(started);
        }
        Ok(())
    }
}
