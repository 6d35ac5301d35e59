//! `freehold audit list`: who did what, when, and how it ended.

use freehold_api::Page;
use freehold_api::audit::{AuditEvent, Outcome as AuditOutcome};
use jiff::Timestamp;

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::{Failure, Outcome};
use crate::output::Rows;
use crate::value::{Moment, wire_name};

#[derive(Debug, clap::Args)]
pub struct Choice {
    /// For example key:0197…, loop:purge or system
    #[arg(long)]
    pub(super) actor: Option<String>,
    /// For example tenant.create or credential.read
    #[arg(long)]
    pub(super) action: Option<String>,
    /// For example tenant:acme
    #[arg(long)]
    pub(super) subject: Option<String>,
    /// success, failure or denied
    #[arg(long, value_parser = wire_name::<AuditOutcome>)]
    pub(super) outcome: Option<AuditOutcome>,
    /// As X-Request-Id had it
    #[arg(long, value_name = "ID")]
    pub(super) request_id: Option<String>,
    /// A time, or a length of time before now such as 24h
    #[arg(long, value_name = "WHEN")]
    pub(super) since: Option<Moment>,
    /// A time, or a length of time before now
    #[arg(long, value_name = "WHEN")]
    pub(super) until: Option<Moment>,
}

impl Choice {
    /// The same words for everything that chooses among events.
    pub(super) fn ask(self, request: Request, now: Timestamp) -> Result<Request, Failure> {
        Ok(request
            .query("actor", self.actor)
            .query("action", self.action)
            .query("subject", self.subject)
            .query("outcome", self.outcome.map(AuditOutcome::as_str))
            .query("request_id", self.request_id)
            .query("since", before(self.since, now)?)
            .query("until", before(self.until, now)?))
    }
}

pub(super) fn before(moment: Option<Moment>, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
    let at = moment.map(|moment| moment.before(now)).transpose();
    at.map_err(|error| Failure::usage(format!("the time is out of range: {error}")))
}

#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    choice: Choice,
    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

pub async fn run(args: List, cx: &mut Cx) -> Outcome {
    let request = args.choice.ask(Request::get(&["audit"]), cx.around.now)?;
    let body = cx.client()?.list(request, Some(args.limit as usize)).await?;
    if cx.out.wants_json() {
        return cx.out.json(&body);
    }
    let page: Page<AuditEvent> = parse(&body)?;
    let rows = page.items.into_iter().map(|event| {
        let outcome = match event.reason {
            Some(reason) => format!("{}: {reason}", event.outcome.as_str()),
            None => event.outcome.as_str().to_owned(),
        };
        let actor = event.actor_name.unwrap_or(event.actor);
        vec![cx.out.time(event.at), actor, event.action, event.subject.unwrap_or_else(|| "-".to_owned()), outcome]
    });
    cx.out.table(Rows {
        header: &["AT", "ACTOR", "ACTION", "SUBJECT", "OUTCOME"],
        rows: rows.collect(),
        empty: "no events",
    });
    if page.next_cursor.is_some() {
        cx.out.note("there are more: raise --limit, or filter");
    }
    Ok(())
}
