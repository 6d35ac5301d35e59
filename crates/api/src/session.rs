//! Sessions in a tenant's database, as they were a moment ago.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// One client's session. What the server's admin may not see of it is null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    pub pid: i32,
    /// The role it logged in as.
    pub user: String,
    /// The tenant's own: ended by `terminate` without a pid.
    pub of_tenant: bool,
    /// What it calls itself.
    pub application: String,
    /// The client's address; null by a local socket.
    pub client: Option<String>,
    /// `active`, `idle`, `idle in transaction`, …
    pub state: Option<String>,
    pub since: Option<Timestamp>,
    pub state_since: Option<Timestamp>,
    /// When its open transaction began.
    pub transaction_since: Option<Timestamp>,
    /// `Lock: relation`, `Client: ClientRead`, …; null while it works.
    pub waits_for: Option<String>,
    /// The pids that hold what it waits for; 0 is a prepared transaction.
    pub blocked_by: Vec<i32>,
    /// What it runs, or ran last: only with `?query=true` and the scope `credentials`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListSessions {
    /// Show what each runs. That is the tenant's data: it takes the scope `credentials`, and is audited.
    #[serde(default)]
    pub query: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TerminateSessions {
    /// This one alone, also where it is not the tenant's own. All of the tenant's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub pid: Option<i32>,
    /// Only those that have done nothing for so long, in a transaction or out of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 31_536_000)]
    pub idle_for_seconds: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TerminatedSessions {
    /// Pids of the sessions that are gone.
    pub terminated: Vec<i32>,
    /// Pids of those that were to go and are still there, because the server's admin may not end them.
    pub left: Vec<i32>,
}
