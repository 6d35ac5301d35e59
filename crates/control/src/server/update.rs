//! `server.update`: another image, other limits, another capacity for a server that Freehold runs. It is stopped and started
//! again on its data, under a new certificate; meanwhile nobody is put there.
//!
//! prepare → apply → ready → resume. What does not come up goes back to what it was.

use std::time::Duration;

use async_trait::async_trait;
use axum::extract::State;
use axum::response::Response;
use freehold_api::id::ServerId;
use freehold_api::operation::Operation as OperationBody;
use freehold_api::problem::Code;
use freehold_api::server::{Server, ServerKind, ServerLimits, UpdateServer};
use freehold_durable::{Cx, Failure, New, Operation, OperationRow, Outcome, Resolution, steps};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::provision::{self, Seen, managed, server_of, server_of_id};
use super::{change, register};
use crate::audit::record::{Actor, Event};
use crate::http::access::Caller;
use crate::http::extract::{Id, Json, text};
use crate::http::problem::Refused;
use crate::http::request::Wait;
use crate::operation::answer::failure_of;
use crate::plane::{Answer, Core, Plane};
use crate::server_pool::definition::Definition;
use crate::server_pool::{platforms, secrets, service, store};

const LOOK: Duration = Duration::from_millis(300);
/// On the way back there is no deadline: a recovery may take hours.
const RECOVER_LOOK: Duration = Duration::from_secs(2);
/// A clean stop may take two minutes, and an image is pulled first.
const UPDATE_DEADLINE: Duration = Duration::from_secs(1800);

/// Change what a managed server is made of: it is restarted, its data stays
#[utoipa::path(post, path = "/v1/servers/{id}/update", tag = "servers", request_body = Option<UpdateServer>,
    params(("id" = ServerId, Path, description = "The server's name")),
    responses(
        (status = 200, description = "The server as it is now", body = Server),
        (status = 202, description = "It is still being restarted; look at the operation", body = OperationBody)))]
pub async fn update(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<ServerId>,
    Wait(wait): Wait,
    Json(body): Json<UpdateServer>,
) -> Answer<Response> {
    if let Some(image) = &body.image {
        text("image", image, 500)?;
    }
    let mut tx = plane.store.begin().await?;
    let row = change::lock(&mut tx, &id).await?;
    let Some(before) = row.definition.as_ref().map(|definition| definition.0.clone()) else {
        let detail = format!(
            "server {id} was registered; its operator updates it, and `freehold server add` takes another address or password"
        );
        return Err(Refused::new(Code::WrongState, detail));
    };
    let may =
        row.provisioned_at.is_some() && matches!(row.state.as_str(), "active" | "cordoned" | "failed" | "maintenance");
    if !may {
        return Err(change::wrong_state(
            &id,
            &row.state,
            "updated",
            "one that came into being and is not on its way out",
        ));
    }
    let after = updated(&before, &body, row.kind())?;
    store::begin_updating(&mut tx, id.as_str(), &after).await?;
    let capacity = body.capacity.map(|capacity| i32::try_from(capacity).unwrap_or(i32::MAX));
    let step = Step::Prepare { before: Box::new(before), capacity };
    let new = New { deadline: Some(UPDATE_DEADLINE), ..change::new("server.update", &id, step, &caller.actor()) };
    let started = change::started(&id, plane.engine.start::<Update>(&mut tx, new).await)?;
    let event = Event::done(&caller.actor(), "server.update.begin", format!("server:{id}"));
    event.with(serde_json::json!(body)).save(&mut *tx).await?;
    tx.commit().await?;
    plane.fleet.forget().await;
    change::finish(&plane, &id, "update", started, wait).await
}

fn updated(before: &Definition, body: &UpdateServer, kind: ServerKind) -> Answer<Definition> {
    let mut after = before.clone();
    if let Some(image) = &body.image {
        if before.image.is_none() {
            return Err(Refused::field("image", "this server runs this machine's programs, and no image"));
        }
        after.image = Some(image.clone());
    }
    if let Some(given) = &body.limits {
        let known = &before.limits;
        after.limits = ServerLimits {
            cpus: given.cpus.or(known.cpus),
            memory_bytes: given.memory_bytes.or(known.memory_bytes),
            reserved_cpus: given.reserved_cpus.or(known.reserved_cpus),
            reserved_memory_bytes: given.reserved_memory_bytes.or(known.reserved_memory_bytes),
        };
        crate::settings::check_limits(&after.limits).map_err(|why| Refused::field("limits", why))?;
    }
    if let Some(capacity) = body.capacity {
        super::patch::check_capacity(capacity, kind)?;
        after.capacity = capacity;
    }
    Ok(after)
}

steps! {
    /// What is left to do. `before`: what it was, for the way back; `capacity`: where another was asked for.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        /// A new certificate.
        Prepare { before: Box<Definition>, capacity: Option<i32> },
        /// Stopped, and started as it shall be.
        Apply { before: Box<Definition>, capacity: Option<i32> },
        /// Its admin is let in.
        Ready { before: Box<Definition>, capacity: Option<i32> },
        /// Looked at, and open to tenants again.
        Resume { before: Box<Definition>, capacity: Option<i32> },
        /// The way back: what it was is what it shall be.
        Revert { before: Box<Definition> },
        Reapply,
        Recover,
    }
}

