//! Where PostgreSQL and its companions run: one small trait, and a conformance suite that every implementation passes.
//!
//! Absent: which server is wanted where; that is the fleet's business. A platform keeps what it was asked for by itself
//! (its services, their labels, its directories); it reads no table.

mod container;
pub mod docker;
pub mod nomad;
pub mod process;
mod refusal;
mod service;

use async_trait::async_trait;

pub use service::*;

#[async_trait]
pub trait Platform: Send + Sync {
    /// `process`, `docker` or `nomad`.
    fn kind(&self) -> &'static str;

    /// The service is defined as said and on its way up afterwards; what runs with another definition is stopped first
    /// and started again, unless less will do (`process` reloads a certificate). Data that is there is kept, attempts
    /// that are used up are given back. Does not wait for it to be ready.
    async fn ensure(&self, service: &Service) -> Result<(), PlatformError>;

    async fn observe(&self, name: &str) -> Result<Observed, PlatformError>;

    /// Cleanly, within its grace. Definition and data stay; [`Platform::ensure`] starts it again.
    async fn stop(&self, name: &str) -> Result<(), PlatformError>;

    /// The service is gone; its data stays where it is. What has its name and is somebody else's is left alone, and no error:
    /// nothing of the service is there.
    async fn remove(&self, name: &str) -> Result<(), PlatformError>;

    /// Its data is gone too; somebody else's that is in its place is left alone, and no error. Refused while the service is
    /// there. There is no way back.
    async fn purge(&self, name: &str) -> Result<(), PlatformError>;

    /// Every service that Freehold made here, by name.
    async fn list(&self) -> Result<Vec<String>, PlatformError>;

    /// The last lines it wrote, for the person who asks why it does not start.
    async fn last_words(&self, name: &str) -> Result<String, PlatformError>;
}

/// Says what was wrong, what was expected, and what to do next.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct PlatformError {
    pub kind: PlatformErrorKind,
    pub message: String,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlatformErrorKind {
    /// The engine does not answer, or not now.
    Unreachable,
    /// The engine answers and refuses: socket's mode, token, registry's credentials.
    Denied,
    ImageMissing,
    PortTaken,
    /// No node satisfies the constraints, or has room for the reservations.
    NoNode,
    /// The storage path is missing or not writable; or the data of a provisioned server is not there.
    Storage,
    /// A newer generation is there already.
    Outdated,
    /// Purge of a service that is still there; a name, or a place for its data, that is somebody else's.
    Conflict,
    /// The platform cannot do this at all (a program of that version is not installed).
    Unsupported,
    Other,
}

impl PlatformError {
    pub fn new(kind: PlatformErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub fn because(
        kind: PlatformErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { kind, message: message.into(), source: Some(source.into()) }
    }

    /// Stable, for programs.
    pub fn code(&self) -> &'static str {
        match self.kind {
            PlatformErrorKind::Unreachable => "platform_unreachable",
            PlatformErrorKind::Denied => "platform_denied",
            PlatformErrorKind::ImageMissing => "image_missing",
            PlatformErrorKind::PortTaken => "port_taken",
            PlatformErrorKind::NoNode => "no_node",
            PlatformErrorKind::Storage => "storage_missing",
            PlatformErrorKind::Outdated => "generation_outdated",
            PlatformErrorKind::Conflict => "platform_conflict",
            PlatformErrorKind::Unsupported => "platform_unsupported",
            PlatformErrorKind::Other => "platform_failed",
        }
    }

    /// Trying the same again may help.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.kind,
            PlatformErrorKind::Unreachable
                | PlatformErrorKind::PortTaken
                | PlatformErrorKind::NoNode
                | PlatformErrorKind::Other
        )
    }
}
