//! `freehold freeze` and `thaw`: stop loops and operations, and let them run again. Logins and creates from stock always work.

use freehold_api::status::{Freeze as Frozen, SetFreeze};
use serde_json::Value;

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::Outcome;
use crate::output::{Rows, plain};
use crate::value::Length;

const ALL: &str = "all";

#[derive(Debug, clap::Args)]
pub struct Freeze {
    /// A loop (stock, truth, health, stats, quota, movability, purge, credentials, server_pool, pooler, pooler_external, pooler_platform, note, prune, moves, plans, audit, audit_checkpoint, audit_retention, audit_stream_file, audit_stream_url),
    /// or operations
    #[arg(value_parser = target)]
    target: Option<String>,
    /// Every loop, and operations
    #[arg(long, conflicts_with = "target")]
    all: bool,
    /// How long, for example 1h [default: until thawed]
    #[arg(long = "for", value_name = "LENGTH")]
    length: Option<Length>,
}

#[derive(Debug, clap::Args)]
pub struct Thaw {
    /// A loop (stock, truth, health, stats, quota, movability, purge, credentials, server_pool, pooler, pooler_external, pooler_platform, note, prune, moves, plans, audit, audit_checkpoint, audit_retention, audit_stream_file, audit_stream_url),
    /// or operations
    #[arg(value_parser = target, required_unless_present = "all")]
    target: Option<String>,
    /// Everything that was frozen with --all
    #[arg(long, conflicts_with = "target")]
    all: bool,
}

/// It becomes part of a path: nothing but a name may.
fn target(input: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if !input.is_empty() && input.chars().all(fits) {
        Ok(input.to_owned())
    } else {
        Err("expected the name of a loop, for example stock, or operations".into())
    }
}

pub async fn freeze(args: Freeze, cx: &mut Cx) -> Outcome {
    let Some(target) = args.target.or_else(|| args.all.then(|| ALL.to_owned())) else {
        return list(cx).await;
    };
    let for_seconds = args.length.map(|length| length.0.as_secs().unsigned_abs().max(1));
    let body = SetFreeze { target, for_seconds };
    let reply = cx.client()?.send(Request::post(&["freezes"]).body(&body)?).await?;
    if cx.out.wants_json() {
        return cx.out.json(&reply.body);
    }
    let frozen: Frozen = reply.parse()?;
    let until = frozen.until.map_or("until thawed".to_owned(), |at| format!("until {}", cx.out.time(at)));
    cx.out.line(&plain(&format!("{} is frozen {until}", frozen.target)));
    cx.out.note(&match frozen.target.as_str() {
        ALL => "next: freehold thaw --all".to_owned(),
        target => format!("next: freehold thaw {}", plain(target)),
    });
    Ok(())
}

pub async fn thaw(args: Thaw, cx: &mut Cx) -> Outcome {
    let target = args.target.unwrap_or_else(|| ALL.to_owned());
    let reply = cx.client()?.send(Request::delete(&["freezes", &target])).await?;
    if cx.out.wants_json() {
        return cx.out.json(&reply.body);
    }
    cx.out.line(&format!("{target} runs again"));
    Ok(())
}

async fn list(cx: &mut Cx) -> Outcome {
    let body = cx.client()?.send(Request::get(&["freezes"])).await?.body;
    if cx.out.wants_json() {
        return cx.out.json(&body);
    }
    let items: Vec<Frozen> = parse(body.get("items").unwrap_or(&Value::Null))?;
    let rows = items.into_iter().map(|frozen| {
        let until = frozen.until.map_or("thawed".to_owned(), |at| cx.out.time(at));
        vec![frozen.target, until, frozen.by]
    });
    cx.out.table(Rows { header: &["FROZEN", "UNTIL", "BY"], rows: rows.collect(), empty: "nothing is frozen" });
    Ok(())
}
