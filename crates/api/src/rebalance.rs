//! Evening out servers: who would go where, and doing it.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::OperationId;
use crate::drain::DrainState;
use crate::id::{PoolName, ServerId, TenantId};
use crate::operation::OperationState;

/// How far from its share a server may be, unless a request says so.
pub const TOLERANCE_PERCENT: u32 = 10;
/// Moves of one rebalance; whoever has done that asks again.
pub const MAX_MOVES: u32 = 100;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SuggestRebalance {
    /// Of this server pool only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub pool: Option<PoolName>,
    /// Of this region only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// How far from its share a server may be before anybody moves; 10 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 100)]
    pub tolerance_percent: Option<u32>,
    /// So many moves at most; 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 100)]
    pub max_moves: Option<u32>,
    /// So many bytes to copy at most, of all moves; any number when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(maximum = 9_223_372_036_854_775_807_i64)]
    pub max_bytes: Option<u64>,
    /// Tenants that are protected from deletion may move too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RebalanceServers {
    /// Of this server pool only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolName>,
    /// Of this region only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// How far from its share a server may be before anybody moves; 10 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    pub tolerance_percent: Option<u32>,
    /// So many moves at most; 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    pub max_moves: Option<u32>,
    /// So many bytes to copy at most, of all moves; any number when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 9_223_372_036_854_775_807_i64)]
    pub max_bytes: Option<u64>,
    /// Tenants that are protected from deletion may move too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected: Option<bool>,
    /// So many tenants move at once, 2 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 16)]
    pub at_once: Option<u32>,
    /// How long the sides that were left follow; the setting `tenants.move_grace_seconds` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 7_776_000)]
    pub keep_seconds: Option<u64>,
    /// That it is meant: whoever leaves it out is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<bool>,
}

impl RebalanceServers {
    /// What is to be suggested before it is done.
    pub fn suggestion(&self) -> SuggestRebalance {
        let Self { pool, region, tolerance_percent, max_moves, max_bytes, protected, .. } = self.clone();
        SuggestRebalance { pool, region, tolerance_percent, max_moves, max_bytes, protected }
    }
}

/// What would be done now, and how the newest one stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rebalance {
    /// Servers that could trade tenants: the shared ones of a pool and a region, or registered ones of a region.
    pub groups: Vec<RebalanceGroup>,
    /// In their order; of one group after the other.
    pub moves: Vec<RebalanceMove>,
    /// What they copy.
    pub bytes: u64,
    /// How long that takes, two at once, by documented rates.
    pub seconds: f64,
    /// Null: there was none.
    pub newest: Option<RebalanceRun>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RebalanceGroup {
    /// Null: servers that were registered.
    pub pool: Option<PoolName>,
    pub region: Option<String>,
    pub servers: Vec<RebalanceServer>,
    /// How far the one that is furthest off is from its share, in percent of that: now, and then.
    pub off_percent: f64,
    pub off_percent_after: f64,
    /// Why nobody moves, or nobody else.
    pub why: Option<String>,
    /// Who is not considered, and why; nobody is told where every server is within the tolerance.
    pub left_out: Vec<RebalanceLeftOut>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RebalanceLeftOut {
    pub tenant: TenantId,
    pub server: ServerId,
    /// `wrong_state`, `busy`, `plan_changes`, `protected`, `kept_logins`, `not_measured`, `not_movable`, `unknown_template`, or
    /// that of its last move, which came to nothing.
    pub code: String,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RebalanceServer {
    pub server: ServerId,
    pub now: RebalanceAmounts,
    pub after: RebalanceAmounts,
}

/// As they were last measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RebalanceAmounts {
    pub tenants: u64,
    pub bytes: u64,
    pub transactions_per_second: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RebalanceMove {
    pub tenant: TenantId,
    pub from: ServerId,
    pub to: ServerId,
    /// As it was last measured; null before that.
    pub bytes: Option<u64>,
    pub state: DrainState,
    /// Its move.
    pub operation: Option<OperationId>,
    /// Why it is left, its move waits, or is begun again later.
    pub code: Option<String>,
    pub message: Option<String>,
}

/// How one that was begun stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RebalanceRun {
    pub operation: OperationId,
    /// Null: it is no longer kept.
    pub state: Option<OperationState>,
    /// Tenants that are elsewhere.
    pub moved: u32,
    pub moving: u32,
    pub waiting: u32,
    /// Tenants that could not be moved.
    pub left: u32,
    pub moves: Vec<RebalanceMove>,
}

impl RebalanceRun {
    /// Counts them.
    pub fn of(operation: OperationId, state: Option<OperationState>, moves: Vec<RebalanceMove>) -> Self {
        let count = |state| moves.iter().filter(|one| one.state == state).count().try_into().unwrap_or(u32::MAX);
        Self {
            operation,
            state,
            moved: count(DrainState::Moved),
            moving: count(DrainState::Moving),
            waiting: count(DrainState::Waiting),
            left: count(DrainState::Left),
            moves,
        }
    }
}
