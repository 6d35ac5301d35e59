//! How often servers are looked at.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// From one look at every server to the next; 1 to 3600.
    pub period_seconds: u64,
    /// How long one server may take to answer; 1 to 60.
    pub timeout_seconds: u64,
}

impl Default for Health {
    fn default() -> Self {
        Self { period_seconds: 30, timeout_seconds: 5 }
    }
}

impl Health {
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=3600).contains(&self.period_seconds) {
            return Err(format!("period_seconds is {}; use 1 to 3600", self.period_seconds));
        }
        if !(1..=60).contains(&self.timeout_seconds) {
            return Err(format!("timeout_seconds is {}; use 1 to 60", self.timeout_seconds));
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Stats {
    /// From one round of counters, sessions and quotas to the next; 1 to 3600.
    pub period_seconds: u64,
    /// How old the size of a database in use may become; 1 to 86400. Measuring costs about a millisecond each.
    pub size_period_seconds: u64,
}

impl Default for Stats {
    fn default() -> Self {
        Self { period_seconds: 60, size_period_seconds: 300 }
    }
}

impl Stats {
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=3600).contains(&self.period_seconds) {
            return Err(format!("period_seconds is {}; use 1 to 3600", self.period_seconds));
        }
        if !(1..=86_400).contains(&self.size_period_seconds) {
            return Err(format!("size_period_seconds is {}; use 1 to 86400", self.size_period_seconds));
        }
        Ok(())
    }
}
