//! `pooler.start`: starts a pooler on the platform, from nothing to taking databases.
//!
//! key → ensure → ready, then it is active. What cannot be started is taken back whole: agent, PgBouncer and files go, the
//! key is revoked, the pooler is `failed` with the reason, and the next try goes by the same name.

use std::time::Duration;

use async_trait::async_trait;
use freehold_drivers::platform::PlatformErrorKind;
use freehold_drivers::pooler::agents::AgentSeen;
use freehold_durable::{Cx, Failure, Operation, OperationRow, Outcome, Resolution, steps};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::store::{self, ServiceRow};
use super::{STARTER, agents, grow, key};
use crate::audit::record::{Actor, Event};
use crate::operation::answer::failure_of;
use crate::plane::Core;

/// Between looks at a pooler that comes up.
const LOOK: Duration = Duration::from_millis(200);
pub const DEADLINE: Duration = Duration::from_secs(300);

steps! {
    /// What is left to do.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        /// What its agent shows the plane, sealed before anything exists.
        Key,
        /// The agent with its PgBouncer; at another port than these, which others had.
        Ensure { avoid: Vec<u16> },
        /// Its agent was heard of, with a PgBouncer that serves what it should.
        Ready,
        /// Takes it all back.
        Remove,
    }
}

pub struct Start {
    pub core: Core,
}

#[async_trait]
impl Operation for Start {
    type Step = Step;

    fn kind(&self) -> &'static str {
        "pooler.start"
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let core = &self.core;
        let row = managed(core, cx).await?;
        match step {
            Step::Key => {
                let (platform, _) = core.agents()?;
                let place = platform.place().await.map_err(agents::failure)?;
                cx.fault("placed")?;
                let minted = key::mint(&core.sealer)?;
                let actor = Actor::operation(cx.operation, None);
                Ok(Outcome::step(Step::Ensure { avoid: Vec::new() }).recording(move |tx| {
                    Box::pin(async move {
                        store::set_place(tx, &row.id, &place).await?;
                        Ok(minted.save(tx, &row.id, &actor).await?)
                    })
                }))
            }
            Step::Ensure { avoid } => self.ensure(cx, row, avoid).await,
            Step::Ready => self.ready(cx, row).await,
            Step::Remove => {
                let (platform, _) = core.agents_of(&row).await?;
                cx.still_mine().await?;
                platform.remove(&row.id).await.map_err(agents::failure)?;
                Ok(Outcome::done())
            }
        }
    }

    fn undo(&self, failed: &Step) -> Option<Step> {
        match failed {
            // Nothing is there of it; what has its name is somebody else's.
            Step::Key => None,
            Step::Ensure { .. } | Step::Ready | Step::Remove => Some(Step::Remove),
        }
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        let (code, reason) = failure_of(operation);
        let actor = Actor::operation(operation.id, operation.request_id.clone());
        let id = pooler_of(operation.subject.as_deref());
        end(tx, id, &reason, &actor).await?;
        Event::failed(&actor, "pooler.start", format!("pooler:{id}"), &code).save(tx).await
    }

    async fn resolved(&self, tx: &mut PgConnection, _: &Step, operation: Uuid, as_: Resolution) -> sqlx::Result<()> {
        let Some(id) = store::subject(tx, operation).await? else { return Ok(()) };
        match as_ {
            Resolution::Succeeded => {
                store::activate(tx, &id).await?;
            }
            Resolution::Failed | Resolution::Cancelled => {
                end(tx, &id, "resolved by hand as undone", &Actor::operation(operation, None)).await?;
            }
        }
        freehold_durable::wake_in(tx, STARTER).await
    }
}

impl Start {
    async fn ensure(&self, cx: &Cx, row: ServiceRow, mut avoid: Vec<u16>) -> Result<Outcome<Step>, Failure> {
        let core = &self.core;
        let (platform, settings) = core.agents_of(&row).await?;
        let agent = agents::agent(core, settings, &row)?;
        cx.still_mine().await?;
        let ensured = platform.ensure(&agent).await;
        cx.fault("ensured")?;
        match ensured {
            Ok(()) => Ok(Outcome::step(Step::Ready)),
            Err(error) if error.kind == PlatformErrorKind::PortTaken => {
                tracing::warn!(pooler = row.id, port = agent.port, %error, "another port is taken");
                platform.remove(&row.id).await.map_err(agents::failure)?;
                avoid.push(agent.port);
                let (host, ports, avoided) = (row.host.clone(), settings.ports, avoid.clone());
                Ok(Outcome::step(Step::Ensure { avoid }).recording(move |tx| {
                    Box::pin(async move {
                        store::lock(tx).await?;
                        let taken = store::ports(tx, &host, &row.id).await?;
                        let none =
                            || Failure::permanent("port_taken", format!("no port of {ports} is free for poolers"));
                        let port = grow::free_port(ports, &taken, &avoided).ok_or_else(none)?;
                        Ok(store::set_port(tx, &row.id, port).await?)
                    })
                }))
            }
            Err(error) => Err(agents::failure(error)),
        }
    }

    async fn ready(&self, cx: &Cx, row: ServiceRow) -> Result<Outcome<Step>, Failure> {
        let core = &self.core;
        let (platform, settings) = core.agents_of(&row).await?;
        if row.healthy && row.observed_generation.is_some() {
            let (actor, engine) = (Actor::operation(cx.operation, None), cx.engine());
            return Ok(Outcome::done().recording(move |tx| {
                Box::pin(async move {
                    store::activate(tx, &row.id).await?;
                    Event::done(&actor, "pooler.start", format!("pooler:{}", row.id)).save(&mut *tx).await?;
                    // Whoever has no pooler yet gets it.
                    engine.wake_in(tx, "pooler").await?;
                    Ok(engine.wake_in(tx, STARTER).await?)
                })
            }));
        }
        let agent = agents::agent(core, settings, &row)?;
        let why = match platform.observe(&agent).await.map_err(agents::failure)? {
            AgentSeen::Absent | AgentSeen::Running { current: false } => {
                return Ok(Outcome::again(LOOK, Step::Ensure { avoid: Vec::new() }));
            }
            AgentSeen::Down { reason } => format!("its agent is down: {reason}"),
            AgentSeen::Running { current: true } => {
                format!("its agent runs, and was not heard of at {} yet", agent.plane)
            }
        };
        let why = format!("pooler {} is starting: {why}", row.id);
        Ok(Outcome::again(LOOK, Step::Ready).waiting_for("pooler_starting", why))
    }
}

/// It is failed, and whoever has its key is let in nowhere.
async fn end(tx: &mut PgConnection, id: &str, reason: &str, actor: &Actor) -> sqlx::Result<()> {
    key::revoke(tx, id, actor).await?;
    store::fail(tx, id, reason).await
}

pub async fn managed(core: &Core, cx: &Cx) -> Result<ServiceRow, Failure> {
    let id = pooler_of(cx.subject.as_deref());
    let found = store::find(&core.store, id).await?;
    found.ok_or_else(|| Failure::permanent("pooler_missing", format!("pooler {id} is none that Freehold runs")))
}

pub fn pooler_of(subject: Option<&str>) -> &str {
    subject.and_then(|subject| subject.strip_prefix("pooler:")).unwrap_or_default()
}
