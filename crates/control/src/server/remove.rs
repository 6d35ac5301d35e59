//! `server.remove` and `server.purge`: a server that has no tenants goes. Of one that Freehold runs, the service goes and the
//! data stays until a purge; one that was registered is forgotten, after what Freehold made there is taken away.
//!
//! active | cordoned | failed → draining → removed (→ purged). Refused while tenants are there.

use std::time::Duration;

use async_trait::async_trait;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use freehold_api::id::ServerId;
use freehold_api::operation::Operation as OperationBody;
use freehold_api::problem::Code;
use freehold_api::server::{RemoveServer, Server};
use freehold_durable::{Cx, Failure, LoopCx, New, Operation, OperationRow, Outcome, Resolution, StartError, steps};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::provision::{server_of, server_of_id};
use super::store::ServerRow;
use super::{change, clear, hands, list, register};
use crate::audit::record::{Actor, Event};
use crate::http::access::Caller;
use crate::http::extract::{Id, Json, Query};
use crate::http::problem::Refused;
use crate::http::request::Wait;
use crate::operation::answer::failure_of;
use crate::plane::{Answer, Core, Plane};
use crate::server_pool::{LOOP, platforms, service, store};

/// Between looks at what is still being made there.
const LOOK: Duration = Duration::from_millis(500);
const REMOVE_DEADLINE: Duration = Duration::from_secs(900);

/// Remove a server that has no tenants
#[utoipa::path(delete, path = "/v1/servers/{id}", tag = "servers",
    params(("id" = ServerId, Path, description = "The server's name"), RemoveServer),
    responses(
        (status = 200, description = "The server, removed; its data is kept unless it was purged", body = Server),
        (status = 202, description = "It is still being removed; look at the operation", body = OperationBody)))]
pub async fn remove(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<ServerId>,
    Query(query): Query<RemoveServer>,
    Wait(wait): Wait,
) -> Answer<Response> {
    if query.confirm.as_deref() != Some(id.as_str()) {
        let detail = format!("removing server {id} takes ?confirm={id}");
        return Err(Refused::new(Code::ConfirmationRequired, detail));
    }
    let purge = query.purge.unwrap_or(false);
    let mut tx = plane.store.begin().await?;
    let row = change::lock(&mut tx, &id).await?;
    if purge && row.platform.is_none() {
        let detail = "purge is for servers that Freehold runs; the data of one that was registered is its operator's";
        return Err(Refused::field("purge", detail));
    }
    let started = match (row.state.as_str(), purge) {
        ("removed", false) => return Ok((StatusCode::OK, Json(list::find(&plane.core, &id).await?)).into_response()),
        ("removed", true) => {
            Event::done(&caller.actor(), "server.purge.begin", format!("server:{id}")).save(&mut *tx).await?;
            let new = change::new("server.purge", &id, PurgeStep::Data, &caller.actor());
            change::started(&id, plane.engine.start::<Purge>(&mut tx, new).await)?
        }
        _ => {
            let new = begin(&mut tx, &row, purge, &caller.actor()).await?;
            let started = change::started(&id, plane.engine.start::<Remove>(&mut tx, new).await)?;
            let event = Event::done(&caller.actor(), "server.remove.begin", format!("server:{id}"));
            event.with(serde_json::json!({"purge": purge})).save(&mut *tx).await?;
            started
        }
    };
    tx.commit().await?;
    plane.fleet.forget().await;
    change::finish(&plane, &id, "remove", started, wait).await
}

/// From now on nobody is put there. Refuses while tenants are.
async fn begin(tx: &mut PgConnection, row: &ServerRow, purge: bool, actor: &Actor) -> Answer<New<Step>> {
    let id = &row.id;
    let tenants = store::tenants(tx, id).await?;
    if tenants > 0 {
        let detail = match store::moving(tx, id).await? {
            moving if moving == tenants => format!(
                "{moving} tenants are on their way to server {id}, or have left it and it is still kept what they had there: \
                 wait until their moves are over, or end each (freehold tenant move ID --finish)"
            ),
            _ => format!(
                "{tenants} tenants live on server {id}, deleted ones in their grace period included; `freehold tenant list --server {id}` shows them: \
                 move them elsewhere (freehold server drain {id}), or purge them first"
            ),
        };
        return Err(Refused::new(Code::WrongState, detail));
    }
    if row.state == "provisioning" {
        let detail = format!("server {id} is being made; cancel that operation instead");
        return Err(Refused::new(Code::WrongState, detail));
    }
    store::begin_removing(tx, id).await?;
    let id = id.parse().map_err(|error| Refused::field("id", format!("{error}")))?;
    Ok(New { deadline: Some(REMOVE_DEADLINE), ..change::new("server.remove", &id, Step::Clear { purge }, actor) })
}

