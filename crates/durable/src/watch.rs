//! Who waits for a change of which operation, in this process; and the herald that tells the other processes.
//!
//! NOTIFY is sent after the commit and in batches: inside it, every commit of the database would queue behind one lock.
//! A process that dies in between leaves the news to the others' slow poll.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream::BoxStream;
use sqlx::PgPool;
use tokio::sync::watch;
use uuid::Uuid;

pub(crate) const OPERATION: &str = "freehold_operation";
pub(crate) const LOOP: &str = "freehold_loop";

#[derive(Default)]
pub(crate) struct Watchers(Mutex<HashMap<Uuid, watch::Sender<()>>>);

impl Watchers {
    pub(crate) fn subscribe(self: &Arc<Self>, id: Uuid) -> Subscription {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = map.entry(id).or_insert_with(|| watch::channel(()).0).subscribe();
        Subscription { id, receiver, watchers: self.clone() }
    }

    pub(crate) fn changed(&self, id: Uuid) {
        if let Some(sender) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            sender.send_replace(());
        }
    }

    /// After notifications may have been lost.
    pub(crate) fn all_changed(&self) {
        for sender in self.0.lock().unwrap_or_else(PoisonError::into_inner).values() {
            sender.send_replace(());
        }
    }
}

pub(crate) struct Subscription {
    id: Uuid,
    receiver: watch::Receiver<()>,
    watchers: Arc<Watchers>,
}

impl Subscription {
    pub(crate) async fn changed(&mut self) {
        // The sender lives as long as this subscription does.
        let _ = self.receiver.changed().await;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut map = self.watchers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.get(&self.id).is_some_and(|sender| sender.receiver_count() <= 1) {
            map.remove(&self.id);
        }
    }
}

/// Yields whenever the operation changed; several changes may be one item. Never ends.
pub struct Changes(BoxStream<'static, ()>);

impl Changes {
    pub(crate) fn new(subscription: Subscription) -> Self {
        Self(Box::pin(futures::stream::unfold(subscription, |mut subscription| async move {
            subscription.changed().await;
            Some(((), subscription))
        })))
    }
}

impl Stream for Changes {
    type Item = ();

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<()>> {
        self.0.as_mut().poll_next(cx)
    }
}

/// How long the herald waits for more news: each statement is a commit, and only other processes need it.
const GATHER: Duration = Duration::from_millis(50);

/// Sends notifications in the background, one statement for all that came in meanwhile.
#[derive(Default)]
pub(crate) struct Herald {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    sending: bool,
    channels: Vec<&'static str>,
    payloads: Vec<String>,
}

impl Herald {
    pub(crate) fn tell(self: &Arc<Self>, pool: &PgPool, channel: &'static str, payload: String) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if !queue.channels.iter().zip(&queue.payloads).any(|queued| queued == (&channel, &payload)) {
            queue.channels.push(channel);
            queue.payloads.push(payload);
        }
        if !queue.sending {
            queue.sending = true;
            tokio::spawn(self.clone().send(pool.clone()));
        }
    }

    async fn send(self: Arc<Self>, pool: PgPool) {
        loop {
            tokio::time::sleep(GATHER).await;
            let (channels, payloads) = {
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                if queue.channels.is_empty() {
                    queue.sending = false;
                    return;
                }
                (std::mem::take(&mut queue.channels), std::mem::take(&mut queue.payloads))
            };
            let sent =
                sqlx::query("select pg_notify(channel, payload)::text from unnest($1::text[], $2::text[]) as news (channel, payload)")
                    .bind(&channels)
                    .bind(&payloads)
                    .execute(&pool)
                    .await;
            if let Err(error) = sent {
                tracing::debug!(%error, "other processes were not told and will find out by polling");
            }
        }
    }
}
