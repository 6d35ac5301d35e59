//! `freehold audit hold …`: what must stay as it is, until somebody says otherwise.

use freehold_api::Page;
use freehold_api::audit::{AuditHold, CreateAuditHold};
use uuid::Uuid;

use super::list::before;
use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::Outcome;
use crate::output::{Rows, plain};
use crate::value::Moment;

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Hold events: all of them, or those that are named
    Add(Add),
    /// List holds, oldest first
    List,
    /// Let go of a hold
    Release {
        /// Its id, as `audit hold list` shows it
        id: Uuid,
        /// Why: it stays in the audit
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, clap::Args)]
pub struct Add {
    /// Why: it stays in the audit
    #[arg(long)]
    reason: String,
    /// For example tenant:acme [default: any]
    #[arg(long)]
    subject: Option<String>,
    /// For example key:0197… [default: any]
    #[arg(long)]
    actor: Option<String>,
    /// A time, or a length of time before now [default: any]
    #[arg(long, value_name = "WHEN")]
    since: Option<Moment>,
    /// A time, or a length of time before now [default: any, also those to come]
    #[arg(long, value_name = "WHEN")]
    until: Option<Moment>,
}

pub async fn run(verb: Verb, cx: &mut Cx) -> Outcome {
    match verb {
        Verb::Add(args) => add(args, cx).await,
        Verb::List => list(cx).await,
        Verb::Release { id, reason } => release(id, &reason, cx).await,
    }
}

async fn add(args: Add, cx: &mut Cx) -> Outcome {
    let Add { reason, subject, actor, since, until } = args;
    let (since, until) = (before(since, cx.around.now)?, before(until, cx.around.now)?);
    let hold = cx.client()?.hold_audit(&CreateAuditHold { reason, subject, actor, since, until }).await?;
    if cx.out.wants_json() {
        return cx.out.json(&hold);
    }
    cx.out.line(&plain(&format!("{} is held", what(&hold, cx))));
    cx.out.note(&format!("next: freehold audit hold release {}", hold.id));
    Ok(())
}

async fn list(cx: &mut Cx) -> Outcome {
    let body = cx.client()?.list(Request::get(&["audit", "holds"]), None).await?;
    if cx.out.wants_json() {
        return cx.out.json(&body);
    }
    let page: Page<AuditHold> = parse(&body)?;
    let rows = page.items.into_iter().map(|hold| {
        let (held, at) = (what(&hold, cx), cx.out.time(hold.created_at));
        vec![hold.id.to_string(), held, at, hold.by, hold.reason]
    });
    let rows = rows.collect();
    cx.out.table(Rows { header: &["ID", "HELD", "SINCE", "BY", "REASON"], rows, empty: "nothing is held" });
    Ok(())
}

async fn release(id: Uuid, reason: &str, cx: &mut Cx) -> Outcome {
    let hold = cx.client()?.release_audit_hold(id, reason).await?;
    if cx.out.wants_json() {
        return cx.out.json(&hold);
    }
    cx.out.line(&plain(&format!("{} is held no more by {id}", what(&hold, cx))));
    Ok(())
}

/// Of which events.
fn what(hold: &AuditHold, cx: &Cx) -> String {
    let parts = [
        hold.subject.clone(),
        hold.actor.as_ref().map(|actor| format!("by {actor}")),
        hold.since.map(|at| format!("since {}", cx.out.time(at))),
        hold.until.map(|at| format!("until {}", cx.out.time(at))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "everything".into() } else { parts.join(" ") }
}
