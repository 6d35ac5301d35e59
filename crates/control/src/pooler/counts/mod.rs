//! What a pooler counts of its databases, as it is told.

pub mod store;

use freehold_api::pooler::PooledDatabase;
use freehold_drivers::pooler::{DatabaseStats, PoolStats};

/// A request has a limit, and the idle ones tell nothing.
const MOST: usize = 2_000;

/// Those that somebody used or waits for.
pub fn busiest(stats: Vec<DatabaseStats>) -> Vec<PooledDatabase> {
    let mut all: Vec<PooledDatabase> = stats.into_iter().map(counted).collect();
    all.retain(|one| one.clients_active + one.clients_waiting + one.servers_active > 0 || one.received_bytes > 0);
    all.sort_by_key(|one| std::cmp::Reverse((one.clients_waiting, one.transactions)));
    all.truncate(MOST);
    all
}

fn counted(stats: DatabaseStats) -> PooledDatabase {
    let sum = |of: fn(&PoolStats) -> u32| stats.pools.iter().map(of).sum();
    let longest = stats.pools.iter().map(|pool| pool.maxwait).max().unwrap_or_default();
    PooledDatabase {
        clients_active: sum(|pool| pool.cl_active),
        clients_waiting: sum(|pool| pool.cl_waiting),
        servers_active: sum(|pool| pool.sv_active),
        servers_idle: sum(|pool| pool.sv_idle + pool.sv_used + pool.sv_tested),
        longest_wait_ms: u64::try_from(longest.as_millis()).unwrap_or(u64::MAX),
        transactions: stats.totals.transactions,
        queries: stats.totals.queries,
        received_bytes: stats.totals.received_bytes,
        sent_bytes: stats.totals.sent_bytes,
        name: stats.name,
    }
}
