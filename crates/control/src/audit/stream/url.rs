//! Posts sealed events: lines of JSON in a batch, signed with a secret that both sides know, until it is taken (2xx).

use std::time::Duration;

use async_trait::async_trait;
use freehold_chain::Record;
use freehold_drivers::webhook::Webhook;
use freehold_durable::{Failure, Loop, LoopCx};

use super::{Batch, Receiver, not_streamed, send};
use crate::plane::Core;
use crate::settings::Audit;

pub const LOOP: &str = "audit_stream_url";
pub const NAME: &str = "url";

pub struct ToUrl {
    core: Core,
    webhook: Option<Webhook>,
}

impl ToUrl {
    pub fn new(core: Core) -> Self {
        let Audit { stream_url, stream_secret, .. } = &core.settings.audit;
        let webhook = stream_url.as_ref().zip(stream_secret.as_ref()).map(|(url, secret)| {
            let webhook = Webhook::new(url.expose_secret()).expect("checked() saw to it");
            webhook.signed_with(secret.expose_secret())
        });
        Self { core, webhook }
    }
}

#[async_trait]
impl Loop for ToUrl {
    fn name(&self) -> &'static str {
        LOOP
    }
    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        match &self.webhook {
            Some(webhook) => send(&self.core, cx, webhook).await,
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Receiver for Webhook {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn has(&self) -> Result<Option<Record>, Failure> {
        Ok(None)
    }

    async fn take(&self, batch: &Batch) -> Result<(), Failure> {
        let posted = self.post("application/x-ndjson", batch.lines.as_bytes()).await;
        posted.map_err(|error| not_streamed(&format!("audit.stream_url: {error}")))
    }
}
