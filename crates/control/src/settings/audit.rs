//! Where, and how often, the audit's chain is anchored outside of the store, how long it is kept, and who else gets it.

use std::path::PathBuf;

use freehold_drivers::webhook::Webhook;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::secret::Secret;

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// [Signed checkpoints](audit.md#checkpoints) are appended to it: a file outside of the store. None: there are none.
    #[schema(value_type = Option<String>, format = "path")]
    pub checkpoint_file: Option<PathBuf>,
    /// Each is posted there, too. It may hold a token.
    pub checkpoint_url: Option<Secret>,
    /// From one checkpoint to the next, where anything was sealed.
    pub checkpoint_seconds: u64,
    /// Earlier, where so many records were sealed.
    #[schema(minimum = 1)]
    pub checkpoint_records: u32,
    /// Events that are older, and not held, are [removed](audit.md#retention). None: all are kept.
    #[schema(minimum = 1, maximum = 36_500)]
    pub retention_days: Option<u32>,
    /// Sealed events are [appended](audit.md#streams) to it.
    #[schema(value_type = Option<String>, format = "path")]
    pub stream_file: Option<PathBuf>,
    /// Sealed events are posted there. It may hold a token.
    pub stream_url: Option<Secret>,
    /// What they are signed with; `audit.stream_url` requires it. 32 characters or more.
    pub stream_secret: Option<Secret>,
}

const SECRET_MIN: usize = 32;

impl Default for Audit {
    fn default() -> Self {
        Self {
            checkpoint_file: None,
            checkpoint_url: None,
            checkpoint_seconds: 60,
            checkpoint_records: 1000,
            retention_days: None,
            stream_file: None,
            stream_url: None,
            stream_secret: None,
        }
    }
}

impl Audit {
    pub(super) fn check(&self) -> Result<(), String> {
        for (name, path) in [("checkpoint_file", &self.checkpoint_file), ("stream_file", &self.stream_file)] {
            if path.as_ref().is_some_and(|path| !path.is_absolute()) {
                return Err(format!("{name} must be an absolute path, as /var/lib/freehold-audit/checkpoints"));
            }
        }
        if self.stream_file.is_some() && self.stream_file == self.checkpoint_file {
            return Err("stream_file is the file of checkpoint_file; name another one".into());
        }
        for (name, url) in [("checkpoint_url", &self.checkpoint_url), ("stream_url", &self.stream_url)] {
            if let Some(url) = url {
                Webhook::new(url.expose_secret()).map_err(|error| format!("{name}: {error}"))?;
            }
        }
        match (&self.stream_url, &self.stream_secret) {
            (None, None) => {}
            (None, Some(_)) => return Err("stream_secret is there, and no stream_url: nothing would be signed".into()),
            (Some(_), Some(secret)) if secret.expose_secret().len() >= SECRET_MIN => {}
            (Some(_), None | Some(_)) => {
                return Err(format!(
                    "stream_secret: at least {SECRET_MIN} characters, as openssl rand -hex 32 makes them"
                ));
            }
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

#[cfg(test)]
mod tests {
    use super::Audit;

    #[test]
    fn settings_of_the_audit_that_would_prove_or_send_nothing_are_refused() {
        let check = |text: &str| toml::from_str::<Audit>(text).unwrap().check();
        let secret = "x".repeat(32);
        for fine in [
            String::new(),
            "retention_days = 1".into(),
            "stream_file = \"/var/lib/audit\"".into(),
            format!("stream_url = \"https://collector/hook\"\nstream_secret = \"{secret}\""),
        ] {
            assert_eq!(check(&fine), Ok(()), "{fine}");
        }
        for (wrong, why) in [
            ("retention_days = 0", "retention_days"),
            ("stream_file = \"audit\"", "stream_file must be an absolute path"),
            ("stream_file = \"/a\"\ncheckpoint_file = \"/a\"", "name another one"),
            ("stream_url = \"https://collector/hook\"", "stream_secret: at least 32 characters"),
            (
                "stream_url = \"https://collector/hook\"\nstream_secret = \"short\"",
                "stream_secret: at least 32 characters",
            ),
            ("stream_secret = \"x\"", "no stream_url"),
            ("stream_url = \"collector\"\nstream_secret = \"x\"", "stream_url: it is no URL"),
        ] {
            let said = check(wrong).unwrap_err();
            assert!(said.contains(why) && !said.contains("short"), "{wrong}: {said}");
        }
    }
}