steps! {
    /// What is left to do.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        /// What Freehold made there for nobody: stock, built templates, a login of its own.
        Clear { purge: bool },
        /// The service of a managed server.
        Service { purge: bool },
        /// Its data. There is no way back.
        Data,
        /// The way back: the service runs again, and takes tenants as before.
        Restore,
    }
}

pub struct Remove {
    pub core: Core,
}

#[async_trait]
impl Operation for Remove {
    type Step = Step;

    fn kind(&self) -> &'static str {
        "server.remove"
    }

    async fn run(&self, cx: &Cx, step: Step) -> Result<Outcome<Step>, Failure> {
        let core = &self.core;
        let id = register::subject(cx)?;
        match step {
            Step::Clear { purge } => {
                let server = hands::server(core, &id).await?;
                if let Some(what) = clear::in_flight(core, cx, &server).await? {
                    return Ok(Outcome::again(LOOK, Step::Clear { purge }).waiting_for("server_in_use", what));
                }
                clear::away(core, cx, &server).await?;
                // Of one that Freehold runs nothing was taken away yet: it goes with the service, or stays where that does.
                let is_clear = server.platform.is_none();
                Ok(Outcome::step(Step::Service { purge }).recording(move |tx| {
                    Box::pin(async move {
                        nobody_came(tx, &id).await?;
                        if is_clear {
                            store::forget_unowned(tx, &id).await?;
                        }
                        Ok(())
                    })
                }))
            }
            Step::Service { purge } => {
                // Of one that never came into being nothing is there; what has its name may be somebody else's.
                if let Some(row) = store::find(&core.store, &id).await?.filter(|row| row.provisioned_at.is_some()) {
                    cx.still_mine().await?;
                    core.platform(&row.platform)?.remove(&id).await.map_err(platforms::failure)?;
                }
                let (core, actor) = (core.clone(), Actor::operation(cx.operation, None));
                let next = if purge { Outcome::step(Step::Data) } else { Outcome::done() };
                Ok(next.recording(move |tx| {
                    Box::pin(async move {
                        nobody_came(tx, &id).await?;
                        store::forget_unowned(tx, &id).await?;
                        store::removed(tx, &id).await?;
                        core.fleet.forget().await;
                        freehold_durable::wake_in(tx, LOOP).await?;
                        Ok(Event::done(&actor, "server.remove", format!("server:{id}")).save(tx).await?)
                    })
                }))
            }
            Step::Data => purge_data(core, cx, id).await,
            Step::Restore => {
                if let Some(row) = store::find(&core.store, &id).await?.filter(|row| row.provisioned_at.is_some()) {
                    let service = service::of(core, &row)?;
                    cx.still_mine().await?;
                    core.platform(&row.platform)?.ensure(&service).await.map_err(platforms::failure)?;
                }
                let core = core.clone();
                Ok(Outcome::done().recording(move |tx| {
                    Box::pin(async move {
                        store::resume(tx, &id, &["draining"]).await?;
                        core.fleet.forget().await;
                        Ok(())
                    })
                }))
            }
        }
    }

    fn undo(&self, failed: &Step) -> Option<Step> {
        match failed {
            Step::Clear { .. } | Step::Service { .. } | Step::Restore => Some(Step::Restore),
            Step::Data => None,
        }
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        failed(tx, operation).await
    }

    async fn resolved(&self, tx: &mut PgConnection, _: &Step, operation: Uuid, as_: Resolution) -> sqlx::Result<()> {
        let Some(id) = server_of_id(tx, operation).await? else { return Ok(()) };
        match as_ {
            Resolution::Succeeded => {
                store::forget_unowned(tx, &id).await?;
                store::removed(tx, &id).await.map(drop)
            }
            Resolution::Failed | Resolution::Cancelled => store::resume(tx, &id, &["draining"]).await.map(drop),
        }
    }
}

