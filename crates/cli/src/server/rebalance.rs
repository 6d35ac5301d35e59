//! `server rebalance`: which moves would even servers out, and doing them.

use freehold_api::PoolName;
use freehold_api::rebalance::{Rebalance as Body, RebalanceGroup, RebalanceMove, RebalanceRun, RebalanceServers};
use serde_json::Value;

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::{Failure, Outcome};
use crate::follow::{self, Settled, WaitArgs};
use crate::output::{Rows, bytes};
use crate::value::Size;

/// So many of those who are left out are shown.
const NAMED: usize = 20;

#[derive(Debug, clap::Args)]
pub struct Rebalance {
    /// Of this server pool only
    #[arg(long, value_name = "NAME")]
    pool: Option<PoolName>,
    /// Of this region only
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// How far from its share a server may be before anybody moves [default: 10]
    #[arg(long, value_name = "PERCENT")]
    tolerance: Option<u32>,
    /// Moves at most [default: 100]
    #[arg(long, value_name = "N")]
    max_moves: Option<u32>,
    /// To copy at most, of all moves, for example 50G [default: any]
    #[arg(long, value_name = "SIZE")]
    max_bytes: Option<Size>,
    /// Tenants that are protected from deletion may move too
    #[arg(long)]
    protected: bool,
    /// Say what would be done, and begin nothing: so it is without --apply
    #[arg(long, conflicts_with_all = ["apply", "status"])]
    dry_run: bool,
    /// Do it
    #[arg(long)]
    apply: bool,
    /// Tenants that move at once [default: 2]
    #[arg(long, value_name = "N", requires = "apply")]
    at_once: Option<u32>,
    /// How long there is a way back for each [default: the setting tenants.move_grace_seconds]
    #[arg(long, value_name = "SECONDS", requires = "apply")]
    keep: Option<u64>,
    /// Say how the newest one stands
    #[arg(long, conflicts_with = "apply")]
    status: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

pub async fn rebalance(args: Rebalance, cx: &mut Cx) -> Outcome {
    let body = RebalanceServers {
        pool: args.pool.clone(),
        region: args.region.clone(),
        tolerance_percent: args.tolerance,
        max_moves: args.max_moves,
        max_bytes: args.max_bytes.map(|Size(bytes)| bytes),
        protected: args.protected.then_some(true),
        at_once: args.at_once,
        keep_seconds: args.keep,
        confirm: args.apply.then_some(true),
    };
    if args.dry_run || !args.apply {
        let found = cx.client()?.send(suggestion(&body)).await?.body;
        return if args.status { tell_newest(cx, &found) } else { tell(cx, &found) };
    }
    let request = Request::post(&["rebalance"]).body(&body)?;
    match follow::settle(cx, request, &args.wait, "freehold server rebalance --status").await? {
        Settled::Begun(operation) => follow::tell_begun(cx, &operation),
        Settled::With(body) => tell_newest(cx, &body),
        Settled::Done => {
            let found = cx.client()?.send(suggestion(&body)).await?.body;
            tell_newest(cx, &found)
        }
    }
}

fn suggestion(of: &RebalanceServers) -> Request {
    let request = Request::get(&["rebalance"]).query("pool", of.pool.as_ref()).query("region", of.region.as_ref());
    let request = request.query("tolerance_percent", of.tolerance_percent).query("max_moves", of.max_moves);
    request.query("max_bytes", of.max_bytes).query("protected", of.protected)
}

fn tell(cx: &Cx, body: &Value) -> Outcome {
    if cx.out.wants_json() {
        return cx.out.json(body);
    }
    let found: Body = parse(body)?;
    let servers = found.groups.iter().flat_map(|group| {
        let of = group.pool.as_ref().map_or_else(|| "(registered)".to_owned(), ToString::to_string);
        let region = group.region.clone().unwrap_or_else(|| "-".to_owned());
        group.servers.iter().map(move |server| {
            let (now, after) = (&server.now, &server.after);
            vec![
                server.server.to_string(),
                of.clone(),
                region.clone(),
                format!("{} -> {}", now.tenants, after.tenants),
                format!("{} -> {}", bytes(now.bytes), bytes(after.bytes)),
                format!("{:.1} -> {:.1}", now.transactions_per_second, after.transactions_per_second),
            ]
        })
    });
    cx.out.table(Rows {
        header: &["SERVER", "POOL", "REGION", "TENANTS", "SIZE", "TPS"],
        rows: servers.collect(),
        empty: "no shared server takes tenants now",
    });
    for group in &found.groups {
        let of =
            group.pool.as_ref().map_or_else(|| "registered servers".to_owned(), |pool| format!("server pool {pool}"));
        let off = format!("{of}: {} % off, then {} %", group.off_percent, group.off_percent_after);
        cx.out.line(&match &group.why {
            Some(why) => format!("{off}; {why}"),
            None => off,
        });
    }
    left_out(cx, &found.groups);
    if found.moves.is_empty() {
        cx.out.line("nobody moves");
        return Ok(());
    }
    let count = found.moves.len();
    moves(cx, found.moves);
    cx.out.line(&format!("{count} moves, {} to copy, about {:.0} s", bytes(found.bytes), found.seconds));
    cx.out.note("next: freehold server rebalance --apply");
    Ok(())
}

fn left_out(cx: &Cx, groups: &[RebalanceGroup]) {
    let all = groups.iter().flat_map(|group| &group.left_out);
    let mut rows: Vec<Vec<String>> = all
        .map(|one| vec![one.tenant.to_string(), one.server.to_string(), format!("{} ({})", one.message, one.code)])
        .collect();
    let count = rows.len();
    rows.truncate(NAMED);
    if count > 0 {
        cx.out.table(Rows { header: &["LEFT OUT", "SERVER", "WHY"], rows, empty: "nobody is left out" });
    }
    if count > NAMED {
        cx.out.line(&format!("and {} more (--json has all)", count - NAMED));
    }
}

fn tell_newest(cx: &Cx, body: &Value) -> Outcome {
    let found: Body = parse(body)?;
    let Some(newest) = found.newest else {
        return Err(Failure::prerequisite("there was no rebalance", "freehold server rebalance"));
    };
    if cx.out.wants_json() {
        return cx.out.json(&body["newest"]);
    }
    let RebalanceRun { operation, state, moved, moving, waiting, left, moves: rows } = newest;
    cx.out.fields(&[
        ("operation", Some(operation.to_string())),
        ("state", state.map(|state| state.as_str().to_owned())),
        ("tenants", Some(format!("{moved} elsewhere, {moving} on their way, {waiting} to come, {left} left"))),
    ]);
    moves(cx, rows);
    Ok(())
}

fn moves(cx: &Cx, moves: Vec<RebalanceMove>) {
    let dash = || "-".to_owned();
    let rows = moves.into_iter().map(|one| {
        let why = one.code.map(|code| match one.message {
            Some(message) => format!("{message} ({code})"),
            None => code,
        });
        vec![
            one.tenant.to_string(),
            one.from.to_string(),
            one.to.to_string(),
            one.bytes.map_or_else(dash, bytes),
            one.state.as_str().to_owned(),
            why.unwrap_or_else(dash),
        ]
    });
    cx.out.table(Rows {
        header: &["TENANT", "FROM", "TO", "SIZE", "STATE", "WHY"],
        rows: rows.collect(),
        empty: "nobody moves",
    });
}
