//! What went wrong on a server, in the terms a caller can act upon.
//!
//! The text holds PostgreSQL's message and SQLSTATE, never its DETAIL (that may quote a tenant's row), but for
//! dependencies, where the detail is the only thing that helps.

use std::error::Error as StdError;
use std::fmt;

use tokio_postgres::error::{DbError, ErrorPosition, SqlState};

#[derive(Debug)]
pub struct SqlError {
    /// The step that failed: `create database fh_x`.
    pub doing: String,
    pub kind: SqlErrorKind,
    pub sqlstate: Option<String>,
    /// Where in a script, counted in characters from 1.
    pub position: Option<u32>,
    message: String,
    source: Option<Box<tokio_postgres::Error>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SqlErrorKind {
    Unreachable,
    StartingUp,
    AuthFailed,
    Privilege,
    DiskFull,
    TooManyConnections,
    /// Out of memory, locks or what else the server has too little of just now.
    Exhausted,
    InUse,
    AlreadyExists,
    Missing,
    Terminated,
    /// Serialization, deadlock, lock timeout, concurrent update of a catalog row.
    Contention,
    Timeout,
    /// Something still depends on it (2BP01).
    DependedOn,
    /// Certificates or TLS settings do not fit.
    Tls,
    NotSupported,
    /// The server is not what was expected, e.g. `current_user` is not the owner.
    Unexpected,
    Other,
}

/// Schema, object, function, relation, a second primary key.
const EXISTS: [&str; 5] = ["42P06", "42710", "42723", "42P07", "42P16"];

impl SqlErrorKind {
    pub fn code(self) -> &'static str {
        match self {
            Self::Unreachable => "server_unreachable",
            Self::StartingUp => "server_starting",
            Self::AuthFailed => "admin_denied",
            Self::Privilege => "privilege_missing",
            Self::DiskFull => "disk_full",
            Self::TooManyConnections => "too_many_connections",
            Self::Exhausted => "server_exhausted",
            Self::InUse => "object_in_use",
            Self::AlreadyExists => "object_exists",
            Self::Missing => "object_missing",
            Self::Terminated => "connection_terminated",
            Self::Contention => "contention",
            Self::Timeout => "timeout",
            Self::DependedOn => "object_depended_on",
            Self::Tls => "tls_failed",
            Self::NotSupported => "not_supported",
            Self::Unexpected => "server_unexpected",
            Self::Other => "sql_error",
        }
    }
}

impl SqlError {
    pub(super) fn new(doing: impl Into<String>, kind: SqlErrorKind, message: impl Into<String>) -> Self {
        Self { doing: doing.into(), kind, sqlstate: None, position: None, message: message.into(), source: None }
    }

    pub(super) fn from_pg(doing: impl Into<String>, source: tokio_postgres::Error) -> Self {
        let (kind, message, sqlstate, position) = match source.as_db_error() {
            Some(db) => (of_state(db), describe(db), Some(db.code().code().to_owned()), position(db)),
            None => {
                let (kind, message) = of_client(&source);
                (kind, message, None, None)
            }
        };
        Self { doing: doing.into(), kind, sqlstate, position, message, source: Some(Box::new(source)) }
    }

    /// What was to be created is there already, under whatever code: some catalogs leave it to their unique index.
    pub(super) fn is_of_what_exists(&self) -> bool {
        let in_catalog = self
            .source
            .as_deref()
            .and_then(tokio_postgres::Error::as_db_error)
            .is_some_and(|db| *db.code() == SqlState::UNIQUE_VIOLATION && db.schema() == Some("pg_catalog"));
        in_catalog || self.sqlstate.as_deref().is_some_and(|state| EXISTS.contains(&state))
    }

    /// The same error about several hosts.
    pub(super) fn with_message(self, message: String) -> Self {
        Self { message, ..self }
    }

    /// Worth another attempt by itself, after a pause.
    pub fn is_transient(&self) -> bool {
        use SqlErrorKind::*;
        match self.kind {
            Unreachable | StartingUp | DiskFull | TooManyConnections | Exhausted | InUse | Terminated | Contention
            | Timeout => true,
            AuthFailed | Privilege | AlreadyExists | Missing | DependedOn | Tls | NotSupported | Unexpected | Other => {
                false
            }
        }
    }

    /// No number of attempts helps: somebody has to grant or correct something.
    pub fn is_for_a_person(&self) -> bool {
        matches!(self.kind, SqlErrorKind::AuthFailed | SqlErrorKind::Privilege | SqlErrorKind::Tls)
    }

