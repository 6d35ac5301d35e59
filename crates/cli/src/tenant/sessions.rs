//! `tenant sessions` and `tenant terminate-sessions`: who is in a tenant's database, and ending them.

use freehold_api::session::{Session, TerminateSessions, TerminatedSessions};
use freehold_api::{Page, TenantId};

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::{Failure, Outcome};
use crate::output::Rows;
use crate::value::Length;

#[derive(Debug, clap::Args)]
pub struct Sessions {
    /// The tenant
    id: TenantId,
    /// Show what each runs; takes a key with the scope `credentials`, and is audited
    #[arg(long)]
    query: bool,
}

#[derive(Debug, clap::Args)]
pub struct TerminateArgs {
    /// The tenant
    id: TenantId,
    /// Only this one, also where it is not the tenant's own
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    pid: Option<i32>,
    /// Only those that have done nothing for so long, for example 10m
    #[arg(long, value_name = "LENGTH")]
    idle_for: Option<Length>,
}

pub async fn list(args: Sessions, cx: &mut Cx) -> Outcome {
    let request = Request::get(&["tenants", args.id.as_str(), "sessions"]).query("query", args.query.then_some(true));
    let body = cx.client()?.send(request).await?.body;
    if cx.out.wants_json() {
        return cx.out.json(&body);
    }
    let page: Page<Session> = parse(&body)?;
    let rows = page.items.into_iter().map(|session| {
        let absent = || "-".to_owned();
        let time = |at: Option<jiff::Timestamp>| at.map_or_else(absent, |at| cx.out.time(at));
        let waits = match (session.waits_for, session.blocked_by.as_slice()) {
            (None, _) => absent(),
            (Some(waits), []) => waits,
            (Some(waits), pids) => {
                let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
                format!("{waits}, held by {}", pids.join(", "))
            }
        };
        let mut row = vec![
            session.pid.to_string(),
            if session.of_tenant { session.user } else { format!("{} (not the tenant)", session.user) },
            session.application,
            session.client.unwrap_or_else(absent),
            session.state.unwrap_or_else(absent),
            time(session.state_since),
            time(session.transaction_since),
            waits,
        ];
        row.extend(args.query.then(|| session.query.unwrap_or_default()));
        row
    });
    let header: &[&str] =
        &["PID", "USER", "APPLICATION", "CLIENT", "STATE", "SINCE", "TRANSACTION", "WAITS FOR", "QUERY"];
    cx.out.table(Rows {
        header: if args.query { header } else { &header[..8] },
        rows: rows.collect(),
        empty: "nobody is connected to its database",
    });
    Ok(())
}

pub async fn terminate(args: TerminateArgs, cx: &mut Cx) -> Outcome {
    let idle_for_seconds = args.idle_for.map(|Length(length)| length.as_secs().unsigned_abs());
    if idle_for_seconds == Some(0) {
        return Err(Failure::usage("--idle-for counts in whole seconds, at least one"));
    }
    let body = TerminateSessions { pid: args.pid, idle_for_seconds };
    let request = Request::post(&["tenants", args.id.as_str(), "sessions", "terminate"]).body(&body)?;
    let reply = cx.client()?.send(request).await?;
    if cx.out.wants_json() {
        return cx.out.json(&reply.body);
    }
    let done: TerminatedSessions = reply.parse()?;
    cx.out.line(&match done.terminated.as_slice() {
        [] => "no session was ended".to_owned(),
        [pid] => format!("ended session {pid}"),
        pids => format!("ended {} sessions", pids.len()),
    });
    if !done.left.is_empty() {
        let pids: Vec<String> = done.left.iter().map(i32::to_string).collect();
        cx.out.note(&format!(
            "still there: {}; the server's admin may not end them (GRANT pg_signal_backend)",
            pids.join(", ")
        ));
    }
    Ok(())
}
