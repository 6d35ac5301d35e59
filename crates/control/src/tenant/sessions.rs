//! Who is in a tenant's database, and ending them. Both work while another operation is stuck on the tenant.
//!
//! What a session runs is the tenant's data: it is left out unless a key that may read credentials asks for it.

use std::time::Duration;

use async_trait::async_trait;
use axum::extract::State;
use freehold_api::Page;
use freehold_api::id::TenantId;
use freehold_api::key::Scope;
use freehold_api::problem::Code;
use freehold_api::session::{ListSessions, Session, TerminateSessions, TerminatedSessions};
use freehold_drivers::server::sql::{Activity, Admin, Which};
use freehold_durable::{Cx, Failure, Operation, Outcome, steps};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{change, report};
use crate::audit::record::{Actor, Event};
use crate::http::access::Caller;
use crate::http::extract::{Id, Json, Query};
use crate::http::problem::Refused;
use crate::plane::{Answer, Core, Plane};
use crate::server::hands;
use crate::stock::declare::MAINTENANCE;
use crate::stock::store::{self as databases, DatabaseRow};

/// How long the server may take to tell.
const LOOK: Duration = Duration::from_secs(20);
const IDLE_MAX: u64 = 31_536_000;

/// List the sessions in a tenant's database
#[utoipa::path(get, path = "/v1/tenants/{id}/sessions", tag = "tenants",
    params(("id" = TenantId, Path, description = "The tenant's id"), ListSessions),
    responses((status = 200, description = "Those that are there now, the oldest first", body = Page<Session>)))]
pub async fn list(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<TenantId>,
    Query(asked): Query<ListSessions>,
) -> Answer<Json<Page<Session>>> {
    let query = asked.query.unwrap_or(false);
    if query && !caller.has(Scope::Credentials) {
        let detail = "what sessions run is the tenant's data: that needs a key with the scope credentials";
        return Err(Refused::new(Code::Denied, detail));
    }
    require_database(&plane, &id).await?;
    let event = query.then(|| Event::done(&caller.actor(), "tenant.sessions.queries", format!("tenant:{id}")));
    let step = LookStep::Look { tenant: id.to_string(), query };
    let started = report::start::<Look>(&plane, "tenant.sessions", step, &caller.actor(), event).await?;
    let items = report::read(&plane, "look at the sessions", &id, started).await?;
    Ok(Json(Page { items, next_cursor: None }))
}

/// End sessions in a tenant's database
#[utoipa::path(post, path = "/v1/tenants/{id}/sessions/terminate", tag = "tenants",
    params(("id" = TenantId, Path, description = "The tenant's id")), request_body = Option<TerminateSessions>,
    responses((status = 200, description = "Which are gone; a tenant that is not suspended may come back", body = TerminatedSessions)))]
pub async fn terminate(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<TenantId>,
    Json(body): Json<TerminateSessions>,
) -> Answer<Json<TerminatedSessions>> {
    if body.pid.is_some_and(|pid| pid < 1) {
        return Err(Refused::field("pid", "a pid is 1 or more; leave it out for all of the tenant's sessions"));
    }
    if body.idle_for_seconds.is_some_and(|seconds| !(1..=IDLE_MAX).contains(&seconds)) {
        return Err(Refused::field("idle_for_seconds", format!("use 1 to {IDLE_MAX}, or leave it out")));
    }
    require_database(&plane, &id).await?;
    let event = Event::done(&caller.actor(), "tenant.terminate_sessions.begin", format!("tenant:{id}"));
    let event = event.with(json!({"pid": body.pid, "idle_for_seconds": body.idle_for_seconds}));
    let step = TerminateStep::End { tenant: id.to_string(), pid: body.pid, idle_for_seconds: body.idle_for_seconds };
    let started =
        report::start::<Terminate>(&plane, "tenant.terminate_sessions", step, &caller.actor(), Some(event)).await?;
    Ok(Json(report::read(&plane, "end sessions", &id, started).await?))
}

async fn require_database(plane: &Plane, id: &TenantId) -> Answer<()> {
    let row = change::find(plane, id).await?;
    match databases::find_of_tenant(&plane.store, id.as_str()).await? {
        Some(found) if found.state == "claimed" => Ok(()),
        Some(_) | None => {
            Err(Refused::new(Code::WrongState, format!("tenant {id} is {} and has no database yet", row.state)))
        }
    }
}

