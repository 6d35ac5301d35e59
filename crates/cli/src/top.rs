//! `freehold top`: servers, worst first, and the tenants that use the most, again and again.

use std::cmp::Reverse;
use std::time::Duration;

use freehold_api::Page;
use freehold_api::ServerId;
use freehold_api::server::{ServerHealth, ServerState};
use freehold_api::stats::{ServerStats, Stats, TenantOrder, TenantStats};
use serde_json::{Value, json};

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::Outcome;
use crate::output::{Rows, bytes};
use crate::stats::{percent, rate, servers};
use crate::value::wire_name;

#[derive(Debug, clap::Args)]
pub struct Top {
    /// Print it once; also where the output is no terminal
    #[arg(long)]
    once: bool,
    /// Tenants by size, connections or transactions
    #[arg(long, value_parser = wire_name::<TenantOrder>, default_value = "size")]
    order: TenantOrder,
    /// Tenants of this server only
    #[arg(long, value_name = "NAME")]
    server: Option<ServerId>,
    /// How many tenants
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Seconds from one look to the next; the numbers themselves change once a minute
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
}

pub async fn run(args: Top, cx: &mut Cx) -> Outcome {
    loop {
        let (stats, tenants) = look(&args, cx).await?;
        if cx.out.wants_json() {
            cx.out.json_line(&json!({"stats": stats, "tenants": tenants}))?;
        } else {
            tell(cx, &args, parse(&stats)?, parse(&tenants)?);
        }
        if args.once || !cx.out.is_live() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(args.interval)).await;
    }
}

async fn look(args: &Top, cx: &mut Cx) -> Result<(Value, Value), crate::failure::Failure> {
    let client = cx.client()?;
    let stats = client.send(Request::get(&["stats"])).await?.body;
    let request = Request::get(&["stats", "tenants"])
        .query("order", Some(args.order.as_str()))
        .query("server", args.server.as_ref())
        .query("limit", Some(args.limit));
    Ok((stats, client.send(request).await?.body))
}

fn tell(cx: &Cx, args: &Top, mut stats: Stats, tenants: Page<TenantStats>) {
    if !args.once {
        cx.out.clear();
    }
    let fleet = &stats.fleet;
    cx.out.line(&format!(
        "{} servers, {} tenants, {}; {} of {} sessions, {} transactions per second",
        fleet.servers,
        fleet.tenants,
        bytes(fleet.size_bytes),
        fleet.connections,
        fleet.connections_max,
        rate(Some(fleet.transactions_per_second))
    ));
    cx.out.line("");
    stats.servers.sort_by_key(|server| Reverse(trouble(server)));
    cx.out.table(servers(&stats.servers));
    cx.out.line("");
    let rows = tenants.items.into_iter().map(|tenant| {
        let usage = &tenant.usage;
        let of = |used: String, all: Option<String>| all.map_or_else(|| used.clone(), |all| format!("{used} of {all}"));
        vec![
            tenant.tenant.to_string(),
            tenant.server.map_or_else(|| "-".to_owned(), |server| server.to_string()),
            of(usage.size_bytes.map_or_else(|| "-".to_owned(), bytes), usage.storage_quota.map(bytes)),
            format!("{}/{}", usage.connections, usage.connection_limit),
            rate(tenant.transactions_per_second),
            percent(tenant.cache_hit_ratio),
            tenant.deadlocks.to_string(),
            bytes(tenant.temp_bytes),
        ]
    });
    cx.out.table(Rows {
        header: &["TENANT", "SERVER", "SIZE", "SESSIONS", "TX/S", "CACHE", "DEADLOCKS", "TEMP"],
        rows: rows.collect(),
        empty: "no tenant's database was looked at yet; that is done once a minute",
    });
}

/// The fuller of two that are well comes first.
fn trouble(server: &ServerStats) -> (u8, u64) {
    let standing = match (server.state, server.health) {
        (ServerState::Failed, _) => 3,
        (_, ServerHealth::Unhealthy) => 2,
        (_, ServerHealth::Degraded) => 1,
        _ => 0,
    };
    let seen = server.observed.as_ref();
    let full = seen.and_then(|seen| seen.connections.zip(seen.connections_max));
    (standing, full.map_or(0, |(used, most)| u64::from(used) * 1000 / u64::from(most.max(1))))
}
