//! `GET /v1/status`: stuck operations, servers, stock, failed templates, what is frozen. Reads the store only.

use axum::extract::State;
use freehold_api::server::Severity;
use freehold_api::status::{Concern, OperationCounts, Status, TenantCounts};
use freehold_durable::{Filter, State as OpState};

use super::freeze;
use crate::http::extract::Json;
use crate::operation::answer::failure_of;
use crate::plane::{Answer, Plane};
use crate::schema::store as templates;
use crate::stock::show as stock;

/// What is wrong, worst first, each with the next command to type
#[utoipa::path(get, path = "/v1/status", tag = "status",
    responses((status = 200, description = "The fleet's state", body = Status)))]
pub async fn show(State(plane): State<Plane>) -> Answer<Json<Status>> {
    let stock = stock::levels(&plane.core).await?;
    let frozen = freeze::all(&plane).await?;
    let mut concerns = Vec::new();
    let mut concern = |severity, code: &str, message: String, next: String| {
        concerns.push(Concern { severity, code: code.into(), message, next: Some(next) });
    };
    for row in plane.engine.list(&Filter { state: Some(OpState::Stuck), limit: 50, ..Filter::default() }).await? {
        let (code, message) = failure_of(&row);
        let what = row.subject.clone().unwrap_or_default();
        concern(
            Severity::High,
            "operation_stuck",
            format!("{} on {what} is stuck ({code}): {message}", row.kind),
            format!("freehold operation show {}", row.id),
        );
    }
    for row in plane.engine.list(&Filter { state: Some(OpState::Waiting), limit: 50, ..Filter::default() }).await? {
        if row.attempt >= 3 && row.error.is_some() {
            let (code, message) = failure_of(&row);
            let what = row.subject.clone().unwrap_or_default();
            let text = format!("{} on {what} failed {} times ({code}): {message}", row.kind, row.attempt);
            concern(Severity::Medium, "operation_retrying", text, format!("freehold operation watch {}", row.id));
        }
    }
    for server in plane.fleet.servers(&plane.store).await?.iter() {
        let id = &server.row.id;
        let message = server.row.health_message.as_deref().unwrap_or("no reason recorded");
        let next = format!("freehold server check {id}");
        match (server.row.state.as_str(), server.row.health.as_str()) {
            ("failed", _) => concern(
                Severity::High,
                "server_failed",
                format!("server {id} failed: {message}"),
                format!("freehold server show {id}"),
            ),
            (_, "unhealthy") => {
                concern(Severity::High, "server_unhealthy", format!("server {id} does not answer: {message}"), next)
            }
            (_, "degraded") => {
                concern(Severity::Medium, "server_degraded", format!("server {id} missed a check: {message}"), next)
            }
            ("cordoned", _) => concern(
                Severity::Low,
                "server_cordoned",
                format!("server {id} takes no new tenants"),
                format!("freehold server uncordon {id}"),
            ),
            _ => {}
        }
        for finding in server.row.findings.iter().filter(|finding| finding.severity == Severity::High) {
            concern(
                Severity::Medium,
                "server_finding",
                format!("server {id}: {}", finding.message),
                format!("freehold server show {id}"),
            );
        }
    }
    for build in templates::failed_builds(&plane.store).await? {
        if build.state == "failed" {
            let why = build.error.unwrap_or_default();
            let message = format!("template {} cannot be built on server {}: {why}", build.name, build.server_id);
            concern(Severity::High, "template_failed", message, "mend it and run: freehold template add DIR".into());
        } else {
            let message = format!(
                "stock of template {} on server {} failed {} times",
                build.name, build.server_id, build.failures
            );
            concern(
                Severity::High,
                "stock_failing",
                message,
                "freehold operation list --kind stock.build --state failed".into(),
            );
        }
    }
    for level in &stock {
        if level.wanted > 0 && level.ready == 0 {
            let message = format!(
                "no stock of template {} on server {} ({} being made): creates are slower",
                level.template, level.server, level.building
            );
            concern(Severity::Low, "stock_empty", message, "freehold operation list --kind stock.build".into());
        }
    }
    for freeze in &frozen {
        concern(
            Severity::Medium,
            "frozen",
            format!("{} is frozen by {}", freeze.target, freeze.by),
            format!("freehold thaw {}", freeze.target),
        );
    }
    let count: Vec<(String, i64)> =
        sqlx::query_as("SELECT state, count(*) FROM tenant GROUP BY state").fetch_all(&plane.store).await?;
    let tenants =
        |state: &str| count.iter().find(|(name, _)| name == state).map_or(0, |(_, n)| u64::try_from(*n).unwrap_or(0));
    let tenants = TenantCounts {
        creating: tenants("creating"),
        active: tenants("active"),
        failed: tenants("failed"),
        suspended: tenants("suspended"),
        deleted: tenants("deleted"),
    };
    if tenants.failed > 0 {
        concern(
            Severity::Medium,
            "tenants_failed",
            format!("{} tenants failed to be created", tenants.failed),
            "freehold tenant list --state failed".into(),
        );
    }
    let counts = plane.engine.counts().await?;
    let operations = |state: OpState| {
        counts.iter().find(|(known, _)| *known == state).map_or(0, |(_, n)| u64::try_from(*n).unwrap_or(0))
    };
    concerns.sort_by_key(|concern| std::cmp::Reverse(concern.severity));
    Ok(Json(Status {
        concerns,
        tenants,
        stock,
        operations: OperationCounts {
            queued: operations(OpState::Queued),
            running: operations(OpState::Running),
            waiting: operations(OpState::Waiting),
            undoing: operations(OpState::Undoing),
            stuck: operations(OpState::Stuck),
        },
        frozen,
    }))
}
