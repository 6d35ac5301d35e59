//! Waits for long work: the request's own wait first, then the operation's events.
//!
//! A person who stops waiting stops nothing: the work goes on, and the hint says how to watch it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use freehold_api::OperationId;
use freehold_api::operation::{Operation, OperationEvent, OperationState};
use reqwest::StatusCode;
use serde_json::Value;

use crate::Cx;
use crate::client::{Client, Request, parse};
use crate::failure::Failure;

/// The longest that one request is left waiting; beyond it the events tell more.
const REQUEST_WAIT: u64 = 10;
/// A stream that is silent for this long is asked again.
const SILENCE: Duration = Duration::from_secs(30);
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_MOST: Duration = Duration::from_secs(5);

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
    let began = tokio::time::Instant::now();
    let reply = client.send(request.wait(wait.seconds().min(REQUEST_WAIT))).await?;
    let settled = match reply.status {
        StatusCode::ACCEPTED => {
            let operation: Operation = reply.parse()?;
            cx.hint.set(Some(format!("freehold operation watch {}", operation.id)));
            if wait.seconds() == 0 && !has_ended(operation.state) {
                cx.hint.set(None);
                return Ok(Settled::Begun(reply.body));
            }
            let left = Duration::from_secs(wait.seconds()).saturating_sub(began.elapsed());
            let what = title(&operation);
            let ended = if has_ended(operation.state) {
                operation
            } else {
                let followed = follow(&client, operation.id, |event| spinner.say(&format!("{what}: {}", told(event))));
                let Ok(ended) = tokio::time::timeout(left, followed).await else {
                    return Err(Failure::WaitExpired(operation.id));
                };
                parse(&ended?)?
            };
            succeeded(ended)?;
            Settled::Done
        }
        _ if reply.body.is_null() => Settled::Done,
        _ => Settled::With(reply.body),
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

/// Reads events until the operation ended or is stuck; the answer is the operation as the API shows it.
pub async fn follow(client: &Client, id: OperationId, mut seen: impl FnMut(&OperationEvent)) -> Result<Value, Failure> {
    let name = id.to_string();
    let mut last = None;
    let mut pause = RECONNECT_FIRST;
    loop {
        // Without the stream (a proxy that holds it back, a restart) the question below still gets its answer.
        if let Ok(mut events) = client.events(&name, last).await {
            while let Ok(Some(event)) = tokio::time::timeout(SILENCE, events.next()).await {
                if last.is_some_and(|last| event.seq <= last) {
                    continue;
                }
                last = Some(event.seq);
                pause = RECONNECT_FIRST;
                seen(&event);
                if has_ended(event.state) {
                    break;
                }
            }
        }
        // An event may be old news (stuck, then retried): the operation itself decides.
        let body = client.send(Request::get(&["operations", &name])).await?.body;
        let operation: Operation = parse(&body)?;
        if has_ended(operation.state) {
            return Ok(body);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RECONNECT_MOST);
    }
}

pub fn succeeded(operation: Operation) -> Result<(), Failure> {
    match operation.state {
        OperationState::Succeeded => Ok(()),
        _ => Err(Failure::OperationEnded(Box::new(operation))),
    }
}

/// Over, or waiting for a person: nothing more happens by itself.
fn has_ended(state: OperationState) -> bool {
    state.is_over() || state == OperationState::Stuck
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
