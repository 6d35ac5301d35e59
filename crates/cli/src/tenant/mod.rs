//! `freehold tenant …`: the verbs, and how one tenant is shown.

mod adopt;
mod change;
mod connect;
mod create;
mod diagnose;
mod import;
mod list;
mod movability;
mod moving;
mod plan;
mod remove;
mod sessions;

use freehold_api::TenantId;
use freehold_api::movability::{MoveMethod, TenantMovability};
use freehold_api::stats::TenantUsage;
use freehold_api::tenant::Tenant;
use serde_json::Value;

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::{Failure, Outcome};
use crate::output::bytes;

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Create a tenant with its own database, and print how to connect
    Create(create::Create),
    /// Take over a database that is there already, in place
    Adopt(adopt::Adopt),
    /// Copy a database from a server that is not Freehold's, which goes on meanwhile, into a new tenant; without --from, show what a tenant came from
    Import(import::ImportArgs),
    /// List tenants
    List(list::List),
    /// Show one tenant
    Show {
        /// The tenant
        id: TenantId,
    },
    /// Print how its application connects
    Url(connect::UrlArgs),
    /// Open psql as the tenant
    Psql(connect::Psql),
    /// Change name, labels or deletion protection
    Update(change::Update),
    /// Refuse its logins and end its sessions, at once
    Suspend(change::Suspend),
    /// Let a suspended tenant log in again
    Resume(change::Resume),
    /// Find out why it does not get in; exit 12 where a link is broken, 10 where one is notable
    Diagnose {
        /// The tenant
        id: TenantId,
    },
    /// Judge whether it can be moved, how, and what is in the way; exit 12 where it cannot, 11 where only with writes stopped, 10 where something slows it
    Movability(movability::MovabilityArgs),
    /// Move it to another server while it is written to, or back; without an option, show how its move stands
    Move(moving::MoveArgs),
    /// Give it another plan, now or at a time; without a plan, show the one that it has and the one that it gets
    Plan(plan::PlanArgs),
    /// List who is connected to its database
    Sessions(sessions::Sessions),
    /// End sessions in its database
    TerminateSessions(sessions::TerminateArgs),
    /// Delete a tenant; it can be undeleted until it is purged
    Delete(remove::Delete),
    /// Bring a deleted tenant back
    Undelete(change::Undelete),
    /// Destroy its database, roles and secrets, with no way back
    Purge(remove::Purge),
}

pub async fn run(verb: Verb, cx: &mut Cx) -> Outcome {
    match verb {
        Verb::Create(args) => create::create(args, cx).await,
        Verb::Adopt(args) => adopt::adopt(args, cx).await,
        Verb::Import(args) => import::run(args, cx).await,
        Verb::List(args) => list::list(args, cx).await,
        Verb::Show { id } => {
            let body = cx.client()?.send(Request::get(&["tenants", id.as_str()])).await?.body;
            tell(cx, &body)
        }
        Verb::Url(args) => connect::url(args, cx).await,
        Verb::Psql(args) => connect::psql(args, cx).await,
        Verb::Update(args) => change::update(args, cx).await,
        Verb::Suspend(args) => change::suspend(args, cx).await,
        Verb::Resume(args) => change::resume(args, cx).await,
        Verb::Diagnose { id } => diagnose::diagnose(id, cx).await,
        Verb::Movability(args) => movability::movability(args, cx).await,
        Verb::Move(args) => moving::run(args, cx).await,
        Verb::Plan(args) => plan::run(args, cx).await,
        Verb::Sessions(args) => sessions::list(args, cx).await,
        Verb::TerminateSessions(args) => sessions::terminate(args, cx).await,
        Verb::Delete(args) => remove::delete(args, cx).await,
        Verb::Undelete(args) => change::undelete(args, cx).await,
        Verb::Purge(args) => remove::purge(args, cx).await,
    }
}

pub(crate) fn tell(cx: &Cx, body: &Value) -> Result<(), Failure> {
    tell_with(cx, body, None)
}

pub(crate) fn tell_with(cx: &Cx, body: &Value, url: Option<String>) -> Result<(), Failure> {
    if cx.out.wants_json() {
        return cx.out.json(body);
    }
    let tenant: Tenant = parse(body)?;
    let labels: Vec<String> = tenant.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let filled = |text: String| Some(text).filter(|text| !text.is_empty());
    let state = match &tenant.state_reason {
        Some(reason) => format!("{} ({reason})", tenant.state.as_str()),
        None => tenant.state.as_str().to_owned(),
    };
    let template = match &tenant.template_version {
        Some(version) => format!("{} {version}", tenant.template),
        None => tenant.template.to_string(),
    };
    cx.out.fields(&[
        ("tenant", Some(tenant.id.to_string())),
        ("name", Some(tenant.name).filter(|name| name != tenant.id.as_str())),
        ("state", Some(state)),
        ("since", Some(cx.out.time(tenant.state_since))),
        ("plan", Some(tenant.plan.to_string())),
        ("then", tenant.plan_change.as_ref().map(|change| plan::told(cx, change))),
        ("region", tenant.region),
        ("server", tenant.server.map(|server| server.to_string())),
        ("size", tenant.usage.as_ref().and_then(size)),
        ("sessions", tenant.usage.as_ref().map(|usage| format!("{} of {}", usage.connections, usage.connection_limit))),
        ("movable", tenant.movability.map(|found| movable(&found))),
        ("template", Some(template)),
        ("labels", filled(labels.join(", "))),
        ("protected", tenant.deletion_protection.then(|| "yes: it cannot be deleted".to_owned())),
        ("missing", filled(tenant.missing_extensions.join(", ")).map(|names| format!("extensions {names}"))),
        ("deleted", tenant.deleted_at.map(|at| cx.out.time(at))),
        ("purge", tenant.purge_at.map(|at| cx.out.time(at))),
        ("retiring", tenant.retiring.map(|login| format!("login {} until {}", login.user, cx.out.time(login.until)))),
        ("operation", tenant.operation.map(|id| id.to_string())),
        ("created", Some(cx.out.time(tenant.created_at))),
        ("url", url),
    ]);
    Ok(())
}

/// How it could be moved, as it was last judged.
fn movable(found: &TenantMovability) -> String {
    let codes: Vec<&str> = found.codes.iter().take(3).map(|code| code.as_str()).collect();
    let method = found.method.map_or("not at all", MoveMethod::as_str);
    match codes.is_empty() {
        true => format!("{method}, score {}", found.score),
        false => format!("{method}, score {} ({})", found.score, codes.join(", ")),
    }
}

/// What it takes of what its plan grants.
fn size(usage: &TenantUsage) -> Option<String> {
    let size = bytes(usage.size_bytes?);
    Some(match usage.storage_quota {
        Some(quota) => format!("{size} of {}", bytes(quota)),
        None => size,
    })
}
