//! Draining a server: all its tenants go elsewhere.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::OperationId;
use crate::id::{ServerId, TenantId};
use crate::movability::MoveTo;
use crate::operation::OperationState;

/// Moves at once, unless a request says so.
pub const AT_ONCE: u32 = 2;
pub const AT_ONCE_MAX: u32 = 16;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainServer {
    /// A server, a server pool or a region; any other server that would take the tenant when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<MoveTo>,
    /// So many tenants move at once, 2 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 16)]
    pub at_once: Option<u32>,
    /// Who goes first, by the size that was last measured; `largest` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<DrainOrder>,
    /// How long the sides that were left follow; the setting `tenants.move_grace_seconds` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 7_776_000)]
    pub keep_seconds: Option<u64>,
    /// Nothing is begun: the answer says who would go where, and who could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrainOrder {
    #[default]
    Largest,
    Smallest,
}

/// How a drain stands, or what one would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerDrain {
    pub server: ServerId,
    /// Null: nothing was begun.
    pub operation: Option<OperationId>,
    /// Of the operation; null where nothing was begun, or where it is no longer kept.
    pub state: Option<OperationState>,
    /// Tenants that are elsewhere.
    pub moved: u32,
    pub moving: u32,
    /// Tenants whose turn is still to come.
    pub waiting: u32,
    /// Tenants that could not be moved.
    pub left: u32,
    /// Databases of stock that are still there.
    pub stock: u32,
    /// Of all those tenants, as they were last measured.
    pub bytes: u64,
    pub bytes_moved: u64,
    /// Of a dry run: so many go before sides that are kept have to end; null: all of those that would.
    #[serde(default)]
    pub at_first: Option<u32>,
    /// What to do about that.
    #[serde(default)]
    pub advice: Option<String>,
    pub tenants: Vec<DrainTenant>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DrainTenant {
    pub tenant: TenantId,
    pub state: DrainState,
    /// As it was last measured; null before that.
    pub bytes: Option<u64>,
    /// Where it is, is going, or would go; null while that is not decided.
    pub to: Option<ServerId>,
    /// Its move.
    pub operation: Option<OperationId>,
    /// Why it is left, its move waits, or is begun again later: `not_movable`, `no_room`, `wrong_state`, `not_now`, …
    pub code: Option<String>,
    pub message: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrainState {
    Waiting,
    Moving,
    Moved,
    Left,
}

impl DrainState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Moving => "moving",
            Self::Moved => "moved",
            Self::Left => "left",
        }
    }
}

impl ServerDrain {
    /// Counts them.
    pub fn of(server: ServerId, tenants: Vec<DrainTenant>) -> Self {
        let count =
            |state| tenants.iter().filter(|tenant| tenant.state == state).count().try_into().unwrap_or(u32::MAX);
        let bytes = |of: &dyn Fn(&DrainTenant) -> bool| {
            tenants.iter().filter(|tenant| of(tenant)).filter_map(|tenant| tenant.bytes).sum()
        };
        Self {
            server,
            operation: None,
            state: None,
            moved: count(DrainState::Moved),
            moving: count(DrainState::Moving),
            waiting: count(DrainState::Waiting),
            left: count(DrainState::Left),
            stock: 0,
            bytes: bytes(&|_| true),
            bytes_moved: bytes(&|tenant| tenant.state == DrainState::Moved),
            at_first: None,
            advice: None,
            tenants,
        }
    }
}