steps! {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum PurgeStep {
        /// There is no way back.
        Data,
    }
}

/// `server.purge`: the data of a server that was removed.
pub struct Purge {
    pub core: Core,
}

#[async_trait]
impl Operation for Purge {
    type Step = PurgeStep;

    fn kind(&self) -> &'static str {
        "server.purge"
    }

    async fn run(&self, cx: &Cx, _: PurgeStep) -> Result<Outcome<PurgeStep>, Failure> {
        purge_data(&self.core, cx, register::subject(cx)?).await
    }

    fn undo(&self, _: &PurgeStep) -> Option<PurgeStep> {
        None
    }

    async fn failed(&self, tx: &mut PgConnection, operation: &OperationRow) -> Result<(), sqlx::Error> {
        failed(tx, operation).await
    }

    async fn resolved(
        &self,
        tx: &mut PgConnection,
        _: &PurgeStep,
        operation: Uuid,
        as_: Resolution,
    ) -> sqlx::Result<()> {
        match (as_, server_of_id(tx, operation).await?) {
            (Resolution::Succeeded, Some(id)) => store::purged(tx, &id).await,
            _ => Ok(()),
        }
    }
}

async fn purge_data<S: Send + 'static>(core: &Core, cx: &Cx, id: String) -> Result<Outcome<S>, Failure> {
    let Some(row) = store::find(&core.store, &id).await? else { return Ok(Outcome::done()) };
    if row.state != "removed" {
        return Err(Failure::permanent("not_removed", format!("server {id} is {} again", row.state)));
    }
    cx.still_mine().await?;
    core.platform(&row.platform)?.purge(&id).await.map_err(platforms::failure)?;
    let actor = Actor::operation(cx.operation, None);
    Ok(Outcome::done().recording(move |tx| {
        Box::pin(async move {
            store::purged(tx, &id).await?;
            Ok(Event::done(&actor, "server.purge", format!("server:{id}")).save(tx).await?)
        })
    }))
}

/// A create that had chosen the server before it was draining may have come through since.
async fn nobody_came(tx: &mut PgConnection, id: &str) -> Result<(), Failure> {
    match store::tenants(tx, id).await? {
        0 => Ok(()),
        tenants => Err(Failure::permanent("tenants_there", format!("{tenants} tenants live on server {id} now"))),
    }
}

async fn failed(tx: &mut PgConnection, operation: &OperationRow) -> sqlx::Result<()> {
    let (code, _) = failure_of(operation);
    let actor = Actor::operation(operation.id, operation.request_id.clone());
    Event::failed(&actor, &operation.kind, format!("server:{}", server_of(operation)), &code).save(tx).await
}

/// Managed servers that failed long ago and have no tenants.
pub async fn failed_long_ago(core: &Core, cx: &LoopCx) -> Result<(), Failure> {
    let after = core.settings.servers.remove_failed_after_seconds;
    for id in store::failed_long_ago(&core.store, after).await? {
        cx.still_mine().await?;
        let mut tx = core.store.begin().await?;
        let Some(row) = super::store::lock(&mut tx, &id).await?.filter(|row| row.state == "failed") else { continue };
        let actor = Actor::of_loop(LOOP);
        // Somebody came meanwhile: not now.
        let Ok(new) = begin(&mut tx, &row, false, &actor).await else { continue };
        match cx.engine().start::<Remove>(&mut tx, new).await {
            Ok(started) => {
                Event::done(&actor, "server.remove.begin", format!("server:{id}")).save(&mut *tx).await?;
                tx.commit().await?;
                core.fleet.forget().await;
                tracing::info!(server = id, "it failed long ago and has no tenants: it is removed, its data is kept");
                cx.engine().go(started);
            }
            Err(StartError::Busy { .. }) => {}
            Err(StartError::Store(error)) => return Err(error.into()),
        }
    }
    Ok(())
}
