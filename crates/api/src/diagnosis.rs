//! Why a tenant's application does not get in, or does not get on: the way in, link by link.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{ServerId, TenantId};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Diagnosis {
    pub tenant: TenantId,
    pub server: Option<ServerId>,
    pub at: Timestamp,
    /// The first link that is broken; null when none is.
    pub broken: Option<LinkName>,
    /// In the order in which they are walked.
    pub links: Vec<Link>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Link {
    pub name: LinkName,
    pub state: LinkState,
    /// What was found. Never holds a secret.
    pub message: String,
    /// What to do about it.
    pub next: Option<String>,
    /// How long it took to find out.
    pub milliseconds: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinkName {
    /// What the control store says of it: suspended, deleted, an operation that is stuck.
    Tenant,
    /// What the control store says of its server.
    Server,
    /// The tenants' address of the server resolves.
    Name,
    /// Somebody takes connections there.
    Port,
    /// The certificate is the one that clients expect.
    Tls,
    /// Freehold's own way in; what comes after it is seen through it.
    Admin,
    /// The login role and the database are as they were made.
    Role,
    /// Limits of connections: of the login, the database, the server.
    Connections,
    /// The stored credential is admitted.
    Login,
    /// Whoever logs in becomes the owner, in the right database.
    Identity,
    /// The database takes writes.
    Writes,
    /// Sessions that wait for each other.
    Locks,
    /// Transactions that stay open.
    Transactions,
    /// Its size against its quota, and the server's free space.
    Disk,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    Ok,
    /// Works, and somebody should know.
    Notable,
    Broken,
    /// Not looked at, because of a link before it.
    Skipped,
}

impl LinkName {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Server => "server",
            Self::Name => "name",
            Self::Port => "port",
            Self::Tls => "tls",
            Self::Admin => "admin",
            Self::Role => "role",
            Self::Connections => "connections",
            Self::Login => "login",
            Self::Identity => "identity",
            Self::Writes => "writes",
            Self::Locks => "locks",
            Self::Transactions => "transactions",
            Self::Disk => "disk",
        }
    }
}

impl LinkState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Notable => "notable",
            Self::Broken => "broken",
            Self::Skipped => "skipped",
        }
    }
}