steps! {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum LookStep {
        Look { tenant: String, query: bool },
    }
}

pub struct Look {
    pub core: Core,
}

#[async_trait]
impl Operation for Look {
    type Step = LookStep;

    fn kind(&self) -> &'static str {
        "tenant.sessions"
    }

    async fn run(&self, cx: &Cx, step: LookStep) -> Result<Outcome<LookStep>, Failure> {
        let LookStep::Look { tenant, query } = step;
        let seen = within(LOOK, async {
            let (row, admin) = enter(&self.core, cx, &tenant).await?;
            admin.sessions_in(&row.database, &row.owner, query).await.map_err(hands::failure)
        });
        let sessions: Vec<Session> = seen.await?.into_iter().map(session).collect();
        let operation = cx.operation;
        Ok(Outcome::done()
            .recording(move |tx| Box::pin(async move { Ok(report::save(tx, operation, &tenant, &sessions).await?) })))
    }

    fn undo(&self, _failed: &LookStep) -> Option<LookStep> {
        None
    }
}

steps! {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub enum TerminateStep {
        End { tenant: String, pid: Option<i32>, idle_for_seconds: Option<u64> },
    }
}

pub struct Terminate {
    pub core: Core,
}

#[async_trait]
impl Operation for Terminate {
    type Step = TerminateStep;

    fn kind(&self) -> &'static str {
        "tenant.terminate_sessions"
    }

    async fn run(&self, cx: &Cx, step: TerminateStep) -> Result<Outcome<TerminateStep>, Failure> {
        let TerminateStep::End { tenant, pid, idle_for_seconds } = step;
        let ended = within(LOOK, async {
            let (row, admin) = enter(&self.core, cx, &tenant).await?;
            let logins = databases::logins(&self.core.store, row.id).await?;
            // Freehold's own: a migration or a dump is under way there.
            let spared: Vec<&str> =
                logins.iter().filter(|login| login.purpose == MAINTENANCE).map(|login| login.role.as_str()).collect();
            let idle_for = idle_for_seconds.map(Duration::from_secs);
            let which = Which { database: &row.database, owner: &row.owner, spared: &spared, pid, idle_for };
            cx.still_mine().await?;
            admin.end_sessions(&which).await.map_err(hands::failure)
        });
        let ended = ended.await?;
        let (operation, actor) = (cx.operation, Actor::operation(cx.operation, None));
        let details = json!({"pid": pid, "idle_for_seconds": idle_for_seconds, "terminated": ended.ended.len(), "left": ended.left.len()});
        let body = TerminatedSessions { terminated: ended.ended, left: ended.left };
        Ok(Outcome::done().recording(move |tx| {
            Box::pin(async move {
                let event = Event::done(&actor, "tenant.terminate_sessions", format!("tenant:{tenant}"));
                event.with(details).save(&mut *tx).await?;
                Ok(report::save(tx, operation, &tenant, &body).await?)
            })
        }))
    }

    fn undo(&self, _failed: &TerminateStep) -> Option<TerminateStep> {
        None
    }
}

async fn enter(core: &Core, cx: &Cx, tenant: &str) -> Result<(DatabaseRow, Admin), Failure> {
    let row = databases::find_of_tenant(&core.store, tenant).await?;
    let row = row.ok_or_else(|| Failure::permanent("wrong_state", format!("tenant {tenant} has no database")))?;
    let server = hands::server(core, &row.server_id).await?;
    let admin = hands::admin(core, cx, &server, None).await?;
    Ok((row, admin))
}

async fn within<T>(limit: Duration, look: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match tokio::time::timeout(limit, look).await {
        Ok(seen) => seen.map_err(report::at_once),
        Err(_) => Err(Failure::permanent("server_unreachable", format!("no answer within {} s", limit.as_secs()))),
    }
}

fn session(seen: Activity) -> Session {
    Session {
        pid: seen.pid,
        user: seen.user,
        of_tenant: seen.of_tenant,
        application: seen.application,
        client: seen.client,
        state: seen.state,
        since: seen.since,
        state_since: seen.state_since,
        transaction_since: seen.transaction_since,
        waits_for: seen.waits_for,
        blocked_by: seen.blocked_by,
        query: seen.query,
    }
}
