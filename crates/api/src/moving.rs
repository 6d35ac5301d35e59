//! Moves of tenants between servers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::OperationId;
use crate::id::{ServerId, TenantId};
use crate::movability::{MoveMethod, MoveTo};

/// Nobody waits for longer, unless a request says so.
pub const STALL_SECONDS: u64 = 5;
pub const STALL_MAX_SECONDS: u64 = 60;
/// By dump nobody can write for so long: at most, and at least as a limit that nobody named.
pub const STOP_MAX_SECONDS: u64 = 86_400;
pub const STOP_LEAST_SECONDS: u64 = 600;
pub const KEEP_MAX_SECONDS: u64 = 7_776_000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveTenant {
    pub to: MoveTo,
    /// `logical` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<MoveMethod>,
    /// Clients wait for so long at most, 5 when absent and up to 60; what does not fit is tried again later. By dump nobody can write
    /// for so long at most; when absent it is four times what it is judged to take, and ten minutes at least; what does not fit is undone.
    /// Of a tenant that is suspended nobody waits, and it has no meaning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 86_400)]
    pub deadline_seconds: Option<u64>,
    /// How long the side that was left is kept; unless it was by dump it follows, and there is a way back. The setting `tenants.move_grace_seconds` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 7_776_000)]
    pub keep_seconds: Option<u64>,
    /// Nothing is begun: the answer is the tenant's movability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

/// Ends the grace of a move.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FinishMove {
    /// The former server is lost for good: what it has of the tenant is not dropped, only forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abandon: Option<bool>,
    /// With `abandon`, the tenant's id again: what is given up is named twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
}

/// A move that is going on, or whose former side is still kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TenantMove {
    pub tenant: TenantId,
    pub from: ServerId,
    pub to: ServerId,
    /// Where the tenant is: one of the two.
    pub serves: ServerId,
    pub method: MoveMethod,
    /// Null: it is at `from` still, and all of it is undone when it fails.
    pub moved_at: Option<Timestamp>,
    /// How long nobody could work; null of a tenant that was suspended.
    pub stall_ms: Option<u32>,
    /// Whether both sides held the same at that moment; null until that is known.
    pub digests: Option<MoveDigests>,
    /// Whether the side that was left has all that was written since: then there is a way back.
    pub follows: bool,
    /// When that side is dropped; null while the move is going on.
    pub keep_until: Option<Timestamp>,
    /// What is at work on the tenant now.
    pub operation: Option<OperationId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MoveDigests {
    Equal,
    /// Freehold was killed between the two.
    Unread,
    Different,
}

impl MoveDigests {
    /// As the store writes it.
    pub fn called(name: &str) -> Option<Self> {
        match name {
            "equal" => Some(Self::Equal),
            "unread" => Some(Self::Unread),
            "different" => Some(Self::Different),
            _ => None,
        }
    }
}
