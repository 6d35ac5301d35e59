//! Budgets in what is answered about servers, and in the fleet's state.

use freehold_api::server::{Finding, Server, ServerPooling, Severity};
use freehold_api::status::Concern;

use super::store::{self, BudgetRow};
use crate::plane::{Answer, Core};
use crate::status::exposition::Scrape;

/// Of each server what its pools may have, and what a person should know of that.
pub async fn add(core: &Core, servers: &mut [Server]) -> Answer<()> {
    let mut known = store::all(&core.store).await?;
    if known.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = servers.iter().map(|server| server.id.to_string()).collect();
    let open = store::open(&core.store, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    for (server, id) in servers.iter_mut().zip(&ids) {
        let Some(row) = known.remove(id) else { continue };
        let open = open.iter().find(|(server, _)| server == id).map_or(0, |(_, open)| *open);
        server.pooling = Some(pooling(&row, open));
        server.findings.extend(row.findings.0);
    }
    Ok(())
}

/// For `GET /v1/status`.
pub async fn concerns(core: &Core) -> Answer<Vec<Concern>> {
    let rows = store::all(&core.store).await?.into_values();
    let found = rows.flat_map(|row| {
        let findings = row.findings.0.into_iter().filter(|finding| finding.severity > Severity::Low);
        let server = row.server_id;
        findings.map(move |finding| Concern {
            severity: finding.severity,
            code: finding.code,
            message: format!("server {server}: {}", finding.message),
            next: Some(format!("freehold server show {server}")),
        })
    });
    Ok(found.collect())
}

/// Of the servers that a pooler serves.
pub async fn of_pooler(core: &Core, pooler: &str) -> Answer<Vec<Finding>> {
    let served = store::served_by(&core.store, pooler).await?;
    let rows = store::all(&core.store).await?.into_values().filter(|row| served.contains(&row.server_id));
    let found = rows.flat_map(|row| {
        let server = row.server_id;
        row.findings
            .0
            .into_iter()
            .map(move |found| Finding { message: format!("server {server}: {}", found.message), ..found })
    });
    Ok(found.collect())
}

pub async fn tell(core: &Core, scrape: &mut Scrape) -> Answer<()> {
    for row in store::all(&core.store).await?.into_values() {
        let server = [("server", row.server_id.as_str())];
        let help = "Connections to a server that are there for pools, over all poolers.";
        scrape.gauge("freehold_server_pool_budget", help, &server, f64::from(row.budget));
        let help = "Connections that the plans of its pooled databases say.";
        scrape.gauge("freehold_server_pool_wanted", help, &server, f64::from(row.wanted));
        let help = "Connections that its pools may open; those at rest oversubscribe the budget.";
        scrape.gauge("freehold_server_pool_granted", help, &server, f64::from(row.granted));
    }
    Ok(())
}

fn pooling(row: &BudgetRow, open: i64) -> ServerPooling {
    let count = |count: i32| u32::try_from(count).unwrap_or(0);
    ServerPooling {
        budget: count(row.budget),
        databases: count(row.databases),
        wanted: count(row.wanted),
        granted: count(row.granted),
        open: u32::try_from(open).unwrap_or(0),
        resting: row.resting.map(count),
    }
}
