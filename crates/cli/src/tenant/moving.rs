//! `tenant move`: to another server, back again, the end of it, and how it stands.

use freehold_api::TenantId;
use freehold_api::movability::MoveMethod;
use freehold_api::moving::{FinishMove, MoveDigests, MoveTenant, TenantMove};
use serde_json::json;

use super::movability;
use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::{Failure, Outcome};
use crate::follow::{self, Settled, WaitArgs};
use crate::value::{Destination, Method};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("verb").multiple(false))]
pub struct MoveArgs {
    /// The tenant
    id: TenantId,
    /// Where to: the name of a server, a server pool or a region; server:NAME, server-pool:NAME and region:NAME say which
    #[arg(long, value_name = "NAME", group = "verb")]
    to: Option<Destination>,
    /// How: logical while it is written to, dump with nobody let in until it is done [default: logical]
    #[arg(long, value_name = "METHOD", requires = "to")]
    method: Option<Method>,
    /// Move it back to where it came from, with all that it wrote since
    #[arg(long, group = "verb")]
    rollback: bool,
    /// Drop what it had on its former server now, and with it the way back
    #[arg(long, group = "verb")]
    finish: bool,
    /// With --finish: its former server is lost for good, and what it had there is only forgotten
    #[arg(long, requires = "finish")]
    abandon: bool,
    /// With --abandon: the id again
    #[arg(long, value_name = "ID", requires = "abandon")]
    confirm: Option<String>,
    /// Say what it would take, and begin nothing; exit codes as of `tenant movability`
    #[arg(long, requires = "to")]
    dry_run: bool,
    /// Clients wait for so long at most [default: 5]; what does not fit is tried again later. By dump: nobody is let in for so long at most [default: four times the estimate, at least 600]
    #[arg(long, value_name = "SECONDS", requires = "to", conflicts_with = "dry_run")]
    deadline: Option<u64>,
    /// How long its former side is kept, and there is a way back [default: the setting tenants.move_grace_seconds]
    #[arg(long, value_name = "SECONDS", requires = "to", conflicts_with = "dry_run")]
    keep: Option<u64>,
    #[command(flatten)]
    wait: WaitArgs,
}

pub async fn run(args: MoveArgs, cx: &mut Cx) -> Outcome {
    let id = args.id.as_str();
    let request = match (args.to, args.rollback, args.finish) {
        (Some(to), _, _) if args.dry_run => return movability::judge(args.id, Some(to), cx).await,
        (Some(to), _, _) => {
            if args.method == Some(Method::Dump) {
                tell_cost(&args.id, &to, cx).await?;
            }
            let body = MoveTenant {
                to: to.0,
                method: args.method.map(MoveMethod::from),
                deadline_seconds: args.deadline,
                keep_seconds: args.keep,
                dry_run: None,
            };
            Request::post(&["tenants", id, "move"]).body(&body)?
        }
        (None, true, _) => Request::post(&["tenants", id, "move", "rollback"]).body(&json!({}))?,
        (None, false, true) if args.abandon && args.confirm.as_deref() != Some(id) => {
            return Err(Failure::usage(format!("name the tenant twice, so that it is the right one: --confirm {id}")));
        }
        (None, false, true) => {
            let body = FinishMove { abandon: args.abandon.then_some(true), confirm: args.confirm };
            Request::post(&["tenants", id, "move", "finish"]).body(&body)?
        }
        (None, false, false) => {
            let body = cx.client()?.send(Request::get(&["tenants", id, "move"])).await?.body;
            return tell(cx, &body);
        }
    };
    match follow::settle(cx, request, &args.wait, &format!("freehold tenant show {id}")).await? {
        Settled::Begun(body) => follow::tell_begun(cx, &body),
        Settled::With(body) => super::tell(cx, &body),
        Settled::Done => {
            let body = cx.client()?.send(Request::get(&["tenants", id])).await?.body;
            super::tell(cx, &body)
        }
    }
}

/// What it costs, before it begins. Whether it can be begun is the server's to say.
async fn tell_cost(id: &TenantId, to: &Destination, cx: &mut Cx) -> Outcome {
    let found = movability::look(id, Some(to.0.clone()), cx).await?;
    let mut dumps = found.estimates.iter().filter(|estimate| estimate.method == MoveMethod::Dump);
    // Of a tenant that is suspended nobody notices.
    if let Some(estimate) = dumps.find(|estimate| estimate.stall_seconds > 0.0) {
        let seconds = movability::time(estimate.stall_seconds);
        cx.out.note(&format!("nobody is let in to {id} for about {seconds}; freehold operation cancel takes it back"));
    }
    Ok(())
}

fn tell(cx: &Cx, body: &serde_json::Value) -> Outcome {
    if cx.out.wants_json() {
        return cx.out.json(body);
    }
    let found: TenantMove = parse(body)?;
    let digests = found.digests.map(|digests| match digests {
        MoveDigests::Equal => "equal on both sides",
        MoveDigests::Unread => "not compared: Freehold was ended at that moment",
        MoveDigests::Different => "not the same on both sides: see the operation",
    });
    let back = match (found.moved_at.is_some(), found.follows) {
        (false, _) => None,
        (true, true) => Some(format!("yes: freehold tenant move {} --rollback", found.tenant)),
        (true, false) => Some("no".to_owned()),
    };
    cx.out.fields(&[
        ("tenant", Some(found.tenant.to_string())),
        ("from", Some(found.from.to_string())),
        ("to", Some(found.to.to_string())),
        ("serves", Some(found.serves.to_string())),
        ("method", Some(found.method.as_str().to_owned())),
        ("moved", found.moved_at.map(|at| cx.out.time(at))),
        ("waited", found.stall_ms.map(|millis| format!("{millis} ms"))),
        ("digests", digests.map(str::to_owned)),
        ("way back", back),
        ("kept until", found.keep_until.map(|at| cx.out.time(at))),
        ("operation", found.operation.map(|id| id.to_string())),
    ]);
    Ok(())
}
