//! What is wrong with servers, and how all of them are, worst first. Pure: the caller brings the fleet.

use freehold_api::server::{Finding, Server, ServerHealth, ServerState, Severity};
use freehold_api::status::{Concern, ServerStatus};

/// What health found and a person should see without asking.
fn pressing(server: &Server) -> impl Iterator<Item = &Finding> {
    const WATCHED: [&str; 6] =
        ["wraparound_near", "connections_near_max", "disk_low", "old_transaction", "replication_behind", "clock_skew"];
    server.findings.iter().filter(|finding| WATCHED.contains(&finding.code.as_str()))
}

pub fn concerns(servers: &[Server]) -> Vec<Concern> {
    servers.iter().flat_map(of_one).collect()
}

fn of_one(server: &Server) -> Vec<Concern> {
    let id = &server.id;
    let message = server.health_message.as_deref().unwrap_or("no reason recorded");
    let concern = |severity, code: &str, message: String, next: String| Concern {
        severity,
        code: code.into(),
        message,
        next: Some(next),
    };
    let (show, check) = (format!("freehold server show {id}"), format!("freehold server check {id}"));
    let standing = match (server.state, server.health, server.health_code.as_deref()) {
        (ServerState::Failed, _, Some("cluster_swapped")) => {
            Some(concern(Severity::High, "cluster_swapped", format!("server {id} is another: {message}"), check))
        }
        (ServerState::Failed, _, Some(_)) => {
            Some(concern(Severity::High, "server_failed", format!("server {id} failed: {message}"), check))
        }
        (ServerState::Failed, ..) => {
            Some(concern(Severity::High, "server_failed", format!("server {id} failed: {message}"), show.clone()))
        }
        (ServerState::Maintenance, ..) => {
            let text = format!("server {id} is in maintenance: {message}");
            Some(concern(Severity::Low, "server_maintenance", text, show.clone()))
        }
        (_, ServerHealth::Unhealthy, _) => {
            let text = format!("server {id} does not answer: {message}");
            Some(concern(Severity::High, "server_unhealthy", text, check))
        }
        (_, ServerHealth::Degraded, _) => {
            let text = format!("server {id} missed a check: {message}");
            Some(concern(Severity::Medium, "server_degraded", text, check))
        }
        (ServerState::Cordoned, ..) => {
            let text = format!("server {id} takes no new tenants");
            Some(concern(Severity::Low, "server_cordoned", text, format!("freehold server uncordon {id}")))
        }
        _ => None,
    };
    let found = pressing(server).map(|finding| {
        concern(finding.severity, &finding.code, format!("server {id}: {}", finding.message), show.clone())
    });
    let settings = server.findings.iter().filter(|finding| finding.severity == Severity::High);
    let settings =
        settings.filter(|finding| !pressing(server).any(|known| known.code == finding.code)).map(|finding| {
            concern(Severity::Medium, "server_finding", format!("server {id}: {}", finding.message), show.clone())
        });
    standing.into_iter().chain(found).chain(settings).collect()
}

pub fn lines(servers: Vec<Server>) -> Vec<ServerStatus> {
    let mut lines: Vec<ServerStatus> = servers
        .into_iter()
        .map(|server| ServerStatus {
            worst_finding: pressing(&server).map(|finding| finding.severity).max(),
            server: server.id,
            state: server.state,
            health: server.health,
            tenants: server.tenants,
            capacity: server.capacity,
            observed: server.observed,
        })
        .collect();
    lines.sort_by_key(|line| std::cmp::Reverse((trouble(line), line.worst_finding)));
    lines
}

fn trouble(line: &ServerStatus) -> u8 {
    match (line.state, line.health) {
        (ServerState::Failed, _) => 4,
        (ServerState::Maintenance | ServerState::Provisioning | ServerState::Removed, _) => 0,
        (_, ServerHealth::Unhealthy) => 3,
        (_, ServerHealth::Degraded) => 2,
        (_, ServerHealth::Unknown) => 1,
        (_, ServerHealth::Healthy) => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn server(id: &str, state: &str, health: &str, finding: Option<(&str, &str)>) -> Server {
        let findings: Vec<_> = finding
            .map(|(code, severity)| json!({"code": code, "severity": severity, "message": "m"}))
            .into_iter()
            .collect();
        serde_json::from_value(json!({
            "id": id, "kind": "shared", "state": state, "health": health, "health_message": null, "checked_at": null,
            "capacity": 1, "tenants": 0, "stock": 0, "has_room": true, "dsn": "", "host": "h", "port": 1, "sslmode": "prefer",
            "region": null, "postgres_version": null, "findings": findings, "operation": null, "created_at": "2026-01-01T00:00:00Z",
        }))
        .unwrap()
    }

    #[test]
    fn the_worst_server_comes_first() {
        let fleet = vec![
            server("a-well", "active", "healthy", None),
            server("b-full", "active", "healthy", Some(("disk_low", "high"))),
            server("c-slow", "active", "degraded", None),
            server("d-gone", "cordoned", "unhealthy", None),
            server("e-old", "active", "healthy", Some(("old_transaction", "medium"))),
            server("f-failed", "failed", "unhealthy", None),
            server("g-away", "maintenance", "unhealthy", None),
        ];
        let concerns: Vec<_> = concerns(&fleet).into_iter().map(|concern| concern.code).collect();
        let expected = [
            "disk_low",
            "server_degraded",
            "server_unhealthy",
            "old_transaction",
            "server_failed",
            "server_maintenance",
        ];
        assert_eq!(concerns, expected);
        let order: Vec<_> = lines(fleet).into_iter().map(|line| line.server.to_string()).collect();
        assert_eq!(order, ["f-failed", "d-gone", "c-slow", "b-full", "e-old", "a-well", "g-away"]);
    }
}
