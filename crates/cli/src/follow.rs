//! Waits for long work, and shows a person how it goes.
//!
//! A person who stops waiting stops nothing: the work goes on, and the hint says how to watch it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use freehold_api::operation::{Operation, OperationEvent};
use freehold_client::{Reply, Seen};
use serde_json::Value;

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::Failure;

/// The command that shows what became of the work, for a person who interrupts.
#[derive(Clone, Default)]
pub struct Hint(Arc<Mutex<Option<String>>>);

impl Hint {
    pub fn set(&self, command: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = command;
    }
    pub fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[derive(Debug, Clone, clap::Args)]
pub struct WaitArgs {
    /// Seconds to wait for the work to finish
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait: u64,
    /// Do not wait: print the operation
    #[arg(long, conflicts_with = "wait")]
    pub no_wait: bool,
}

impl WaitArgs {
    fn seconds(&self) -> u64 {
        if self.no_wait { 0 } else { self.wait }
    }
}

/// How long work stands when the command is done with waiting.
pub enum Settled {
    /// Done, and the answer brought the thing along.
    With(Value),
    /// Done; the thing must be asked for (or is gone).
    Done,
    /// Begun, and nobody wanted to wait.
    Begun(Value),
}

/// Sends a request for long work and waits as long as the caller wants.
/// `look` is the command that shows the thing before the operation's id is known.
pub async fn settle(cx: &mut Cx, request: Request, wait: &WaitArgs, look: &str) -> Result<Settled, Failure> {
    let client = cx.client()?;
    let out = cx.out.clone();
    let spinner = out.spinner("asking");
    cx.hint.set(Some(look.to_owned()));
    let hint = cx.hint.clone();
    let seen = |seen: Seen<'_>| match seen {
        Seen::Begun(operation) => hint.set(Some(format!("freehold operation watch {}", operation.id))),
        Seen::Event(operation, event) => spinner.say(&format!("{}: {}", title(operation), told(event))),
    };
    let settled = match client.settle(request, Duration::from_secs(wait.seconds()), seen).await? {
        freehold_client::Settled::Begun(Reply { body, .. }) => Settled::Begun(body),
        freehold_client::Settled::With(Reply { body, .. }) if !body.is_null() => Settled::With(body),
        freehold_client::Settled::With(_) | freehold_client::Settled::Done(_) => Settled::Done,
    };
    cx.hint.set(None);
    Ok(settled)
}

/// Prints an operation that nobody waits for.
pub fn tell_begun(cx: &Cx, body: &Value) -> Result<(), Failure> {
    if cx.out.wants_json() {
        return cx.out.json(body);
    }
    let operation: Operation = parse(body)?;
    cx.out.line(&format!("{} {}", title(&operation), operation.state.as_str()));
    cx.out.note(&format!("next: freehold operation watch {}", operation.id));
    Ok(())
}

fn title(operation: &Operation) -> String {
    match &operation.subject {
        Some(subject) => format!("{} {subject}", operation.kind),
        None => operation.kind.clone(),
    }
}

/// One event in words: `running Activate (attempt 2): the server does not answer (server_unreachable)`.
pub fn told(event: &OperationEvent) -> String {
    let attempt = if event.attempt > 1 { format!(" (attempt {})", event.attempt) } else { String::new() };
    let error = match &event.error {
        Some(error) => format!(": {} ({})", error.message, error.code),
        None => String::new(),
    };
    format!("{} {}{attempt}{error}", event.state.as_str(), event.step)
}
