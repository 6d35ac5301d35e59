//! `/metrics` for Prometheus. Counters and histograms are kept where things happen; the rest is read from the store at
//! each scrape, from counts that do not grow with the number of tenants listed.

use std::collections::HashMap;
use std::sync::OnceLock;

use axum::extract::State as Given;
use axum::http::header;
use axum::response::IntoResponse;
use freehold_durable::State;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::exposition::Scrape;
use crate::audit::{retention, store as audit, stream};
use crate::plane::{Answer, Plane};
use crate::pooler::metrics as poolers;
use crate::server::store::ServerWithUse;
use crate::stats::show as stats;
use crate::stock::show as stock;
use crate::tenant::credential::store as credentials;
use crate::tenant::movability::store as movability;
use crate::tenant::plan::store as plans;
use crate::truth::{show as truth_show, store as truth};

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
pub async fn metrics(Given(plane): Given<Plane>) -> Answer<impl IntoResponse> {
    let mut scrape = Scrape::default();
    counts(&plane, &mut scrape).await?;
    let servers = plane.fleet.servers(&plane.store).await?;
    for server in servers.iter() {
        of_server(&mut scrape, server);
    }
    activity(&plane, &mut scrape).await?;
    poolers::tell(&plane.core, &mut scrape).await?;
    loops(&plane, &mut scrape).await?;
    let counted = RECORDER.get().map(PrometheusHandle::render).unwrap_or_default();
    let text = scrape.render() + &counted;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}

async fn counts(plane: &Plane, scrape: &mut Scrape) -> Answer<()> {
    let tenants: HashMap<String, i64> = sqlx::query_as("SELECT state, count(*) FROM tenant GROUP BY state")
        .fetch_all(&plane.store)
        .await?
        .into_iter()
        .collect();
    for state in ["creating", "active", "failed", "suspended", "deleted"] {
        let count = tenants.get(state).copied().unwrap_or(0);
        scrape.gauge("freehold_tenants", "Tenants by state.", &[("state", state)], count as f64);
    }
    for level in stock::levels(&plane.core).await? {
        let labels = [("server", level.server.as_str()), ("template", level.template.as_str())];
        scrape.gauge("freehold_stock_ready", "Databases ready to be claimed.", &labels, f64::from(level.ready));
        scrape.gauge("freehold_stock_wanted", "Databases that should be ready.", &labels, f64::from(level.wanted));
    }
    let operations: HashMap<State, i64> = plane.engine.counts().await?.into_iter().collect();
    for state in State::ALL.iter().filter(|state| !state.is_over()) {
        let count = operations.get(state).copied().unwrap_or(0);
        scrape.gauge(
            "freehold_operations",
            "Operations in flight by state.",
            &[("state", state.as_str())],
            count as f64,
        );
    }
    for (method, count) in movability::counts(&plane.store).await? {
        let help = "Active and suspended tenants by the best method that a move of them has left.";
        scrape.gauge("freehold_tenants_movable", help, &[("method", method)], count as f64);
    }
    let (kept, waiting) = plans::counts(&plane.store).await?;
    let help = "Changes of plan that are kept for their time.";
    scrape.gauge("freehold_plan_changes", help, &[], kept as f64);
    let help = "Changes of plan whose time has come, and that wait.";
    scrape.gauge("freehold_plan_changes_waiting", help, &[], waiting as f64);
    let (retiring, overdue) = credentials::count(&plane.store).await?;
    let help = "Logins in their grace after a rotation.";
    scrape.gauge("freehold_credentials_retiring", help, &[], retiring as f64);
    let help = "Logins whose grace after a rotation is over.";
    scrape.gauge("freehold_credentials_overdue", help, &[], overdue as f64);
    let unsealed = audit::unsealed(&plane.store).await?;
    scrape.gauge("freehold_audit_unsealed", "Events that wait to be sealed.", &[], unsealed.count as f64);
    let help = "How long the oldest event waits to be sealed; 0 where none does.";
    scrape.gauge("freehold_audit_unsealed_seconds", help, &[], unsealed.seconds);
    if let Some(end) = audit::end(&plane.store).await? {
        scrape.counter("freehold_audit_sealed_total", "Events of the audit's chain.", &[], end.place as f64);
        let help = "Of these, those before the last checkpoint.";
        scrape.counter("freehold_audit_anchored_total", help, &[], end.checkpoint_place as f64);
        let removed =
            retention::beginning(&plane.core, &plane.store, &end).await?.map_or(0, |beginning| beginning.place);
        scrape.counter("freehold_audit_removed_total", "Of these, those that retention removed.", &[], removed as f64);
    }
    let streamed = stream::store::places(&plane.store).await?;
    for receiver in stream::receivers(&plane.settings.audit) {
        let place = streamed.iter().find(|(name, _)| name == receiver).map_or(0, |(_, place)| *place);
        let labels = [("receiver", receiver)];
        scrape.counter("freehold_audit_streamed_total", "Of these, those that were sent on.", &labels, place as f64);
    }
    let quota = stats::quota(&plane.core).await?;
    for (resource, percent, count) in [
        ("storage", "80", quota.storage_80),
        ("storage", "100", quota.storage_100),
        ("connections", "80", quota.connections_80),
        ("connections", "100", quota.connections_100),
    ] {
        let help = "Tenants that use this much of their plan, or more.";
        let labels = [("resource", resource), ("percent", percent)];
        scrape.gauge("freehold_tenants_near_quota", help, &labels, count as f64);
    }
    Ok(())
}

