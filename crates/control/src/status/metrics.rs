//! `/metrics` for Prometheus. Counters and histograms are kept where things happen; gauges are read from the store at
//! each scrape, from counts that do not grow with the number of tenants listed.

use std::sync::OnceLock;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::plane::{Answer, Plane};
use crate::stock::show as stock;

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Once per process, before anything is counted.
pub fn install() {
    RECORDER.get_or_init(|| {
        let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS);
        let recorder = builder.expect("the buckets are not empty").build_recorder();
        let handle = recorder.handle();
        // A second recorder in one process (tests) keeps the first.
        let _ = metrics::set_global_recorder(recorder);
        handle
    });
}

/// Metrics in Prometheus' text format
#[utoipa::path(get, path = "/metrics", tag = "health", security(()),
    responses((status = 200, description = "Prometheus text format", body = String, content_type = "text/plain")))]
pub async fn metrics(State(plane): State<Plane>) -> Answer<impl IntoResponse> {
    let tenants: Vec<(String, i64)> =
        sqlx::query_as("SELECT state, count(*) FROM tenant GROUP BY state").fetch_all(&plane.store).await?;
    for (state, count) in tenants {
        metrics::gauge!("freehold_tenants", "state" => state).set(count as f64);
    }
    for level in stock::levels(&plane.core).await? {
        let labels = [("server", level.server.to_string()), ("template", level.template.to_string())];
        metrics::gauge!("freehold_stock_ready", &labels).set(f64::from(level.ready));
        metrics::gauge!("freehold_stock_wanted", &labels).set(f64::from(level.wanted));
    }
    for (state, count) in plane.engine.counts().await? {
        metrics::gauge!("freehold_operations", "state" => state.as_str()).set(count as f64);
    }
    for server in plane.fleet.servers(&plane.store).await?.iter() {
        let healthy = matches!(server.row.health.as_str(), "healthy");
        metrics::gauge!("freehold_server_healthy", "server" => server.row.id.clone()).set(if healthy {
            1.0
        } else {
            0.0
        });
        metrics::gauge!("freehold_server_databases", "server" => server.row.id.clone()).set(server.used as f64);
    }
    let text = RECORDER.get().map(PrometheusHandle::render).unwrap_or_default();
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}
