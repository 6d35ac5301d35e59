//! Waits for long work: the request's own wait first, then the operation's events.
//!
//! Whoever stops waiting stops nothing: the work goes on.

use std::time::Duration;

use freehold_api::OperationId;
use freehold_api::operation::{Operation, OperationEvent, OperationState};
use reqwest::StatusCode;
use tokio::time::Instant;

use crate::client::Client;
use crate::error::Error;
use crate::request::{Reply, Request};

/// The longest that one request is left waiting; beyond it the events tell more.
const REQUEST_WAIT: Duration = Duration::from_secs(10);
/// A stream that is silent for this long is asked again.
const SILENCE: Duration = Duration::from_secs(30);
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_MOST: Duration = Duration::from_secs(5);

/// What is seen while work is waited for.
#[derive(Debug)]
pub enum Seen<'a> {
    /// The work has an id now, by which anybody can follow it.
    Begun(&'a Operation),
    /// Something happened to it.
    Event(&'a Operation, &'a OperationEvent),
}

/// How long work stands when the wait is over.
#[derive(Debug)]
pub enum Settled {
    /// Done, and the answer brought the thing along.
    With(Reply),
    /// Done; the thing must be asked for (or is gone).
    Done(Box<Operation>),
    /// Begun, and nobody wanted to wait: the answer is the operation.
    Begun(Reply),
}

impl Client {
    /// Sends a request for long work, and waits for its end as long as `within`. Zero: not at all.
    ///
    /// # Errors
    /// As [`Client::send`]; besides, [`Error::OperationEnded`] when the work failed, was cancelled or is stuck, and
    /// [`Error::WaitExpired`] when it goes on beyond `within`.
    pub async fn settle(
        &self,
        request: Request,
        within: Duration,
        mut seen: impl FnMut(Seen<'_>),
    ) -> Result<Settled, Error> {
        let began = Instant::now();
        let reply = self.send(request.wait(within.min(REQUEST_WAIT).as_secs())).await?;
        if reply.status != StatusCode::ACCEPTED {
            return Ok(Settled::With(reply));
        }
        let operation: Operation = reply.parse()?;
        seen(Seen::Begun(&operation));
        if has_ended(operation.state) {
            return succeeded(operation).map(|operation| Settled::Done(Box::new(operation)));
        }
        if within.is_zero() {
            return Ok(Settled::Begun(reply));
        }
        let followed = self.follow(operation.id, |event| seen(Seen::Event(&operation, event)));
        match tokio::time::timeout(within.saturating_sub(began.elapsed()), followed).await {
            Ok(ended) => succeeded(ended?).map(|operation| Settled::Done(Box::new(operation))),
            Err(_) => Err(Error::WaitExpired(operation.id)),
        }
    }

    /// Reads events until the operation is over or stuck, and answers it as it then is.
    ///
    /// # Errors
    /// As [`Client::send`]: the control plane may be away for as long as the client's patience.
    pub async fn follow(&self, id: OperationId, mut seen: impl FnMut(&OperationEvent)) -> Result<Operation, Error> {
        let name = id.to_string();
        let mut last = None;
        let mut pause = RECONNECT_FIRST;
        loop {
            // Without the stream (a proxy that holds it back, a restart) the question below still gets its answer.
            if let Ok(mut events) = self.events(&name, last).await {
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
            let operation: Operation = self.get(&["operations", &name]).await?;
            if has_ended(operation.state) {
                return Ok(operation);
            }
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(RECONNECT_MOST);
        }
    }
}

/// The operation, where it succeeded.
///
/// # Errors
/// [`Error::OperationEnded`] where it did not.
pub fn succeeded(operation: Operation) -> Result<Operation, Error> {
    match operation.state {
        OperationState::Succeeded => Ok(operation),
        _ => Err(Error::OperationEnded(Box::new(operation))),
    }
}

/// Over, or waiting for a person: nothing more happens by itself.
pub(crate) fn has_ended(state: OperationState) -> bool {
    state.is_over() || state == OperationState::Stuck
}