    /// Stable, for programs.
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// PostgreSQL's own words, without the step.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.message)?;
        match &self.sqlstate {
            Some(state) => write!(f, " (SQLSTATE {state})"),
            None => Ok(()),
        }
    }
}

impl StdError for SqlError {
    /// PostgreSQL's message is in the text already: only what the client met is told as a cause.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().filter(|source| source.as_db_error().is_none()).and_then(StdError::source)
    }
}

fn of_state(db: &DbError) -> SqlErrorKind {
    use SqlErrorKind::*;
    match *db.code() {
        SqlState::CANNOT_CONNECT_NOW => StartingUp,
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => AuthFailed,
        SqlState::INSUFFICIENT_PRIVILEGE => Privilege,
        SqlState::DISK_FULL => DiskFull,
        SqlState::TOO_MANY_CONNECTIONS => TooManyConnections,
        SqlState::OBJECT_IN_USE => InUse,
        SqlState::DUPLICATE_DATABASE | SqlState::DUPLICATE_OBJECT => AlreadyExists,
        SqlState::INVALID_CATALOG_NAME | SqlState::UNDEFINED_OBJECT => Missing,
        SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN => Terminated,
        SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED | SqlState::LOCK_NOT_AVAILABLE => {
            Contention
        }
        SqlState::QUERY_CANCELED => Timeout,
        SqlState::DEPENDENT_OBJECTS_STILL_EXIST => DependedOn,
        SqlState::FEATURE_NOT_SUPPORTED => NotSupported,
        // PostgreSQL has no SQLSTATE of its own for two sessions that update one catalog row.
        SqlState::INTERNAL_ERROR if updated_concurrently(db) => Contention,
        SqlState::INTERNAL_ERROR if cannot_write(db) => DiskFull,
        ref other if other.code().starts_with("08") => Unreachable,
        ref other if other.code().starts_with("53") => Exhausted,
        _ => Other,
    }
}

/// By the function that raised it: messages come in the server's language, names of functions do not.
fn updated_concurrently(db: &DbError) -> bool {
    matches!(db.routine(), Some("simple_heap_update" | "simple_heap_delete"))
}

/// CREATE DATABASE grows files that are not written before a checkpoint: a full disk first shows in whatever comes
/// after, under PostgreSQL's code for anything.
fn cannot_write(db: &DbError) -> bool {
    matches!(db.routine(), Some("RequestCheckpoint" | "write_relcache_init_file" | "write_item"))
}

fn describe(db: &DbError) -> String {
    match db.detail() {
        _ if *db.code() == SqlState::INTERNAL_ERROR && cannot_write(db) => {
            format!("{}: the server cannot write: most likely its disk is full; its log has the reason", db.message())
        }
        Some(detail) if *db.code() == SqlState::DEPENDENT_OBJECTS_STILL_EXIST => format!("{}: {detail}", db.message()),
        _ => db.message().to_owned(),
    }
}

fn position(db: &DbError) -> Option<u32> {
    match db.position()? {
        ErrorPosition::Original(at) => Some(*at),
        ErrorPosition::Internal { .. } => None,
    }
}

/// What the client met before or instead of an answer.
fn of_client(error: &tokio_postgres::Error) -> (SqlErrorKind, String) {
    let mut message = error.to_string();
    let mut cause = StdError::source(error);
    let mut io = false;
    while let Some(inner) = cause {
        let text = inner.to_string();
        io |= inner.is::<std::io::Error>();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = inner.source();
    }
    if message.contains("CaUsedAsEndEntity") {
        message.push_str(
            " (the server presents a self-signed CA as its own certificate: sign a certificate with that CA instead)",
        );
    }
    if message.contains("does not allow writes") {
        message.push_str(": it is a standby");
        return (SqlErrorKind::Unreachable, message);
    }
    let tls = message.contains("TLS handshake")
        || message.contains("does not support TLS")
        || message.contains("invalid peer certificate");
    let kind = if tls {
        SqlErrorKind::Tls
    } else if io
        || error.is_closed()
        || message.contains("connecting to server")
        || message.contains("timed out")
        || message.contains("all hosts")
    {
        SqlErrorKind::Unreachable
    } else if message.contains("authentication") || message.contains("password missing") || message.contains("SCRAM") {
        SqlErrorKind::AuthFailed
    } else {
        SqlErrorKind::Other
    };
    (kind, message)
}
