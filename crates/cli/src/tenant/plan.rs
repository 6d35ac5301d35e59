//! `tenant plan`: another plan now or at a time, what that would take, what is taken back, and how it stands.

use freehold_api::TenantId;
use freehold_api::id::PlanName;
use freehold_api::plan_change::{ChangePlan, PlanChange, PlanPreview};
use freehold_api::server::Severity;
use freehold_api::tenant::Tenant;

use super::movability;
use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::{Failure, Outcome};
use crate::follow::{self, Settled, WaitArgs};
use crate::output::bytes;
use crate::value::Moment;

#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// The tenant
    id: TenantId,
    /// The plan that it is to have
    plan: Option<PlanName>,
    /// When: a time such as 2026-12-01T00:00:00Z, or a length of time from now such as 30d [default: now]
    #[arg(long, value_name = "TIME", requires = "plan")]
    at: Option<Moment>,
    /// Also where its database is larger than the plan allows
    #[arg(long, requires = "plan")]
    over_quota: bool,
    /// Say what it would take, and begin nothing; exit 12 where it would be refused, else as of `tenant movability` where it would move
    #[arg(long, requires = "plan")]
    dry_run: bool,
    /// Take back the change that is kept for its time
    #[arg(long, conflicts_with_all = ["plan", "at", "over_quota", "dry_run"])]
    cancel: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

pub async fn run(args: PlanArgs, cx: &mut Cx) -> Outcome {
    let id = args.id.as_str();
    if args.cancel {
        let body = cx.client()?.send(Request::delete(&["tenants", id, "plan"])).await?.body;
        return super::tell(cx, &body);
    }
    let Some(plan) = args.plan else {
        let body = cx.client()?.send(Request::get(&["tenants", id])).await?.body;
        return stands(cx, &body);
    };
    let at = args.at.map(|at| at.after(cx.around.now)).transpose();
    let at = at.map_err(|_| Failure::usage("the time is too far away"))?;
    let body =
        ChangePlan { plan, at, over_quota: args.over_quota.then_some(true), dry_run: args.dry_run.then_some(true) };
    let request = Request::post(&["tenants", id, "plan"]).body(&body)?;
    if args.dry_run {
        return preview(request, cx).await;
    }
    match follow::settle(cx, request, &args.wait, &format!("freehold tenant show {id}")).await? {
        Settled::Begun(body) => follow::tell_begun(cx, &body),
        Settled::With(body) => super::tell(cx, &body),
        Settled::Done => {
            let body = cx.client()?.send(Request::get(&["tenants", id])).await?.body;
            super::tell(cx, &body)
        }
    }
}

/// The plan that it has, and the one that it gets.
fn stands(cx: &Cx, body: &serde_json::Value) -> Outcome {
    if cx.out.wants_json() {
        return cx.out.json(body);
    }
    let tenant: Tenant = parse(body)?;
    let change = tenant.plan_change.as_ref();
    let waits = change.and_then(|change| change.waits.as_ref());
    cx.out.fields(&[
        ("tenant", Some(tenant.id.to_string())),
        ("plan", Some(tenant.plan.to_string())),
        ("server", tenant.server.as_ref().map(ToString::to_string)),
        ("then", change.map(|change| told(cx, change))),
        ("waits", waits.map(|waits| format!("{} ({})", waits.message, waits.code))),
        ("tried again", waits.map(|waits| cx.out.time(waits.until))),
        ("operation", tenant.operation.map(|id| id.to_string())),
    ]);
    if change.is_some() {
        cx.out.note(&format!("take it back: freehold tenant plan {} --cancel", tenant.id));
    }
    Ok(())
}

/// For whoever looks at the tenant.
pub fn told(cx: &Cx, change: &PlanChange) -> String {
    let waits = change.waits.as_ref().map_or(String::new(), |waits| format!(", waits: {}", waits.code));
    format!("{} from {} on ({}{waits})", change.plan, cx.out.time(change.at), change.step.as_str())
}

async fn preview(request: Request, cx: &mut Cx) -> Outcome {
    let out = cx.out.clone();
    let spinner = out.spinner("looking at what it would take");
    let body = cx.client()?.send(request).await?.body;
    drop(spinner);
    let found: PlanPreview = parse(&body)?;
    if cx.out.wants_json() {
        cx.out.json(&body)?;
    } else {
        tell(cx, &found);
    }
    if !found.against.is_empty() {
        return Err(Failure::Findings(Severity::High));
    }
    found.movability.as_ref().map_or(Ok(()), movability::judged)
}

fn tell(cx: &Cx, found: &PlanPreview) {
    for obstacle in &found.against {
        cx.out.line(&format!("refused: {} ({})", obstacle.message, obstacle.code));
    }
    if let Some(movability) = &found.movability {
        movability::tell(cx, movability);
    }
    let size = found.size_bytes.map(|size| match found.storage_quota {
        Some(quota) => format!("{} of {}", bytes(size), bytes(quota)),
        None => bytes(size),
    });
    cx.out.fields(&[
        ("tenant", Some(found.tenant.to_string())),
        ("plan", Some(format!("{} in the place of {} ({})", found.to, found.from, found.step.as_str()))),
        ("when", found.at.map(|at| cx.out.time(at))),
        ("server", Some(if found.moves { "another: it moves" } else { "the same" }.to_owned())),
        ("size", size),
    ]);
}
