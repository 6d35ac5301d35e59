//! Starts a pooler by hand: `freehold pooler add NAME --platform process`.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use freehold_api::id::OperationId;
use freehold_api::pooler::{AddPooler, Pooler, PoolerKind};
use freehold_api::problem::Code;
use freehold_durable::State as OpState;

use super::grow::{self, Begun};
use super::store;
use crate::audit::record::Actor;
use crate::http::extract::Json;
use crate::http::problem::Refused;
use crate::operation::answer;
use crate::plane::{Answer, Plane};
use crate::pooler::{add, list};
use crate::tenant::change::refused_by;

pub async fn add(plane: &Plane, actor: &Actor, body: &AddPooler, wait: Duration) -> Answer<Response> {
    let capacity = check(plane, body)?;
    let id = &body.id;
    let mut tx = plane.store.begin().await?;
    store::lock(&mut tx).await?;
    if let Some(known) =
        crate::pooler::store::find(&mut *tx, id.as_str()).await?.filter(|known| known.state != "failed")
    {
        let same =
            known.platform.is_some() && body.capacity.is_none_or(|_| i64::from(known.capacity) == i64::from(capacity));
        if !same {
            let detail = format!("pooler {id} is registered with other values, and its address never changes");
            return Err(Refused::new(Code::PoolerExists, format!("{detail}; choose another name")));
        }
        return Ok((StatusCode::OK, Json(Pooler::from(known))).into_response());
    }
    let maximum = plane.settings.pooler.platform.as_ref().map_or(0, |platform| platform.maximum_poolers);
    if store::supply(&mut *tx).await?.managed >= i64::from(maximum) {
        let detail = format!("there are {maximum} poolers on the platform already (pooler.platform.maximum_poolers)");
        return Err(Refused::new(Code::WrongState, detail));
    }
    let begun = grow::begin(&plane.core, &plane.engine, &mut tx, id.as_str(), capacity, actor, "by hand").await;
    let started = match begun.map_err(|failure| Refused::new(Code::Prerequisite, failure.message))? {
        Begun::Started(started) => started,
        Begun::Taken => {
            let detail = format!("pooler {id} is being started or taken back; try again");
            return Err(Refused::new(Code::Busy, detail));
        }
        Begun::NoPort(ports) => {
            let detail = format!("no port of {ports} is free for pooler {id} (pooler.platform.ports)");
            return Err(Refused::new(Code::NoRoom, detail));
        }
    };
    tx.commit().await?;
    let operation = started.id;
    plane.engine.go(started);
    match plane.engine.wait(operation, wait).await? {
        Some(row) if row.state == OpState::Succeeded => {
            Ok((StatusCode::CREATED, Json(Pooler::from(list::find(&plane.core, id).await?))).into_response())
        }
        Some(row) if row.state.is_over() => Err(refused_by(&format!("start pooler {id}"), &row)),
        _ => Ok(answer::accepted(answer::find(plane, OperationId(operation)).await?)),
    }
}

/// Its capacity. What one that Freehold starts gets from the settings is not said.
fn check(plane: &Plane, body: &AddPooler) -> Answer<u32> {
    let Some(settings) = &plane.settings.pooler.platform else {
        let (field, why) = match body.platform {
            Some(_) => ("platform", "the settings have no [pooler.platform]; register a pooler by its address instead"),
            None => ("address", "expected one host:port; without it the settings need [pooler.platform]"),
        };
        return Err(Refused::field(field, why));
    };
    if let Some(platform) = body.platform.filter(|platform| *platform != settings.kind) {
        let detail =
            format!("{} is not where the settings start poolers; use {}", platform.as_str(), settings.kind.as_str());
        return Err(Refused::field("platform", detail));
    }
    if body.kind == Some(PoolerKind::Pgcat) {
        return Err(Refused::field("kind", "Freehold starts PgBouncer alone; leave kind out"));
    }
    for (field, is_said) in [
        ("address", body.address.is_some()),
        ("sslmode", body.sslmode.is_some()),
        ("ca_certificate", body.ca_certificate.is_some()),
    ] {
        if is_said {
            let detail = "one that Freehold starts has it from the setting pooler.platform; leave it out";
            return Err(Refused::field(field, detail));
        }
    }
    add::capacity_of(plane, body)
}