fn of_server(scrape: &mut Scrape, found: &ServerWithUse) {
    let row = &found.row;
    let server = [("server", row.id.as_str())];
    let healthy = if row.health == "healthy" { 1.0 } else { 0.0 };
    scrape.gauge("freehold_server_healthy", "1 where the last look found nothing wrong.", &server, healthy);
    let state = [("server", row.id.as_str()), ("state", row.state.as_str())];
    scrape.gauge("freehold_server_state", "1 for the state that it is in.", &state, 1.0);
    for finding in &row.health_findings.0 {
        let severity = finding.severity.as_str();
        let labels = [("server", row.id.as_str()), ("code", finding.code.as_str()), ("severity", severity)];
        scrape.gauge("freehold_server_finding", "1 for each thing that health found.", &labels, 1.0);
    }
    let at = |time: Option<jiff_sqlx::Timestamp>| time.map(|time| time.to_jiff().as_second() as f64);
    let wide = |count: Option<i32>| count.map(f64::from);
    let huge = |count: Option<i64>| count.map(|count| count as f64);
    scrape.known(
        "freehold_server_checked_timestamp_seconds",
        "When it was last looked at.",
        &server,
        at(row.checked_at),
    );
    scrape.known(
        "freehold_server_truth_timestamp_seconds",
        "When it was last compared with the store.",
        &server,
        at(row.truth_at),
    );
    scrape.gauge("freehold_server_databases", "Databases that the store knows there.", &server, found.used as f64);
    scrape.gauge("freehold_server_tenants", "Tenants there.", &server, found.tenants as f64);
    scrape.gauge("freehold_server_capacity", "Tenants and stock that fit.", &server, f64::from(row.capacity));
    scrape.known("freehold_server_connections", "Client sessions.", &server, wide(row.connections));
    scrape.known(
        "freehold_server_connections_max",
        "Client sessions that it admits.",
        &server,
        wide(row.connections_max),
    );
    scrape.known("freehold_server_size_bytes", "All databases together.", &server, huge(row.size_bytes));
    scrape.known("freehold_server_data_free_bytes", "Free where its data is.", &server, huge(row.data_free_bytes));
    scrape.known(
        "freehold_server_data_total_bytes",
        "All there is where its data is.",
        &server,
        huge(row.data_total_bytes),
    );
    let help = "Since the oldest open transaction began; 0 where there is none.";
    let oldest = row.observed_at.map(|_| row.oldest_transaction_seconds.unwrap_or(0.0));
    scrape.known("freehold_server_oldest_transaction_seconds", help, &server, oldest);
    scrape.known(
        "freehold_server_xid_age",
        "Transactions since the oldest row that is not frozen.",
        &server,
        huge(row.xid_age),
    );
    let help = "Of the standby, subscriber or slot that is furthest behind.";
    scrape.known("freehold_server_replication_lag_bytes", help, &server, huge(row.replication_lag_bytes));
}

async fn activity(plane: &Plane, scrape: &mut Scrape) -> Answer<()> {
    for round in stats::rounds(&plane.core).await? {
        let server = [("server", round.server_id.as_str())];
        let help = "Committed and rolled back, since it was first looked at.";
        scrape.counter("freehold_server_transactions_total", help, &server, round.transactions as f64);
        scrape.counter("freehold_server_blocks_hit_total", "Blocks found in memory.", &server, round.blocks_hit as f64);
        scrape.counter(
            "freehold_server_blocks_read_total",
            "Blocks read from disk.",
            &server,
            round.blocks_read as f64,
        );
        scrape.counter("freehold_server_deadlocks_total", "Deadlocks.", &server, round.deadlocks as f64);
        scrape.counter(
            "freehold_server_temp_bytes_total",
            "Written to temporary files.",
            &server,
            round.temp_bytes as f64,
        );
    }
    for (server, rank, count) in truth::counts(&plane.store).await? {
        let labels = [("server", server.as_str()), ("kind", truth_show::kind_of(rank).as_str())];
        scrape.gauge("freehold_drift", "What differs between store and server now.", &labels, count as f64);
    }
    Ok(())
}

async fn loops(plane: &Plane, scrape: &mut Scrape) -> Answer<()> {
    for row in plane.engine.loops().await? {
        let labels = [("loop", row.name.as_str())];
        let help = "When it last came to its end.";
        let at = row.finished_at.map(|at| at.as_second() as f64);
        scrape.known("freehold_loop_finished_timestamp_seconds", help, &labels, at);
        let failed = if row.error.is_some() { 1.0 } else { 0.0 };
        scrape.gauge("freehold_loop_failed", "1 where the last run failed.", &labels, failed);
    }
    Ok(())
}
