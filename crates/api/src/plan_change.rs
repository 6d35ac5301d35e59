//! A tenant gets another plan: at once, or at a time that is kept until then.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::OperationId;
use crate::id::{PlanName, TenantId};
use crate::movability::Movability;
use crate::problem::Code;
use crate::tenant::Tenant;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePlan {
    pub plan: PlanName,
    /// When: now if it is absent, or past. One that is to come is kept, in the place of another that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Also where the database is larger than the plan allows: then what its plan says of that happens to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_quota: Option<bool>,
    /// Nothing is begun and nothing kept: the answer is what it would take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

impl ChangePlan {
    /// To this plan, now.
    pub fn to(plan: PlanName) -> Self {
        Self { plan, at: None, over_quota: None, dry_run: None }
    }
}

/// By the ranks of both plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlanStep {
    Upgrade,
    Downgrade,
    /// Both have the same rank.
    Lateral,
}

impl PlanStep {
    pub fn between(from: u32, to: u32) -> Self {
        match to.cmp(&from) {
            std::cmp::Ordering::Greater => Self::Upgrade,
            std::cmp::Ordering::Less => Self::Downgrade,
            std::cmp::Ordering::Equal => Self::Lateral,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upgrade => "upgrade",
            Self::Downgrade => "downgrade",
            Self::Lateral => "lateral",
        }
    }
}

/// One that is kept until its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanChange {
    pub plan: PlanName,
    /// From the plan that the tenant had when it was asked for.
    pub step: PlanStep,
    pub at: Timestamp,
    pub requested_at: Timestamp,
    /// Why it was not carried out yet, though its time has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<PlanChangeWaits>,
    /// The operation that carries it out, or tried to last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanChangeWaits {
    /// A problem's code, or an operation's.
    pub code: String,
    pub message: String,
    /// When it is tried again.
    pub until: Timestamp,
}

/// The tenant; with `dry_run` what it would take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ChangedPlan {
    Preview(Box<PlanPreview>),
    Tenant(Box<Tenant>),
}

/// What another plan would take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanPreview {
    pub tenant: TenantId,
    pub from: PlanName,
    pub to: PlanName,
    pub step: PlanStep,
    /// Null: now.
    pub at: Option<Timestamp>,
    /// Whether the tenant has to go to another server: the plan wants another kind.
    pub moves: bool,
    /// What its database takes, as it was last measured.
    pub size_bytes: Option<u64>,
    /// What the plan allows it.
    pub storage_quota: Option<u64>,
    /// Why it would be refused now; empty: it would not.
    pub against: Vec<PlanObstacle>,
    /// Of the move, where there would be one; not for keys that are bound to tenants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub movability: Option<Movability>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanObstacle {
    pub code: Code,
    pub message: String,
}
