//! `/health`, `/health/live`, `/health/ready`: for load balancers and orchestrators; no key.
//! Ready means that the store answers. One broken tenant server is reported and leaves it ready.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use freehold_api::status::{Health, HealthCheck};

use crate::http::extract::Json;
use crate::plane::Plane;

const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the process runs
#[utoipa::path(get, path = "/health/live", tag = "health", security(()), responses((status = 200, description = "It runs", body = Health)))]
pub async fn live() -> Json<Health> {
    Json(Health { status: "healthy".into(), checks: Vec::new() })
}

/// Whether it is up, in one word
#[utoipa::path(get, path = "/health", tag = "health", security(()),
    responses((status = 200, description = "The store answers", body = Health), (status = 503, description = "It does not", body = Health)))]
pub async fn health(State(plane): State<Plane>) -> (StatusCode, Json<Health>) {
    let (status, Json(health)) = ready(State(plane)).await;
    (status, Json(Health { checks: Vec::new(), ..health }))
}

/// Whether it can do its work
#[utoipa::path(get, path = "/health/ready", tag = "health", security(()),
    responses((status = 200, description = "It can", body = Health), (status = 503, description = "Something critical is down", body = Health)))]
pub async fn ready(State(plane): State<Plane>) -> (StatusCode, Json<Health>) {
    let select = sqlx::query("SELECT 1").execute(&plane.store);
    let store = match tokio::time::timeout(PATIENCE, select).await {
        Ok(Ok(_)) => None,
        Ok(Err(_)) => Some("the control store does not answer".to_owned()),
        Err(_) => Some(format!("the control store did not answer within {} s", PATIENCE.as_secs())),
    };
    let mut checks =
        vec![HealthCheck { name: "store".into(), healthy: store.is_none(), critical: true, message: store }];
    if checks[0].healthy
        && let Ok(Ok(servers)) = tokio::time::timeout(PATIENCE, plane.fleet.rows(&plane.store)).await
    {
        checks.extend(
            servers.iter().filter(|server| server.row.state != "failed" || server.row.state_before.is_some()).map(
                |server| {
                    let healthy = matches!(server.row.health.as_str(), "healthy" | "unknown");
                    HealthCheck {
                        name: format!("server:{}", server.row.id),
                        healthy,
                        critical: false,
                        message: (!healthy)
                            .then(|| format!("it is {}; GET /v1/servers has the reason", server.row.health)),
                    }
                },
            ),
        );
    }
    let ready = checks.iter().all(|check| check.healthy || !check.critical);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Health { status: if ready { "healthy" } else { "unhealthy" }.into(), checks }))
}
