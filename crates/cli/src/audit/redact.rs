//! `freehold audit redact`: what is about persons goes, the proof stays.

use freehold_api::audit::{AuditRedacted, RedactAudit};
use uuid::Uuid;

use super::list::{Choice, before};
use crate::Cx;
use crate::failure::Outcome;

#[derive(Debug, clap::Args)]
pub struct Redact {
    /// One event, by the id that `freehold audit list --json` shows
    #[arg(long, value_name = "ID")]
    id: Option<Uuid>,
    #[command(flatten)]
    choice: Choice,
    /// Why: it stays in the audit
    #[arg(long)]
    reason: String,
}

pub async fn run(args: Redact, cx: &mut Cx) -> Outcome {
    let Choice { actor, action, subject, outcome, request_id, since, until } = args.choice;
    let (since, until) = (before(since, cx.around.now)?, before(until, cx.around.now)?);
    let reason = args.reason;
    let body = RedactAudit { reason, id: args.id, actor, action, subject, outcome, request_id, since, until };
    let AuditRedacted { redacted, held, .. } = cx.client()?.redact_audit(&body).await?;
    if cx.out.wants_json() {
        return cx.out.json(&serde_json::json!({"redacted": redacted, "held": held}));
    }
    cx.out.line(&match redacted {
        1 => "1 event is redacted".to_owned(),
        more => format!("{more} events are redacted"),
    });
    if held > 0 {
        cx.out.note(&format!("{held} are as they were, because they are held; see: freehold audit hold list"));
    }
    Ok(())
}
