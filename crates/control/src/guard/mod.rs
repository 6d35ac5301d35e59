//! What production refuses to start with: all of it at once, each with the setting that mends it.
//!
//! `look.rs` brings the facts, `judge.rs` is pure. It stands before `freehold serve` and `freehold worker`, once the
//! settings and every secret of theirs are read. Absent: rules about what Freehold has not: browsers' origins, a vault.

use std::fmt;

use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use utoipa::ToSchema;

use crate::settings::{Environment, Settings, listed};
use crate::start::CannotStart;

mod judge;
mod look;
mod store;

pub use judge::{Facts, StoreEnvironment, StoreFacts, judge};
pub use look::look;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    SealingKey,
    SecretGuessable,
    StoreUnanswered,
    StoreWithoutPassword,
    StoreWithoutTls,
    StoreSuperuser,
    ApiWithoutTls,
    PoolersWithoutTls,
    PoolerServersWithoutTls,
    PlaneWithoutTls,
    NomadWithoutTls,
    AuditWithoutTls,
    ClockUnsynchronised,
    FaultPoints,
}

impl Rule {
    pub const ALL: [Self; 14] = [
        Self::SealingKey,
        Self::SecretGuessable,
        Self::StoreUnanswered,
        Self::StoreWithoutPassword,
        Self::StoreWithoutTls,
        Self::StoreSuperuser,
        Self::ApiWithoutTls,
        Self::PoolersWithoutTls,
        Self::PoolerServersWithoutTls,
        Self::PlaneWithoutTls,
        Self::NomadWithoutTls,
        Self::AuditWithoutTls,
        Self::ClockUnsynchronised,
        Self::FaultPoints,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::SealingKey => "sealing_key",
            Self::SecretGuessable => "secret_guessable",
            Self::StoreUnanswered => "store_unanswered",
            Self::StoreWithoutPassword => "store_without_password",
            Self::StoreWithoutTls => "store_without_tls",
            Self::StoreSuperuser => "store_superuser",
            Self::ApiWithoutTls => "api_without_tls",
            Self::PoolersWithoutTls => "poolers_without_tls",
            Self::PoolerServersWithoutTls => "pooler_servers_without_tls",
            Self::PlaneWithoutTls => "plane_without_tls",
            Self::NomadWithoutTls => "nomad_without_tls",
            Self::AuditWithoutTls => "audit_without_tls",
            Self::ClockUnsynchronised => "clock_unsynchronised",
            Self::FaultPoints => "fault_points",
        }
    }

    /// Whether `compat.accept` may name it: another program may speak TLS for Freehold, but none makes a known secret unknown.
    pub fn may_be_accepted(self) -> bool {
        match self {
            Self::SealingKey | Self::SecretGuessable | Self::StoreUnanswered | Self::FaultPoints => false,
            Self::StoreWithoutPassword
            | Self::StoreWithoutTls
            | Self::StoreSuperuser
            | Self::ApiWithoutTls
            | Self::PoolersWithoutTls
            | Self::PoolerServersWithoutTls
            | Self::PlaneWithoutTls
            | Self::NomadWithoutTls
            | Self::AuditWithoutTls
            | Self::ClockUnsynchronised => true,
        }
    }
}

/// Why it does not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    pub rule: Rule,
    pub what: String,
    /// What to do; settings stand between backticks.
    pub remedy: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.rule.as_str(), self.what, self.remedy)
    }
}

/// In production refuses what is not accepted, and says what is.
pub async fn stand(settings: &Settings, store: Result<&PgPool, &CannotStart>) -> Result<(), CannotStart> {
    match settings.environment {
        Environment::Development => return Ok(()),
        Environment::Production => {}
    }
    let (accepted, refused) = apart(settings, judge(settings, &look(settings, store).await));
    for reason in accepted {
        tracing::warn!(rule = reason.rule.as_str(), "accepted in production (compat.accept): {}", reason.what);
    }
    match refused.is_empty() {
        true => Ok(()),
        false => Err(CannotStart::NotForProduction(refused)),
    }
}

/// Those that `compat.accept` names, and the others.
pub fn apart(settings: &Settings, reasons: Vec<Reason>) -> (Vec<Reason>, Vec<Reason>) {
    reasons.into_iter().partition(|reason| settings.compat.accept.contains(&reason.rule))
}

pub(crate) fn in_words(reasons: &[Reason]) -> String {
    listed(&reasons.iter().map(Reason::to_string).collect::<Vec<_>>())
}
