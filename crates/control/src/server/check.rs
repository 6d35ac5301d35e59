//! `server.check`: health's look now, and then what registration looked at: privileges, settings, extensions, revokes.

use std::time::Duration;

use async_trait::async_trait;
use axum::extract::State;
use freehold_api::id::ServerId;
use freehold_api::problem::Code;
use freehold_api::server::Server;
use freehold_durable::{Cx, Failure, Operation, Outcome, State as OpState, steps};
use serde::{Deserialize, Serialize};

use super::{change, hands, list, register, store};
use crate::health;
use crate::http::access::Caller;
use crate::http::extract::{Id, Json};
use crate::http::problem::Refused;
use crate::operation::answer::failure_of;
use crate::plane::{Answer, Core, Plane};
use crate::schema::store as templates;

/// Facts and revokes come after the look, and have as long as a statement has.
const FACTS: Duration = Duration::from_secs(10);

/// Look at a server now, really
#[utoipa::path(post, path = "/v1/servers/{id}/check", tag = "servers", params(("id" = ServerId, Path, description = "The server's name")),
    responses((status = 200, description = "The server as it was just found", body = Server)))]
pub async fn check(State(plane): State<Plane>, caller: Caller, Id(id): Id<ServerId>) -> Answer<Json<Server>> {
    list::find(&plane.core, &id).await?;
    let mut tx = plane.store.begin().await?;
    let new = change::new("server.check", &id, Step::Look, &caller.actor());
    let started = change::started(&id, plane.engine.start::<Check>(&mut tx, new).await)?;
    tx.commit().await?;
    let operation = started.id;
    plane.engine.go(started);
    match plane.engine.wait(operation, Duration::from_secs(20)).await? {
        Some(row) if row.state == OpState::Failed => {
            let (code, message) = failure_of(&row);
            Err(Refused::new(Code::Prerequisite, format!("check server {id} ({code}): {message}")))
        }
        _ => {
            // What is wrong with its tenants is found and mended right after.
            plane.engine.wake("truth");
            Ok(Json(list::find(&plane.core, &id).await?))
        }
    }
}

steps! {
    /// What is left to do.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum Step {
        Look,
    }
}

pub struct Check {
    pub core: Core,
}

#[async_trait]
impl Operation for Check {
    type Step = Step;

    fn kind(&self) -> &'static str {
        "server.check"
    }

    async fn run(&self, cx: &Cx, _step: Step) -> Result<Outcome<Step>, Failure> {
        let id = register::subject(cx)?;
        // What is wrong is in the server's health now; a check that found something has done its work.
        if !health::now(&self.core, cx, &hands::server(&self.core, &id).await?).await? {
            return Ok(Outcome::done());
        }
        cx.fault("looked")?;
        let probe = register::look_again(&self.core, cx, &id);
        let facts = match tokio::time::timeout(FACTS, probe).await {
            Ok(Ok(facts)) => facts,
            Ok(Err(failure)) => {
                tracing::info!(server = id, %failure, "server check");
                return Ok(Outcome::done());
            }
            Err(_) => return Ok(Outcome::done()),
        };
        let fleet = self.core.fleet.clone();
        Ok(Outcome::done().recording(move |tx| {
            Box::pin(async move {
                store::record_facts(tx, &id, &facts).await?;
                templates::retry_failed(tx, Some(&id), None).await?;
                fleet.forget().await;
                Ok(())
            })
        }))
    }

    fn undo(&self, _failed: &Step) -> Option<Step> {
        None
    }
}