pub struct Update {
    pub core: Core,
}

#[async_trait]
impl Operation for Update {
    type Step = Step;

    fn kind(&self) -> &'static str {
        "server.update"
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let core = &self.core;
        let row = managed(core, &register::subject(cx)?).await?;
        match step {
            Step::Prepare { before, capacity } => {
                let certificate = secrets::certificate(core, &row, row.dsn_seal_id).await?;
                cx.fault("minted")?;
                let next = Outcome::step(Step::Apply { before, capacity });
                Ok(next.recording(move |tx| {
                    Box::pin(async move {
                        if let Some(certificate) = certificate {
                            certificate.save(tx, &row.id).await?;
                        }
                        Ok(())
                    })
                }))
            }
            Step::Apply { before, capacity } => {
                self.apply(cx, &row).await?;
                Ok(Outcome::step(Step::Ready { before, capacity }))
            }
            // Whom it does not let in as it is now, it may let in as it was.
            Step::Ready { before, capacity } => {
                match provision::look(core, cx, &row).await.map_err(register::for_the_caller)? {
                    Seen::Ready => Ok(Outcome::step(Step::Resume { before, capacity })),
                    Seen::Absent => Ok(Outcome::again(LOOK, Step::Apply { before, capacity })),
                    Seen::Starting(why) => {
                        Ok(Outcome::again(LOOK, Step::Ready { before, capacity }).waiting_for("server_starting", why))
                    }
                }
            }
            Step::Resume { capacity, .. } => self.resume(cx, row.id.clone(), capacity).await,
            Step::Revert { before } => Ok(Outcome::step(Step::Reapply)
                .recording(move |tx| Box::pin(async move { Ok(store::revert(tx, &row.id, &before).await?) }))),
            Step::Reapply => {
                self.apply(cx, &row).await?;
                Ok(Outcome::step(Step::Recover))
            }
            Step::Recover => match provision::look(core, cx, &row).await? {
                Seen::Ready => self.resume(cx, row.id.clone(), None).await,
                Seen::Absent => Ok(Outcome::again(RECOVER_LOOK, Step::Reapply)),
                Seen::Starting(why) => {
                    Ok(Outcome::again(RECOVER_LOOK, Step::Recover).waiting_for("server_starting", why))
                }
            },
        }
    }

    fn undo(&self, failed: &Step) -> Option<Step> {
        match failed {
            Step::Prepare { before, .. }
            | Step::Apply { before, .. }
            | Step::Ready { before, .. }
            | Step::Resume { before, .. }
            | Step::Revert { before } => Some(Step::Revert { before: before.clone() }),
            Step::Reapply => Some(Step::Reapply),
            Step::Recover => Some(Step::Recover),
        }
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        let (code, _) = failure_of(operation);
        let actor = Actor::operation(operation.id, operation.request_id.clone());
        Event::failed(&actor, "server.update", format!("server:{}", server_of(operation)), &code).save(tx).await
    }

    async fn resolved(&self, tx: &mut PgConnection, step: &Step, operation: Uuid, as_: Resolution) -> sqlx::Result<()> {
        let Some(id) = server_of_id(tx, operation).await? else { return Ok(()) };
        if as_ != Resolution::Succeeded
            && let Some(Step::Revert { before }) = self.undo(step)
        {
            store::revert(tx, &id, &before).await?;
        }
        store::resume(tx, &id, &["maintenance"]).await.map(drop)
    }
}

impl Update {
    async fn apply(&self, cx: &Cx, row: &store::ManagedRow) -> Result<(), Failure> {
        let service = service::of(&self.core, row)?;
        cx.still_mine().await?;
        let ensured = self.core.platform(&row.platform)?.ensure(&service).await;
        cx.fault("applied")?;
        ensured.map_err(platforms::failure)
    }

    async fn resume(&self, cx: &Cx, id: String, capacity: Option<i32>) -> Result<Outcome<Step>, Failure> {
        let core = &self.core;
        let row = managed(core, &id).await?;
        let mut facts = register::look_again(core, cx, &id).await?;
        facts.findings.extend(provision::settings_in_force(core, cx, &row).await?);
        let (core, operation, undoing) = (core.clone(), cx.operation, cx.undoing);
        Ok(Outcome::done().recording(move |tx| {
            Box::pin(async move {
                register::record(tx, &id, &facts).await?;
                store::resume(tx, &id, &["maintenance"]).await?;
                if let Some(capacity) = capacity {
                    store::set_capacity(tx, &id, capacity).await?;
                }
                freehold_durable::wake_in(tx, "stock").await?;
                provision::told(&core, tx).await?;
                if !undoing {
                    let actor = Actor::operation(operation, None);
                    Event::done(&actor, "server.update", format!("server:{id}")).save(tx).await?;
                }
                Ok(())
            })
        }))
    }
}
