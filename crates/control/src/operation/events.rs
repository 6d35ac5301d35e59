//! Streams what happens to an operation (server-sent events), from where the caller left off.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use freehold_api::id::OperationId;
use freehold_api::operation::OperationEvent;
use futures::{Stream, StreamExt as _};
use tokio_stream::wrappers::ReceiverStream;

use super::answer;
use crate::http::access::Caller;
use crate::http::extract::Id;
use crate::plane::{Answer, Plane};

const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Follow an operation
#[utoipa::path(get, path = "/v1/operations/{id}/events", tag = "operations",
    params(("id" = OperationId, Path, description = "The operation's id")),
    responses((status = 200, description = "Server-sent events, each an OperationEvent; it ends when the operation is over or stuck",
        body = String, content_type = "text/event-stream")))]
pub async fn events(
    State(plane): State<Plane>,
    caller: Caller,
    Id(id): Id<OperationId>,
    headers: HeaderMap,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    answer::find_for(&plane, &caller, id).await?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()).and_then(|id| id.parse().ok());
    let (send, receive) = tokio::sync::mpsc::channel(16);
    tokio::spawn(follow(plane, caller, id, last.unwrap_or(0), send));
    Ok(Sse::new(ReceiverStream::new(receive)).keep_alive(KeepAlive::default()))
}

/// Ends when the operation does, or when the caller hangs up.
async fn follow(
    plane: Plane,
    caller: Caller,
    id: OperationId,
    mut after: i64,
    send: tokio::sync::mpsc::Sender<Result<Event, Infallible>>,
) {
    let mut changed = plane.engine.subscribe(id.0);
    loop {
        let Ok(events) = plane.engine.events(id.0, after).await else { return };
        for row in events {
            after = row.seq;
            let event = OperationEvent {
                seq: row.seq,
                at: row.at,
                state: answer::state(row.state),
                step: row.step_name,
                attempt: row.attempt,
                error: row.error.map(|error| answer::error_shown_to(&caller, answer::error(error))),
            };
            let Ok(event) = Event::default().id(row.seq.to_string()).json_data(&event) else { return };
            if send.send(Ok(event)).await.is_err() {
                return;
            }
        }
        // As it is now, not as it was at some event: what was stuck may have been retried.
        match plane.engine.get(id.0).await {
            Ok(Some(row)) if row.state.is_over() || row.state == freehold_durable::State::Stuck => {
                let newer = plane.engine.events(id.0, after).await.is_ok_and(|events| !events.is_empty());
                if !newer {
                    return;
                }
                continue;
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return,
        }
        tokio::select! {
            () = send.closed() => return,
            _ = tokio::time::timeout(LOOK_AGAIN, changed.next()) => {}
        }
    }
}
