//! Poolers in `/metrics`: one line each, and one for each tenant that was seen at work. A tenant that does nothing costs no
//! series; one that is purged takes its own along.

use freehold_api::pooler::PoolerHealth;

use super::budget::show as budget;
use super::counts::store::{self as counts, CountsRow};
use super::store::{self, PoolerRow};
use crate::plane::{Answer, Core};
use crate::status::exposition::Scrape;

pub async fn tell(core: &Core, scrape: &mut Scrape) -> Answer<()> {
    for pooler in store::all(&core.store).await? {
        of_pooler(scrape, &pooler);
    }
    budget::tell(core, scrape).await?;
    for row in counts::of_tenants(&core.store).await? {
        of_tenant(scrape, &row);
    }
    Ok(())
}

fn of_pooler(scrape: &mut Scrape, row: &PoolerRow) {
    let pooler = [("pooler", row.id.as_str())];
    let healthy = if row.health() == PoolerHealth::Healthy { 1.0 } else { 0.0 };
    scrape.gauge("freehold_pooler_healthy", "1 where what is wanted is in force.", &pooler, healthy);
    scrape.gauge("freehold_pooler_tenants", "Tenants that it serves.", &pooler, row.tenants as f64);
    let help = "Tenants and stock that fit.";
    scrape.gauge("freehold_pooler_capacity", help, &pooler, f64::from(row.capacity));
    scrape.gauge("freehold_pooler_generation", "What is wanted.", &pooler, row.generation as f64);
    let seen = row.observed_generation.map(|seen| seen as f64);
    scrape.known("freehold_pooler_observed_generation", "What was verified to be in force.", &pooler, seen);
    let at = row.observed_at.map(|at| at.to_jiff().as_second() as f64);
    scrape.known("freehold_pooler_observed_timestamp_seconds", "When its agent was last heard of.", &pooler, at);
    let help = "Databases of its that it cannot serve.";
    scrape.gauge("freehold_pooler_unserved", help, &pooler, row.unserved as f64);
    let help = "Connections to servers that its pools may open.";
    scrape.gauge("freehold_pooler_granted_connections", help, &pooler, f64::from(row.granted));
    let help = "Connections to servers that its pools have open.";
    scrape.gauge("freehold_pooler_open_connections", help, &pooler, row.open as f64);
    let help = "Since its agent began to count.";
    scrape.counter("freehold_pooler_reloads_total", help, &pooler, row.reloads as f64);
    let help = "How often it died and was started again.";
    scrape.counter("freehold_pooler_deaths_total", help, &pooler, row.deaths as f64);
    let help = "Files that somebody edited, and that were put right.";
    scrape.counter("freehold_pooler_repaired_total", help, &pooler, row.repaired as f64);
}

fn of_tenant(scrape: &mut Scrape, row: &CountsRow) {
    let tenant = [("tenant", row.tenant_id.as_str()), ("pooler", row.pooler_id.as_str())];
    for (state, count) in [("active", row.clients_active), ("waiting", row.clients_waiting)] {
        let labels = [tenant[0], tenant[1], ("state", state)];
        let help = "Clients of a tenant, by whether they have a server connection or wait for one.";
        scrape.gauge("freehold_tenant_pooler_clients", help, &labels, f64::from(count));
    }
    for (state, count) in [("active", row.servers_active), ("idle", row.servers_idle)] {
        let labels = [tenant[0], tenant[1], ("state", state)];
        let help = "Server connections of a tenant's pool.";
        scrape.gauge("freehold_tenant_pooler_servers", help, &labels, f64::from(count));
    }
    let help = "How long the client that waits longest has waited.";
    let longest = row.longest_wait_ms as f64 / 1000.0;
    scrape.gauge("freehold_tenant_pooler_longest_wait_seconds", help, &tenant, longest);
    let help = "Transactions, since the pooler started.";
    scrape.counter("freehold_tenant_pooler_transactions_total", help, &tenant, row.transactions as f64);
    let help = "Queries, since the pooler started.";
    scrape.counter("freehold_tenant_pooler_queries_total", help, &tenant, row.queries as f64);
    let help = "From clients, since the pooler started.";
    scrape.counter("freehold_tenant_pooler_received_bytes_total", help, &tenant, row.received_bytes as f64);
    let help = "To clients, since the pooler started.";
    scrape.counter("freehold_tenant_pooler_sent_bytes_total", help, &tenant, row.sent_bytes as f64);
}
