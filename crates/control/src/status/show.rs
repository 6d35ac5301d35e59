//! `GET /v1/status`: stuck operations, servers, stock, failed templates, what is frozen. Reads the store only.

use axum::extract::State;
use freehold_api::drift::DriftKind;
use freehold_api::server::{Server, Severity};
use freehold_api::status::{Concern, OperationCounts, Status, TenantCounts};
use freehold_durable::{Filter, State as OpState};

use super::{freeze, servers};
use crate::audit::concern as audit;
use crate::http::extract::Json;
use crate::operation::answer::failure_of;
use crate::plane::{Answer, Plane};
use crate::pooler::budget::show as budget;
use crate::pooler::check as poolers;
use crate::schema::store as templates;
use crate::server_pool::list as pools;
use crate::stats::show as stats;
use crate::stock::show as stock;
use crate::tenant::movability::store as movability;
use crate::tenant::plan::store as plans;
use crate::truth::{show as truth_show, store as truth};

/// What is wrong, worst first, each with the next command to type
#[utoipa::path(get, path = "/v1/status", tag = "status",
    responses((status = 200, description = "The fleet's state", body = Status)))]
pub async fn show(State(plane): State<Plane>) -> Answer<Json<Status>> {
    let stock = stock::levels(&plane.core).await?;
    let frozen = freeze::all(&plane).await?;
    let fleet: Vec<Server> = plane.fleet.servers(&plane.store).await?.iter().cloned().map(Server::from).collect();
    let mut concerns = servers::concerns(&fleet);
    concerns.extend(pools::concerns(&plane.core).await?);
    concerns.extend(poolers::concerns(&plane.core).await?);
    concerns.extend(budget::concerns(&plane.core).await?);
    concerns.extend(audit::concerns(&plane).await?);
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
    for (server, rank, count) in truth::counts(&plane.store).await? {
        let (severity, message) = match truth_show::kind_of(rank) {
            DriftKind::Lost => {
                (Severity::High, format!("{count} databases are lost on server {server}: in the store, not there"))
            }
            DriftKind::Bent => {
                (Severity::Medium, format!("{count} databases on server {server} are bent and could not be mended yet"))
            }
            DriftKind::Ghost => (
                Severity::Low,
                format!("{count} databases or roles on server {server} were made by Freehold and are nobody's"),
            ),
            DriftKind::Foreign => continue,
        };
        let code = format!("drift_{}", truth_show::kind_of(rank).as_str());
        concern(severity, &code, message, format!("freehold server drift {server}"));
    }
    let quota = stats::quota(&plane.core).await?;
    for (resource, reached) in [("storage", quota.storage_100), ("connections", quota.connections_100)] {
        if reached > 0 {
            let order = if resource == "storage" { "size" } else { "connections" };
            let message = format!("{reached} tenants use all of the {resource} that their plan grants");
            concern(Severity::Medium, "quota_reached", message, format!("freehold top --once --order {order}"));
        }
    }
    let [_, (_, by_dump), (_, immovable)] = movability::counts(&plane.store).await?;
    if immovable > 0 {
        let message =
            format!("{immovable} tenants cannot be moved to another server, and {by_dump} only with writes stopped");
        concern(Severity::Low, "tenants_immovable", message, "freehold tenant list --movable none".into());
    }
    if let Some((tenant, why, count)) = plans::overdue(&plane.store).await? {
        let message = format!("{count} changes of plan wait since an hour or more; of tenant {tenant}: {why}");
        concern(Severity::Medium, "plan_changes_wait", message, format!("freehold tenant plan {tenant}"));
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
        servers: servers::lines(fleet),
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
