//! `server drain`: all its tenants go elsewhere; what that would do, and how it stands.

use freehold_api::ServerId;
use freehold_api::drain::{DrainOrder, DrainServer, DrainState, ServerDrain};
use freehold_api::server::Severity;
use serde_json::Value;

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::{Failure, Outcome};
use crate::follow::{self, Settled, WaitArgs};
use crate::output::{Rows, bytes};
use crate::value::{Destination, wire_name};

#[derive(Debug, clap::Args)]
pub struct Drain {
    /// The server
    name: ServerId,
    /// Where to, a server, a server pool or a region; server:NAME, server-pool:NAME and region:NAME say which [default: any other server]
    #[arg(long, value_name = "NAME")]
    to: Option<Destination>,
    /// Tenants that move at once [default: 2]
    #[arg(long, value_name = "N")]
    at_once: Option<u32>,
    /// Who goes first: largest or smallest [default: largest]
    #[arg(long, value_parser = wire_name::<DrainOrder>)]
    order: Option<DrainOrder>,
    /// How long there is a way back for each [default: the setting tenants.move_grace_seconds]
    #[arg(long, value_name = "SECONDS")]
    keep: Option<u64>,
    /// Say who would go where, and begin nothing; exit 12 when somebody could not
    #[arg(long)]
    dry_run: bool,
    /// Say how it stands, and begin nothing
    #[arg(long, conflicts_with_all = ["to", "at_once", "order", "keep", "dry_run"])]
    status: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

pub async fn drain(args: Drain, cx: &mut Cx) -> Outcome {
    let name = args.name.as_str();
    if args.status {
        return status(name, cx).await;
    }
    let body = DrainServer {
        to: args.to.map(|Destination(to)| to),
        at_once: args.at_once,
        order: args.order,
        keep_seconds: args.keep,
        dry_run: args.dry_run.then_some(true),
    };
    let request = Request::post(&["servers", name, "drain"]).body(&body)?;
    if args.dry_run {
        let body = cx.client()?.send(request).await?.body;
        tell(cx, &body)?;
        let found: ServerDrain = parse(&body)?;
        return if found.left > 0 { Err(Failure::Findings(Severity::High)) } else { Ok(()) };
    }
    match follow::settle(cx, request, &args.wait, &format!("freehold server drain {name} --status")).await? {
        Settled::Begun(operation) => follow::tell_begun(cx, &operation),
        Settled::With(body) => tell(cx, &body),
        Settled::Done => status(name, cx).await,
    }
}

async fn status(name: &str, cx: &mut Cx) -> Outcome {
    let body = cx.client()?.send(Request::get(&["servers", name, "drain"])).await?.body;
    tell(cx, &body)
}

fn tell(cx: &Cx, body: &Value) -> Outcome {
    if cx.out.wants_json() {
        return cx.out.json(body);
    }
    let found: ServerDrain = parse(body)?;
    let begun = found.operation.is_some();
    let ServerDrain { moved, moving, waiting, left, .. } = found;
    let tenants = match begun {
        true => format!("{moved} elsewhere, {moving} on their way, {waiting} to come, {left} left"),
        false => format!("{waiting} would go, {left} could not"),
    };
    let done = begun.then(|| format!("{} of {}", bytes(found.bytes_moved), bytes(found.bytes)));
    cx.out.fields(&[
        ("server", Some(found.server.to_string())),
        ("operation", found.operation.map(|id| id.to_string())),
        ("state", found.state.map(|state| state.as_str().to_owned())),
        ("tenants", Some(tenants)),
        ("size", Some(done.unwrap_or_else(|| bytes(found.bytes)))),
        ("stock", Some(found.stock.to_string())),
        ("at first", found.at_first.zip(found.advice).map(|(first, advice)| format!("{first}: {advice}"))),
    ]);
    let would = |state: DrainState| match (state, begun) {
        (DrainState::Waiting, false) => "would go",
        (DrainState::Left, false) => "could not",
        (state, _) => state.as_str(),
    };
    let dash = || "-".to_owned();
    let rows = found.tenants.into_iter().map(|tenant| {
        let why = tenant.code.map(|code| match tenant.message {
            Some(message) => format!("{message} ({code})"),
            None => code,
        });
        vec![
            tenant.tenant.to_string(),
            would(tenant.state).to_owned(),
            tenant.bytes.map_or_else(dash, bytes),
            tenant.to.map_or_else(dash, |to| to.to_string()),
            why.unwrap_or_else(dash),
        ]
    });
    cx.out.table(Rows {
        header: &["TENANT", "STATE", "SIZE", "TO", "WHY"],
        rows: rows.collect(),
        empty: "no tenants live there",
    });
    Ok(())
}
