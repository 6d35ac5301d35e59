//! Where, and how often, the audit's chain is anchored outside of the store, and how long it is kept.

use std::path::PathBuf;

use freehold_drivers::webhook::Webhook;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Signed checkpoints are appended to it. None: there are none.
    pub checkpoint_file: Option<PathBuf>,
    /// Each is posted there, too. It may hold a token.
    pub checkpoint_url: Option<SecretString>,
    /// From one to the next, in seconds, where anything was sealed.
    pub checkpoint_seconds: u64,
    /// Earlier, where so many records were sealed.
    pub checkpoint_records: u32,
    /// Events that are older, and not held, are removed. None: none are.
    pub retention_days: Option<u32>,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            checkpoint_file: None,
            checkpoint_url: None,
            checkpoint_seconds: 60,
            checkpoint_records: 1000,
            retention_days: None,
        }
    }
}

impl Audit {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.checkpoint_file.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err("checkpoint_file must be an absolute path, as /var/lib/freehold-audit/checkpoints".into());
        }
        if let Some(url) = &self.checkpoint_url {
            Webhook::new(url.expose_secret()).map_err(|error| format!("checkpoint_url: {error}"))?;
        }
        if !(1..=86_400).contains(&self.checkpoint_seconds) {
            return Err(format!("checkpoint_seconds is {}; use 1 to 86400", self.checkpoint_seconds));
        }
        if self.checkpoint_records == 0 {
            return Err("checkpoint_records must be at least 1".into());
        }
        if self.retention_days.is_some_and(|days| !(1..=36_500).contains(&days)) {
            return Err("retention_days: use 1 to 36500, or leave it out: everything is kept".into());
        }
        Ok(())
    }

    /// Whether there is anywhere to anchor.
    pub fn anchors(&self) -> bool {
        self.checkpoint_file.is_some() || self.checkpoint_url.is_some()
    }
}
