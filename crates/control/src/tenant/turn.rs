//! Suspend, resume, delete and undelete are one operation: logins are refused or admitted at the server, then the tenant's
//! new state is recorded. What they differ in is a [`Turn`]. The way back does the opposite and records nothing.

use std::marker::PhantomData;

use async_trait::async_trait;
use freehold_api::tenant::TenantState;
use freehold_durable::{Cx, Failure, Operation, OperationRow, Outcome, Resolution, Started, steps};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{change, fence, store};
use crate::audit::record::{Actor, Event};
use crate::plane::{Answer, Core, Plane};

steps! {
    /// What is left to do, with what is recorded once it is done.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        /// `grace` of a delete, in seconds.
        Refuse { #[serde(default)] reason: Option<String>, #[serde(default)] grace: u64 },
        Admit,
    }
}

impl Step {
    pub const REFUSE: Self = Self::Refuse { reason: None, grace: 0 };
}

#[async_trait]
pub trait Turn: Send + Sync + 'static {
    const KIND: &'static str;
    /// Whether it refuses logins; else it admits them.
    const REFUSES: bool;

    /// The tenant's new state, in the transaction that ends the step.
    async fn record(tx: &mut PgConnection, tenant: &str, step: &Step) -> sqlx::Result<()>;
}

pub struct Turning<T> {
    core: Core,
    turn: PhantomData<T>,
}

impl<T: Turn> Turning<T> {
    pub fn new(core: Core) -> Self {
        Self { core, turn: PhantomData }
    }

    /// Starts it in the caller's transaction, and says in the audit who began it.
    pub async fn start(
        plane: &Plane,
        tx: &mut PgConnection,
        tenant: &str,
        step: Step,
        actor: &Actor,
    ) -> Answer<Started> {
        let new = change::new::<Self>(T::KIND, tenant, step, actor);
        let started = change::started(tenant, plane.engine.start::<Self>(tx, new).await)?;
        Event::done(actor, &format!("{}.begin", T::KIND), format!("tenant:{tenant}")).save(tx).await?;
        Ok(started)
    }
}

#[async_trait]
impl<T: Turn> Operation for Turning<T> {
    type Step = Step;

    fn kind(&self) -> &'static str {
        T::KIND
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let tenant = fence::tenant(cx)?;
        match &step {
            Step::Refuse { .. } => fence::refuse(&self.core, cx, &tenant).await?,
            // Whoever was suspended when he was deleted comes back suspended.
            Step::Admit => {
                let row = store::find(&self.core.store, &tenant).await?;
                let admitted = row.is_some_and(|row| match row.state() {
                    TenantState::Active => true,
                    TenantState::Suspended => !cx.undoing,
                    TenantState::Deleted => row.state_before.as_deref() == Some("active"),
                    TenantState::Creating | TenantState::Failed => false,
                });
                if admitted {
                    fence::admit(&self.core, cx, &tenant).await?;
                }
            }
        }
        if cx.undoing {
            return Ok(Outcome::done());
        }
        let actor = Actor::operation(cx.operation, None);
        Ok(Outcome::done().recording(move |tx| {
            Box::pin(async move {
                T::record(tx, &tenant, &step).await?;
                Ok(Event::done(&actor, T::KIND, format!("tenant:{tenant}")).save(tx).await?)
            })
        }))
    }

    fn undo(&self, _failed: &Step) -> Option<Step> {
        Some(if T::REFUSES { Step::Admit } else { Step::REFUSE })
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        change::record_failure(tx, operation).await
    }

    async fn resolved(
        &self,
        tx: &mut PgConnection,
        step: &Step,
        operation: Uuid,
        resolution: Resolution,
    ) -> Result<(), sqlx::Error> {
        let forth = matches!(step, Step::Refuse { .. }) == T::REFUSES;
        match (resolution, tenant_of(tx, operation).await?) {
            (Resolution::Succeeded, Some(tenant)) if forth => T::record(tx, &tenant, step).await,
            _ => Ok(()),
        }
    }
}

/// The tenant that an operation is about, by its row.
pub async fn tenant_of(tx: &mut PgConnection, operation: Uuid) -> Result<Option<String>, sqlx::Error> {
    let sql = "SELECT substr(subject, 8) FROM operation WHERE id = $1 AND subject LIKE 'tenant:%'";
    sqlx::query_scalar(sql).bind(operation).fetch_optional(tx).await
}
