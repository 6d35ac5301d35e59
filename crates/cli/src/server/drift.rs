//! `freehold server drift`: what is lost, bent, or there without being known.

use freehold_api::drift::{Drift as Found, DriftKind};
use freehold_api::server::Severity;
use freehold_api::{Page, ServerId};

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::{Failure, Outcome};

#[derive(Debug, clap::Args)]
pub struct Drift {
    /// The server [default: all]
    name: Option<ServerId>,
    /// What is none of Freehold's too
    #[arg(long)]
    all: bool,
}

pub async fn drift(args: Drift, cx: &mut Cx) -> Outcome {
    let request = Request::get(&["drift"]).query("server", args.name.as_ref());
    let body = cx.client()?.list(request, None).await?;
    let found: Page<Found> = parse(&body)?;
    if cx.out.wants_json() {
        cx.out.json(&body)?;
    } else {
        let told = found.items.iter().filter(|drift| args.all || drift.kind != DriftKind::Foreign);
        let mut count = 0;
        for drift in told {
            count += 1;
            let text = format!(
                "{}: {} ({}, since {})",
                drift.server,
                drift.message,
                drift.kind.as_str(),
                cx.out.time(drift.since)
            );
            cx.out.finding(severity(drift.kind).unwrap_or(Severity::Low), &text);
        }
        if count == 0 {
            cx.out.line("nothing differs");
        }
    }
    match found.items.iter().filter_map(|drift| severity(drift.kind)).max() {
        Some(worst) => Err(Failure::Findings(worst)),
        None => Ok(()),
    }
}

/// What is foreign is no finding.
fn severity(kind: DriftKind) -> Option<Severity> {
    match kind {
        DriftKind::Lost => Some(Severity::High),
        DriftKind::Bent => Some(Severity::Medium),
        DriftKind::Ghost => Some(Severity::Low),
        DriftKind::Foreign => None,
    }
}
