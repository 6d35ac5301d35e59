//! What went wrong with a pooler, in the terms a caller can act upon.

use std::error::Error as StdError;

/// Says what was wrong, what was expected, and what to do next.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct PoolerError {
    pub kind: PoolerErrorKind,
    pub message: String,
    #[source]
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolerErrorKind {
    /// Nothing listens at the console's address, or it hung up.
    Unreachable,
    /// Something is there and not ready for anybody.
    Starting,
    /// It listens, and says nothing within the limit.
    Timeout,
    /// The console's password is wrong, or the login is none of its administrators.
    Denied,
    /// What answers is no pooler of this kind.
    NotAPooler,
    /// The files cannot be written, or not given to whom they belong.
    NotWritable,
    DiskFull,
    /// A newer generation is there already.
    Outdated,
    /// The configuration says what this pooler cannot: a name, a list of hosts, two verifiers for one login.
    Refused,
    /// It answered success, and serves something else.
    NotVerified,
    /// There is no such database in it.
    Missing,
    /// Another Freehold is at work on its files, or they are somebody else's.
    Conflict,
    /// The program is not on this machine.
    ProgramMissing,
    PortTaken,
    Other,
}

impl PoolerErrorKind {
    /// Stable, for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unreachable => "pooler_unreachable",
            Self::Starting => "pooler_starting",
            Self::Timeout => "pooler_timeout",
            Self::Denied => "pooler_denied",
            Self::NotAPooler => "not_a_pooler",
            Self::NotWritable => "pooler_not_writable",
            Self::DiskFull => "disk_full",
            Self::Outdated => "generation_outdated",
            Self::Refused => "pooler_configuration_refused",
            Self::NotVerified => "pooler_not_verified",
            Self::Missing => "pooler_database_missing",
            Self::Conflict => "pooler_conflict",
            Self::ProgramMissing => "pooler_program_missing",
            Self::PortTaken => "port_taken",
            Self::Other => "pooler_failed",
        }
    }
}

impl PoolerError {
    pub fn new(kind: PoolerErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub fn because(
        kind: PoolerErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self { kind, message: message.into(), source: Some(source.into()) }
    }

    pub fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// Trying the same again may help.
    pub fn is_transient(&self) -> bool {
        use PoolerErrorKind::*;
        match self.kind {
            Unreachable | Starting | Timeout | DiskFull | NotVerified | Conflict | PortTaken | Other => true,
            Denied | NotAPooler | NotWritable | Outdated | Refused | Missing | ProgramMissing => false,
        }
    }
}

pub(super) fn outdated(there: u64, asked: u64) -> PoolerError {
    PoolerError::new(
        PoolerErrorKind::Outdated,
        format!("the pooler is at generation {there} already, {asked} is older: somebody else has changed it since"),
    )
}
