//! `freehold status`: for the worst hour. Worst first, each with the next command to type.

use freehold_api::status::{ServerStatus, Status};

use crate::Cx;
use crate::client::Request;
use crate::failure::{Failure, Outcome};
use crate::output::Rows;
use crate::stats::{seen, standing};

pub async fn run(cx: &mut Cx) -> Outcome {
    let reply = cx.client()?.send(Request::get(&["status"])).await?;
    let status: Status = reply.parse()?;
    let worst = status.concerns.iter().map(|concern| concern.severity).max();
    if cx.out.wants_json() {
        cx.out.json(&reply.body)?;
    } else {
        tell(cx, status);
    }
    match worst {
        Some(worst) => Err(Failure::Findings(worst)),
        None => Ok(()),
    }
}

fn tell(cx: &Cx, status: Status) {
    let mut concerns = status.concerns;
    // The server sorts them too; within a severity its order stays.
    concerns.sort_by_key(|concern| std::cmp::Reverse(concern.severity));
    if concerns.is_empty() {
        cx.out.line("all is well");
    }
    for concern in concerns {
        cx.out.finding(concern.severity, &concern.message);
        if let Some(next) = concern.next {
            cx.out.line(&format!("        next: {}", crate::output::plain(&next)));
        }
    }
    cx.out.line("");
    let (tenants, operations) = (status.tenants, status.operations);
    let counted = |counts: &[(u64, &str)]| {
        let some: Vec<String> =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
        Some(if some.is_empty() { "none".to_owned() } else { some.join(", ") })
    };
    let frozen = status.frozen.iter().map(|freeze| match freeze.until {
        Some(until) => format!("{} until {} by {}", freeze.target, cx.out.time(until), freeze.by),
        None => format!("{} until thawed by {}", freeze.target, freeze.by),
    });
    let frozen = frozen.collect::<Vec<_>>().join("; ");
    cx.out.fields(&[
        (
            "tenants",
            counted(&[
                (tenants.active, "active"),
                (tenants.creating, "creating"),
                (tenants.failed, "failed"),
                (tenants.suspended, "suspended"),
                (tenants.deleted, "deleted"),
            ]),
        ),
        (
            "operations",
            counted(&[
                (operations.stuck, "stuck"),
                (operations.undoing, "undoing"),
                (operations.waiting, "waiting"),
                (operations.running, "running"),
                (operations.queued, "queued"),
            ]),
        ),
        ("frozen", Some(frozen).filter(|text| !text.is_empty())),
    ]);
    servers(cx, &status.servers);
    if status.stock.is_empty() {
        return;
    }
    cx.out.line("");
    let rows = status.stock.into_iter().map(|level| {
        let ready = format!("{}/{}", level.ready, level.wanted);
        vec![level.server.to_string(), level.template.to_string(), ready, level.building.to_string()]
    });
    cx.out.table(Rows { header: &["SERVER", "TEMPLATE", "STOCK", "BUILDING"], rows: rows.collect(), empty: "" });
}

/// As many as fit on a screen; the rest is no worse.
const SHOWN: usize = 20;

fn servers(cx: &Cx, servers: &[ServerStatus]) {
    if servers.is_empty() {
        return;
    }
    cx.out.line("");
    let rows = servers.iter().take(SHOWN).map(|server| {
        let mut row = vec![
            server.server.to_string(),
            standing(server.state, server.health),
            server.worst_finding.map_or_else(|| "-".to_owned(), |worst| worst.as_str().to_owned()),
            format!("{}/{}", server.tenants, server.capacity),
        ];
        row.extend(seen(server.observed.as_ref()));
        row
    });
    let header = &["SERVER", "STANDING", "FINDINGS", "TENANTS", "SIZE", "FREE", "SESSIONS", "OLDEST TX"];
    cx.out.table(Rows { header, rows: rows.collect(), empty: "" });
    if servers.len() > SHOWN {
        cx.out.line(&format!("and {} more, none of them worse: freehold server list", servers.len() - SHOWN));
    }
}
