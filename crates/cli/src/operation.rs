//! `freehold operation …`: what is going on, and what a person can do about it.

use freehold_api::operation::{ListOperations, Operation, OperationState, Resolution, ResolveOperation};
use freehold_api::{OperationId, Page};
use serde_json::{Value, json};

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::Outcome;
use crate::follow::told;
use crate::output::Rows;
use crate::value::wire_name;

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// List operations, newest first
    List(List),
    /// Show one operation
    Show {
        /// The operation
        id: OperationId,
    },
    /// Follow one until it ends: exit 0 succeeded, 1 failed or cancelled, 11 stuck
    Watch {
        /// The operation
        id: OperationId,
    },
    /// Ask it to stop and take back what it did
    Cancel {
        /// The operation
        id: OperationId,
    },
    /// Try a stuck or waiting one again, now
    Retry {
        /// The operation
        id: OperationId,
    },
    /// Declare a stuck one finished by hand
    Resolve(Resolve),
}

#[derive(Debug, clap::Args)]
pub struct List {
    /// queued, running, waiting, succeeded, undoing, failed, cancelled or stuck
    #[arg(long, value_parser = wire_name::<OperationState>)]
    state: Option<OperationState>,
    /// For example tenant.create
    #[arg(long)]
    kind: Option<String>,
    /// For example tenant:acme
    #[arg(long)]
    subject: Option<String>,
    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

#[derive(Debug, clap::Args)]
pub struct Resolve {
    /// The operation
    id: OperationId,
    /// succeeded: the work is done; undone: it was taken back
    #[arg(long = "as", value_name = "succeeded|undone", value_parser = wire_name::<Resolution>)]
    resolution: Resolution,
    /// Kept in the audit
    #[arg(long)]
    reason: String,
}

pub async fn run(verb: Verb, cx: &mut Cx) -> Outcome {
    match verb {
        Verb::List(args) => list(args, cx).await,
        Verb::Show { id } => {
            let body = cx.client()?.send(Request::get(&["operations", &id.to_string()])).await?.body;
            tell(cx, &body)
        }
        Verb::Watch { id } => watch(id, cx).await,
        Verb::Cancel { id } => post(id, "cancel", &json!({}), cx).await,
        Verb::Retry { id } => post(id, "retry", &json!({}), cx).await,
        Verb::Resolve(args) => {
            let body = ResolveOperation { resolution: args.resolution, reason: args.reason };
            post(args.id, "resolve", &body, cx).await
        }
    }
}

async fn list(args: List, cx: &mut Cx) -> Outcome {
    let filter = ListOperations { state: args.state, kind: args.kind, subject: args.subject, ..Default::default() };
    let request = Request::get(&["operations"])
        .query("state", filter.state.map(OperationState::as_str))
        .query("kind", filter.kind)
        .query("subject", filter.subject);
    let body = cx.client()?.list(request, Some(args.limit as usize)).await?;
    if cx.out.wants_json() {
        return cx.out.json(&body);
    }
    let page: Page<Operation> = parse(&body)?;
    let rows = page.items.into_iter().map(|operation| {
        vec![
            operation.id.to_string(),
            operation.kind,
            operation.subject.unwrap_or_else(|| "-".to_owned()),
            operation.state.as_str().to_owned(),
            operation.step,
            operation.attempt.to_string(),
            cx.out.time(operation.updated_at),
        ]
    });
    cx.out.table(Rows {
        header: &["ID", "KIND", "SUBJECT", "STATE", "STEP", "TRY", "UPDATED"],
        rows: rows.collect(),
        empty: "no operations",
    });
    if page.next_cursor.is_some() {
        cx.out.note("there are more: raise --limit, or filter");
    }
    Ok(())
}

async fn watch(id: OperationId, cx: &mut Cx) -> Outcome {
    let client = cx.client()?;
    let out = cx.out.clone();
    cx.hint.set(Some(format!("freehold operation watch {id}")));
    // Also the check that it exists: a stream of nothing would not say so.
    let operation: Operation = client.get(&["operations", &id.to_string()]).await?;
    let spinner = out.spinner(&format!("{} {}", operation.kind, operation.step));
    let followed = client.follow(id, |event| {
        spinner.say(&told(event));
        if out.wants_json() {
            // Nothing but numbers and text: it always serializes.
            let _ = out.json_line(event);
        } else {
            out.line(&crate::output::plain(&format!("{:.0}  {}", event.at, told(event))));
        }
    });
    let ended = followed.await?;
    drop(spinner);
    cx.hint.set(None);
    freehold_client::succeeded(ended)?;
    Ok(())
}

async fn post<T: serde::Serialize>(id: OperationId, verb: &str, body: &T, cx: &mut Cx) -> Outcome {
    let request = Request::post(&["operations", &id.to_string(), verb]).body(body)?;
    let body = cx.client()?.send(request).await?.body;
    tell(cx, &body)
}

fn tell(cx: &Cx, body: &Value) -> Outcome {
    if cx.out.wants_json() {
        return cx.out.json(body);
    }
    let operation: Operation = parse(body)?;
    let state = match operation.cancel_requested && !operation.state.is_over() {
        true => format!("{}, cancel requested", operation.state.as_str()),
        false => operation.state.as_str().to_owned(),
    };
    cx.out.fields(&[
        ("operation", Some(operation.id.to_string())),
        ("kind", Some(operation.kind)),
        ("subject", operation.subject),
        ("state", Some(state)),
        ("step", Some(operation.step)),
        (
            "progress",
            operation.progress.map(|progress| format!("{} of {} {}", progress.done, progress.total, progress.unit)),
        ),
        ("attempt", Some(operation.attempt.to_string())),
        ("error", operation.error.map(|error| format!("{} ({})", error.message, error.code))),
        ("next run", operation.next_run_at.map(|at| cx.out.time(at))),
        ("deadline", operation.deadline.map(|at| cx.out.time(at))),
        ("created", Some(cx.out.time(operation.created_at))),
        ("updated", Some(cx.out.time(operation.updated_at))),
        ("finished", operation.finished_at.map(|at| cx.out.time(at))),
    ]);
    match operation.state {
        OperationState::Stuck => {
            let id = operation.id;
            cx.out.note(&format!(
                "next: freehold operation retry {id}, or freehold operation resolve {id} --as undone --reason …"
            ));
        }
        _ if !operation.state.is_over() => cx.out.note(&format!("next: freehold operation watch {}", operation.id)),
        _ => {}
    }
    Ok(())
}
