//! What a pooler shall be. Pure data, with nothing in it that is secret: it may be sent and stored.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Verifier;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Raised with every change that is wanted; drivers refuse an older one than they have.
    pub generation: u64,
    pub listen: Listen,
    pub console: Console,
    pub client_tls: ClientTls,
    pub server_tls: ServerTls,
    pub limits: Limits,
    /// More of the pooler's own settings, as it spells them (`tcp_keepidle`). Those above win.
    #[serde(default)]
    pub extra: BTreeMap<String, String>,
    /// In any order. Nothing else is served: there is no wildcard, because it makes an unknown name hang.
    pub entries: Vec<Entry>,
}

/// What the plane says of a [`Configuration`]. Where a pooler listens, its certificates and the logins of its console are
/// its agent's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    pub limits: Limits,
    pub entries: Vec<Entry>,
}

/// Changing it needs a restart of the pooler, which [`super::Applied::needs_restart`] then names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listen {
    /// Addresses, or `*` alone for all of them.
    pub addresses: Vec<String>,
    pub port: u16,
}

/// Who may speak to the pooler about itself. Both come over the private socket, and from `networks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Console {
    /// May do everything.
    pub admin: ConsoleLogin,
    /// May only look. Its login proves that the list of users was read to its end: see [`super::pgbouncer`].
    pub check: ConsoleLogin,
    /// `127.0.0.1/32`, `::1/128`: addresses with the number of their fixed bits.
    pub networks: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleLogin {
    /// Letters, digits and underscores, at most 40; not `pgbouncer`.
    pub name: String,
    pub verifier: Verifier,
}

/// Towards clients. Paths are the pooler's: it reads the files at every reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum ClientTls {
    Off,
    /// Who asks for it gets it: development.
    Offered {
        certificate: PathBuf,
        key: PathBuf,
    },
    /// Nobody gets in without; a private socket excepted.
    Required {
        certificate: PathBuf,
        key: PathBuf,
    },
    /// The same, and clients show a certificate of this authority on top of their password.
    Mutual {
        certificate: PathBuf,
        key: PathBuf,
        ca: PathBuf,
    },
}

/// Towards servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum ServerTls {
    /// A cluster of this machine.
    Off,
    /// Where the server has it, whoever the server is: development. What encrypts without verifying protects from nobody in
    /// the way.
    Offered,
    /// The name in [`Server::host`] is in the server's certificate, and this authority vouches for it.
    VerifyFull { ca: PathBuf },
}

/// Of the whole pooler, and of entries that do not say otherwise. 0 connections: no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub client_connections: u32,
    pub default_mode: Mode,
    pub default_pool_size: u32,
    pub default_reserve: u32,
    /// Server connections for each database, over all its logins.
    pub default_database_connections: u32,
    /// How long a client waits before the reserve is opened for it.
    pub reserve_after_seconds: u32,
    /// How long a client waits for a server connection before it is sent away with an error. A pause must end before.
    pub client_wait_seconds: u32,
    pub server_idle_seconds: u32,
    pub server_lifetime_seconds: u32,
    pub server_connect_seconds: u32,
    /// How long after a failed attempt the next one is made. Until then clients without a server connection are refused.
    pub server_retry_seconds: u32,
    /// For each server connection. Versions that have none (PgBouncer before 1.21) leave it out.
    pub prepared_statements: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            client_connections: 5_000,
            default_mode: Mode::Transaction,
            default_pool_size: 5,
            default_reserve: 0,
            default_database_connections: 0,
            reserve_after_seconds: 3,
            client_wait_seconds: 120,
            server_idle_seconds: 120,
            server_lifetime_seconds: 3_600,
            server_connect_seconds: 10,
            server_retry_seconds: 1,
            prepared_statements: 200,
        }
    }
}

/// What a server connection is lent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Session,
    Transaction,
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
        }
    }
}

/// One database that clients may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What clients ask for. It need not be the database's real name, and cannot be any name: an ini file has no quotes
    /// for it ([`super::pgbouncer::EntryName`]).
    pub name: String,
    pub server: Server,
    /// Its real name on the server, whatever that is.
    pub database: String,
    /// None: [`Limits::default_mode`].
    pub mode: Option<Mode>,
    /// Server connections for each login.
    pub pool_size: u32,
    /// On top, for those who waited.
    pub reserve: u32,
    /// Server connections over all logins; none: [`Limits::default_database_connections`].
    pub database_connections: Option<u32>,
    /// Client connections. Versions that have no such limit (PgBouncer before 1.24) leave it out and say so.
    pub client_connections: Option<u32>,
    /// Only these may ask for it.
    pub logins: Vec<Login>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// One name or address, or (starting with `/`) the directory of a socket. A list is refused: poolers take turns
    /// through it, standbys included. Not `localhost` for a server that listens on 127.0.0.1 alone: PgBouncer 1.24 with
    /// Debian's resolver takes it for `::1` and nothing else, and its clients wait in vain.
    pub host: String,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    pub role: String,
    /// The identical string that the server has: with another salt PgBouncer 1.18 lets clients hang.
    pub verifier: Verifier,
    pub standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    Usable,
    /// Retired or suspended: it stays in the list with a verifier that no password fits. Sessions that are open are not
    /// touched; the server ends those.
    Unusable,
}
