//! `freehold stats`: how much there is and how much goes on, and how `top` and `status` write the same numbers.

use freehold_api::server::{Observed, ServerHealth, ServerState};
use freehold_api::stats::{ServerStats, Stats};

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::Outcome;
use crate::output::{Rows, bytes};

pub async fn run(cx: &mut Cx) -> Outcome {
    let body = cx.client()?.send(Request::get(&["stats"])).await?.body;
    if cx.out.wants_json() {
        return cx.out.json(&body);
    }
    let stats: Stats = parse(&body)?;
    let fleet = &stats.fleet;
    cx.out.fields(&[
        ("servers", Some(fleet.servers.to_string())),
        ("tenants", Some(fleet.tenants.to_string())),
        ("databases", Some(fleet.databases.to_string())),
        ("size", Some(bytes(fleet.size_bytes))),
        ("connections", Some(format!("{} of {}", fleet.connections, fleet.connections_max))),
        ("transactions", Some(format!("{} per second", rate(Some(fleet.transactions_per_second))))),
        ("cache hits", fleet.cache_hit_ratio.map(|ratio| percent(Some(ratio)))),
        ("storage", near(fleet.quota.storage_80, fleet.quota.storage_100)),
        ("sessions", near(fleet.quota.connections_80, fleet.quota.connections_100)),
    ]);
    cx.out.line("");
    cx.out.table(servers(&stats.servers));
    Ok(())
}

fn near(at_80: u64, at_100: u64) -> Option<String> {
    (at_80 > 0).then(|| format!("{at_80} tenants at 80 % of their plan or more, {at_100} at all of it"))
}

pub fn servers(servers: &[ServerStats]) -> Rows {
    let rows = servers.iter().map(|server| {
        let activity = server.activity.as_ref();
        let mut row = vec![
            server.server.to_string(),
            standing(server.state, server.health),
            format!("{}/{}", server.tenants, server.capacity),
        ];
        row.extend(seen(server.observed.as_ref()));
        row.push(rate(activity.and_then(|activity| activity.transactions_per_second)));
        row.push(percent(activity.and_then(|activity| activity.cache_hit_ratio)));
        row
    });
    Rows {
        header: &["SERVER", "STANDING", "TENANTS", "SIZE", "FREE", "SESSIONS", "OLDEST TX", "TX/S", "CACHE"],
        rows: rows.collect(),
        empty: "no servers; `freehold server add NAME --dsn-file FILE` registers one",
    }
}

/// One word where it is well.
pub fn standing(state: ServerState, health: ServerHealth) -> String {
    match (state, health) {
        (ServerState::Active, ServerHealth::Healthy) => "healthy".to_owned(),
        (ServerState::Active, health) => health.as_str().to_owned(),
        (state, ServerHealth::Healthy | ServerHealth::Unknown) => state.as_str().to_owned(),
        (state, health) => format!("{}, {}", state.as_str(), health.as_str()),
    }
}

/// Size, free space, sessions, oldest transaction.
pub fn seen(observed: Option<&Observed>) -> [String; 4] {
    let unknown = || "-".to_owned();
    let Some(seen) = observed else { return [unknown(), unknown(), unknown(), unknown()] };
    let sessions = match (seen.connections, seen.connections_max) {
        (Some(used), Some(most)) => format!("{used}/{most}"),
        _ => unknown(),
    };
    [
        seen.size_bytes.map_or_else(unknown, bytes),
        seen.data_free_bytes.map_or_else(unknown, bytes),
        sessions,
        seen.oldest_transaction_seconds.map_or_else(unknown, duration),
    ]
}

pub fn rate(per_second: Option<f64>) -> String {
    match per_second {
        None => "-".to_owned(),
        Some(rate) if rate >= 100.0 => format!("{rate:.0}"),
        Some(rate) => format!("{rate:.1}"),
    }
}

/// Never 100 % where it is not: that is what the question is about.
pub fn percent(ratio: Option<f64>) -> String {
    match ratio {
        None => "-".to_owned(),
        Some(ratio) if ratio >= 1.0 => "100 %".to_owned(),
        Some(ratio) => format!("{:.1} %", (ratio * 1000.0).floor() / 10.0),
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_as_people_read_them() {
        assert_eq!((rate(None), rate(Some(0.04)), rate(Some(1234.5))), ("-".into(), "0.0".into(), "1234".into()));
        assert_eq!((percent(Some(0.9999)), percent(Some(1.0))), ("99.9 %".into(), "100 %".into()));
        assert_eq!(
            (duration(90.0), duration(3600.0), duration(90_000.0)),
            ("90 s".into(), "60 min".into(), "25 h".into())
        );
        assert_eq!(standing(ServerState::Failed, ServerHealth::Unhealthy), "failed, unhealthy");
        assert_eq!(standing(ServerState::Cordoned, ServerHealth::Healthy), "cordoned");
    }
}
