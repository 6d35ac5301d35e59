//! `[[edge]]`: compatibility surfaces, off unless declared.

use std::net::SocketAddr;

use freehold_api::id::{PlanName, TemplateName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// Whose surface: [saasodoo](saasodoo.md) or [tansucloud](tansucloud.md).
    pub kind: EdgeKind,
    /// A listener of its own; without it the edge is served by the API's listener.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "address:port")]
    pub listen: Option<SocketAddr>,
    /// Put before its documented paths.
    #[serde(default)]
    #[schema(format = "/path")]
    pub prefix: String,
    /// The template its tenants get; the edge's own when absent.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "name")]
    pub template: Option<TemplateName>,
    /// The plan its tenants get; the default plan when absent. Not of saasodoo, whose requests name one.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "name")]
    pub plan: Option<PlanName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EdgeKind {
    Saasodoo,
    Tansucloud,
}

impl EdgeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Saasodoo => "saasodoo",
            Self::Tansucloud => "tansucloud",
        }
    }
}

/// What contradicts itself, in words for `[[edge]] …`.
pub(super) fn check(edges: &[Edge]) -> Result<(), String> {
    for (index, edge) in edges.iter().enumerate() {
        if !edge.prefix.is_empty() && (!edge.prefix.starts_with('/') || edge.prefix.ends_with('/')) {
            return Err(format!("prefix {:?} must begin with / and not end with one", edge.prefix));
        }
        if edge.kind == EdgeKind::Saasodoo && edge.plan.is_some() {
            return Err("plan: each request to saasodoo names one as its plan_tier; leave it out".into());
        }
        if edges[..index].iter().any(|other| other.kind == edge.kind) {
            return Err(format!("{:?} is declared twice", edge.kind.as_str()));
        }
    }
    Ok(())
}
