//! `tenant movability`: whether a tenant could be moved, how, and what is in the way.

use freehold_api::TenantId;
use freehold_api::movability::{JudgeMovability, Movability, MoveFinding, MoveMethod, MoveSeverity, MoveTo};
use freehold_api::server::Severity;
use serde_json::Value as Json;

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::{Failure, Outcome};
use crate::output::{bytes, plain};
use crate::value::Destination;

#[derive(Debug, clap::Args)]
pub struct MovabilityArgs {
    /// The tenant
    id: TenantId,
    /// Where to: the name of a server, a server pool, a plan or a region; server:NAME, server-pool:NAME, plan:NAME and region:NAME say which [default: judge by where it is alone]
    #[arg(long, value_name = "NAME")]
    to: Option<Destination>,
}

pub async fn movability(args: MovabilityArgs, cx: &mut Cx) -> Outcome {
    judge(args.id, args.to, cx).await
}

/// Of a move, too, that is only thought of.
pub async fn judge(id: TenantId, to: Option<Destination>, cx: &mut Cx) -> Outcome {
    let body = ask(&id, to.map(|Destination(to)| to), cx).await?;
    let found: Movability = parse(&body)?;
    if cx.out.wants_json() {
        cx.out.json(&body)?;
    } else {
        tell(cx, &found);
    }
    judged(&found)
}

pub async fn look(id: &TenantId, to: Option<MoveTo>, cx: &mut Cx) -> Result<Movability, Failure> {
    Ok(parse(&ask(id, to, cx).await?)?)
}

async fn ask(id: &TenantId, to: Option<MoveTo>, cx: &mut Cx) -> Result<Json, Failure> {
    let body = JudgeMovability { to };
    let request = Request::post(&["tenants", id.as_str(), "movability"]).body(&body)?;
    let out = cx.out.clone();
    let spinner = out.spinner(&format!("looking at what a move of {id} would take"));
    let body = cx.client()?.send(request).await?.body;
    drop(spinner);
    Ok(body)
}

/// What a program is to know of it.
pub fn judged(found: &Movability) -> Outcome {
    match found.methods.first() {
        None => Err(Failure::Findings(Severity::High)),
        Some(MoveMethod::Dump) => Err(Failure::Findings(Severity::Medium)),
        Some(MoveMethod::Logical) if found.findings.iter().any(|found| found.severity == MoveSeverity::Slows) => {
            Err(Failure::Findings(Severity::Low))
        }
        Some(MoveMethod::Logical) => Ok(()),
    }
}

pub fn tell(cx: &Cx, found: &Movability) {
    for (severity, heading) in
        [(MoveSeverity::Blocks, "blocks"), (MoveSeverity::Slows, "slows"), (MoveSeverity::Note, "notes")]
    {
        let of: Vec<&MoveFinding> = found.findings.iter().filter(|finding| finding.severity == severity).collect();
        if of.is_empty() {
            continue;
        }
        cx.out.line(&format!("{heading}:"));
        for finding in of {
            one(cx, finding);
        }
    }
    let destination = found.to.as_ref().and_then(|to| {
        let server = to.server.as_ref().map(ToString::to_string);
        server.or_else(|| Some(format!("the next server of {}", to.server_pool.as_ref()?)))
    });
    let methods: Vec<&str> = found.methods.iter().map(|method| method.as_str()).collect();
    let mut fields = vec![
        ("from", Some(found.server.to_string())),
        ("to", destination),
        ("methods", Some(if methods.is_empty() { "none: it cannot be moved".into() } else { methods.join(", ") })),
        ("score", Some(format!("{} of 100", found.score))),
    ];
    for estimate in &found.estimates {
        // Of a tenant that is suspended nobody writes.
        let stopped = match estimate.stall_seconds {
            0.0 => String::new(),
            seconds => format!(", writes stopped for {}", time(seconds)),
        };
        let rows = format!(
            "about {}{stopped}: {} of rows, {} of indexes",
            time(estimate.seconds),
            bytes(estimate.copy_bytes),
            bytes(estimate.index_bytes)
        );
        fields.push((estimate.method.as_str(), Some(rows)));
    }
    if let Some(traffic) = &found.traffic {
        let now = format!(
            "{:.0} rows per second in it, {} of WAL per second on its server",
            traffic.rows_per_second,
            bytes(traffic.wal_bytes_per_second.max(0.0).round() as u64)
        );
        fields.push(("writes", Some(now)));
    }
    cx.out.fields(&fields);
    let worst = found.findings.iter().find(|finding| finding.severity != MoveSeverity::Note);
    if let Some(next) = worst.and_then(|finding| finding.next.as_deref()) {
        cx.out.note(&format!("next: {}", plain(next)));
    }
}

fn one(cx: &Cx, finding: &MoveFinding) {
    let methods: Vec<&str> = finding.blocks.iter().map(|method| method.as_str()).collect();
    let methods = if methods.is_empty() { String::new() } else { format!(" [{}]", methods.join(", ")) };
    cx.out.line(&format!("  {}{methods}: {}", finding.code.as_str(), plain(&finding.message)));
    if !finding.objects.is_empty() {
        let more = finding.count.saturating_sub(finding.objects.len() as u64);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        cx.out.line(&format!("      {}{more}", plain(&finding.objects.join(", "))));
    }
    for (who, what) in [("a move", &finding.handled), ("you", &finding.next)] {
        if let Some(what) = what {
            cx.out.line(&format!("      {who}: {}", plain(what)));
        }
    }
}

/// Tenths of a second for what is short.
pub fn time(seconds: f64) -> String {
    match seconds {
        ..10.0 => format!("{seconds:.1} s"),
        ..120.0 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}
