//! `pooler.remove`: ends a pooler that Freehold runs, once it has no databases: agent, PgBouncer, files and key go.
//!
//! active | cordoned | failed → removing → gone; where it cannot be ended it is cordoned, and runs on.

use std::time::Duration;

use async_trait::async_trait;
use freehold_durable::{
    Cx, Engine, Failure, New, Operation, OperationRow, Outcome, Resolution, StartError, Started, steps,
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::start::{managed, pooler_of};
use super::{STARTER, agents, key, store};
use crate::audit::record::{Actor, Event};
use crate::plane::Core;
use crate::pooler::store as poolers;
use crate::tenant::change::record_failure;

const DEADLINE: Duration = Duration::from_secs(300);

steps! {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        /// There is no way back.
        End,
    }
}

pub struct Remove {
    pub core: Core,
}

/// The caller has seen that it has no databases, and holds its row. None: it is being started or ended.
pub async fn begin(
    engine: &Engine,
    tx: &mut PgConnection,
    id: &str,
    actor: &Actor,
) -> Result<Option<Started>, StartError> {
    if !store::begin_removing(tx, id).await? {
        return Ok(None);
    }
    let subject = format!("pooler:{id}");
    let new = New {
        subject: Some(subject.clone()),
        deadline: Some(DEADLINE),
        requested_by: Some(actor.reference.clone()),
        request_id: actor.request.clone(),
        ..New::of("pooler.remove", Step::End)
    };
    let started = engine.start::<Remove>(tx, new).await?;
    Event::done(actor, "pooler.remove.begin", subject).save(tx).await?;
    Ok(Some(started))
}

#[async_trait]
impl Operation for Remove {
    type Step = Step;

    fn kind(&self) -> &'static str {
        "pooler.remove"
    }

    async fn run(&self, cx: &Cx, _: Step) -> Result<Outcome<Step>, Failure> {
        let core = &self.core;
        let row = managed(core, cx).await?;
        // Of one that was never begun nothing is there; what has its name may be somebody else's.
        if row.place.is_some() {
            let (platform, _) = core.agents_of(&row).await?;
            cx.still_mine().await?;
            platform.remove(&row.id).await.map_err(agents::failure)?;
        }
        cx.fault("ended")?;
        let (core, actor) = (core.clone(), Actor::operation(cx.operation, None));
        Ok(Outcome::done().recording(move |tx| {
            Box::pin(async move {
                gone(tx, &row.id, &actor).await?;
                core.poolers.poke();
                Ok(freehold_durable::wake_in(tx, STARTER).await?)
            })
        }))
    }

    fn undo(&self, _: &Step) -> Option<Step> {
        None
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        store::keep(tx, pooler_of(operation.subject.as_deref())).await?;
        record_failure(tx, operation).await
    }

    async fn resolved(&self, tx: &mut PgConnection, _: &Step, operation: Uuid, as_: Resolution) -> sqlx::Result<()> {
        let Some(id) = store::subject(tx, operation).await? else { return Ok(()) };
        match as_ {
            Resolution::Succeeded => gone(tx, &id, &Actor::operation(operation, None)).await,
            Resolution::Failed | Resolution::Cancelled => store::keep(tx, &id).await,
        }
    }
}

async fn gone(tx: &mut PgConnection, id: &str, actor: &Actor) -> sqlx::Result<()> {
    key::revoke(tx, id, actor).await?;
    poolers::remove(tx, id).await?;
    Event::done(actor, "pooler.remove", format!("pooler:{id}")).save(tx).await
}
