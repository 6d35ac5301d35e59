//! What is known of a pooler, judged. Reads the store: what the pooler itself says, its agent told.

use axum::extract::State;
use freehold_api::id::PoolerId;
use freehold_api::pooler::{PoolerCheck, PoolerHealth};
use freehold_api::server::{Finding, Severity};
use freehold_api::status::Concern;

use super::budget::show as budget;
use super::list;
use super::managed::store as managed;
use super::store::{self, PoolerRow};
use crate::http::extract::{Id, Json};
use crate::plane::{Answer, Core, Plane};

/// Of those that are named.
const SHOWN: usize = 3;
const WHAT_IT_COSTS: &str = "it has no agent: while no plane runs, nothing new reaches it and nobody ends a pause; when it \
    dies nobody starts it, and its pauses are forgotten; every host that runs loops must reach its files by the same path; its \
    limits, certificates and access rules are yours, and where they let a login ask for another tenant's database, only the \
    server refuses it";

/// What is wrong with a pooler
#[utoipa::path(get, path = "/v1/poolers/{id}/check", tag = "poolers", params(("id" = PoolerId, Path, description = "The pooler's name")),
    responses((status = 200, description = "The pooler, and what was found", body = PoolerCheck)))]
pub async fn check(State(plane): State<Plane>, Id(id): Id<PoolerId>) -> Answer<Json<PoolerCheck>> {
    let row = list::find(&plane.core, &id).await?;
    let mut findings = findings(&row, may_grow(&plane.core).await?);
    findings.extend(budget::of_pooler(&plane.core, id.as_str()).await?);
    Ok(Json(PoolerCheck { pooler: row.into(), findings }))
}

/// For `GET /v1/status`.
pub async fn concerns(core: &Core) -> Answer<Vec<Concern>> {
    let mut concerns = Vec::new();
    let may_grow = may_grow(core).await?;
    for row in store::all(&core.store).await? {
        // One that nobody started yet is nobody's trouble until it has databases.
        let is_tried = row.state == "failed" || row.slow.is_some();
        let idle = row.tenants == 0 && row.health() == PoolerHealth::Unknown && !is_tried;
        let found = findings(&row, may_grow).into_iter().filter(|finding| !idle && finding.severity > Severity::Low);
        concerns.extend(found.map(|finding| Concern {
            severity: finding.severity,
            code: finding.code,
            message: format!("pooler {}: {}", row.id, finding.message),
            next: Some(format!("freehold pooler check {}", row.id)),
        }));
    }
    Ok(concerns)
}

/// Whether another pooler comes by itself when it is needed.
async fn may_grow(core: &Core) -> Answer<bool> {
    let Some(settings) = &core.settings.pooler.platform else { return Ok(false) };
    Ok(managed::supply(&core.store).await?.managed < i64::from(settings.maximum_poolers))
}

pub fn findings(row: &PoolerRow, may_grow: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |severity, code: &str, message: String| {
        findings.push(Finding { code: code.into(), severity, message });
    };
    let why = row.message().unwrap_or_default();
    match row.state.as_str() {
        state @ ("starting" | "removing") => {
            if let Some(slow) = &row.slow {
                find(Severity::Medium, "pooler_slow", format!("it has been {state} for more than a minute: {slow}"));
            }
            return findings;
        }
        "failed" => {
            find(
                Severity::Medium,
                "pooler_failed",
                format!("{why}; it is tried again when another pooler is needed, and by `freehold pooler add` now"),
            );
            return findings;
        }
        _ => {}
    }
    match row.health() {
        PoolerHealth::Healthy => {}
        PoolerHealth::Behind => find(Severity::Low, "pooler_behind", why),
        PoolerHealth::Unhealthy => find(Severity::High, "pooler_unhealthy", why),
        PoolerHealth::Unknown => find(Severity::Medium, "pooler_unknown", why),
    }
    if row.unserved > 0 {
        let message = format!(
            "{} databases cannot be served: their login has the name of another's on another server, or their server has \
             several hosts; they are reached directly",
            row.unserved
        );
        find(Severity::Medium, "pooler_unserved", message);
    }
    if row.is_external() {
        find(Severity::Low, "pooler_external", WHAT_IT_COSTS.into());
    }
    if let Some(withheld) = row.withheld.as_ref().filter(|withheld| !withheld.is_empty()) {
        let shown: Vec<String> = withheld.iter().take(SHOWN).map(|(entry, why)| format!("{entry} ({why})")).collect();
        let more = withheld.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let message = format!(
            "it is not given {}{more}; they are reached directly; what is not Freehold's is left alone, so rename or remove it",
            shown.join("; ")
        );
        find(Severity::Medium, "pooler_withheld", message);
    }
    if !row.needs_restart.is_empty() {
        let message = format!("{} count from its next start: restart it when it suits", row.needs_restart.join(", "));
        find(Severity::Low, "pooler_needs_restart", message);
    }
    if !may_grow && row.state == "active" && row.tenants + row.stock >= i64::from(row.capacity) {
        find(
            Severity::Low,
            "pooler_full",
            "it has as many databases as fit, and no other comes by itself; `freehold pooler add` registers one".into(),
        );
    }
    findings
}
