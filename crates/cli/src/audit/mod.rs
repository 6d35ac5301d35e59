//! `freehold audit …`: who did what, when, and how it ended; and the proof that nobody has bent it since.

mod export;
mod hold;
mod list;
mod redact;
mod verify;
mod walk;

use freehold_api::audit::AuditKey;

use crate::Cx;
use crate::client::Request;
use crate::failure::Outcome;

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// List events, newest first
    List(list::List),
    /// Walk the chain of events and tell what was bent; exit 11 or 12 where something was
    Verify(Box<verify::Verify>),
    /// Print sealed events, oldest first, as JSON lines or CSV
    Export(export::Export),
    /// The public key that checkpoints are verified with: keep it apart from the control plane
    Key,
    /// Take names, addresses and details out of sealed events; the chain goes on proving the rest
    Redact(redact::Redact),
    /// Keep events from being removed and redacted, for as long as a law or a court asks
    #[command(subcommand)]
    Hold(hold::Verb),
}

pub async fn run(verb: Verb, cx: &mut Cx) -> Outcome {
    match verb {
        Verb::List(args) => list::run(args, cx).await,
        Verb::Verify(args) => verify::run(*args, cx).await,
        Verb::Export(args) => export::run(args, cx).await,
        Verb::Key => key(cx).await,
        Verb::Redact(args) => redact::run(args, cx).await,
        Verb::Hold(verb) => hold::run(verb, cx).await,
    }
}

/// The key alone on stdout, so that it can be kept by `>`.
async fn key(cx: &mut Cx) -> Outcome {
    let reply = cx.client()?.send(Request::get(&["audit", "key"])).await?;
    if cx.out.wants_json() {
        return cx.out.json(&reply.body);
    }
    let key: AuditKey = reply.parse()?;
    cx.out.line(&key.public_key);
    cx.out.note(&format!("key {} signs checkpoints of store {}", crate::output::plain(&key.id), key.store));
    Ok(())
}
