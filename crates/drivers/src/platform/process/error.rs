//! Why a cluster on this machine does not run, with what to do about it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::server::sql::SqlError;

#[derive(Debug, Error)]
pub enum ProcessError {
    #[error("port {port} is taken: another server uses it, choose another port")]
    PortTaken { port: u16 },
    #[error("too little room in {}: {free_mb} MB free, {needed_mb} MB needed; make room, or choose another directory", .dir.display())]
    TooLittleRoom { dir: PathBuf, free_mb: u64, needed_mb: u64 },
    #[error("directory {} cannot be written", .dir.display())]
    NotWritable {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("user {user} cannot enter {}: choose a data directory elsewhere, or chmod o+x it", .dir.display())]
    NotEnterable { user: String, dir: PathBuf },
    #[error("the socket path in {} is longer than the 107 bytes that sockets allow: choose a shorter directory", .dir.display())]
    SocketPathTooLong { dir: PathBuf },
    #[error("directory {} holds something that is not a database cluster", .dir.display())]
    NotACluster { dir: PathBuf },
    #[error("cluster {} belongs to PostgreSQL {theirs}, the binaries are {ours}", .dir.display())]
    OtherVersion { dir: PathBuf, theirs: String, ours: String },
    #[error("another Freehold runs cluster {}", .dir.display())]
    Locked { dir: PathBuf },
    #[error("PostgreSQL does not run as root, and there is no user {user} to run it as")]
    NoSuchUser { user: String },
    #[error("initialise cluster {}: {output}", .dir.display())]
    Initdb { dir: PathBuf, output: String },
    #[error("PostgreSQL in {} did not start: {log}", .dir.display())]
    DidNotStart { dir: PathBuf, log: String },
    #[error("PostgreSQL in {} is still not ready", .dir.display())]
    NotReady {
        dir: PathBuf,
        #[source]
        source: SqlError,
    },
    #[error("process {pid}, left behind in {}, does not stop", .dir.display())]
    OrphanStays { dir: PathBuf, pid: i32 },
    #[error("{doing} {}", .path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl ProcessError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::PortTaken { .. } => "port_taken",
            Self::TooLittleRoom { .. } => "disk_full",
            Self::NotWritable { .. } | Self::NotEnterable { .. } => "data_dir_denied",
            Self::SocketPathTooLong { .. } => "socket_path_too_long",
            Self::NotACluster { .. } | Self::OtherVersion { .. } => "data_dir_foreign",
            Self::Locked { .. } => "data_dir_locked",
            Self::NoSuchUser { .. } => "user_missing",
            Self::Initdb { .. } => "initdb_failed",
            Self::DidNotStart { .. } | Self::NotReady { .. } => "server_did_not_start",
            Self::OrphanStays { .. } => "orphan_stays",
            Self::Io { .. } => "io_failed",
        }
    }

    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}
