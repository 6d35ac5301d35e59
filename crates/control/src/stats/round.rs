//! One server's round: read, compare with what the store has, measure a portion, write what changed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use freehold_drivers::server::sql::{Admin, Counters, Sessions};
use freehold_durable::{Failure, LoopCx};
use tokio::time::Instant;

use super::due::{self, Candidate};
use super::rate;
use super::store::{self, DatabaseStats, ServerTotals};
use crate::plane::Core;
use crate::server::hands;
use crate::server::store::ServerRow;
use crate::stock::store as databases;

const STATEMENT: Duration = Duration::from_secs(20);
/// For sizes, of one round.
const MEASURING: Duration = Duration::from_secs(2);
const PORTION: usize = 50;

pub async fn of(core: &Core, cx: &LoopCx, server: &ServerRow) -> Result<(), Failure> {
    let admin = hands::reader(core, cx, server, STATEMENT).await?;
    let at = databases::now(&core.store).await?;
    let counters = admin.counters().await.map_err(hands::failure)?;
    let sessions = admin.sessions().await.map_err(hands::failure)?;
    let before = store::of_server(&core.store, &server.id, at).await?;
    let logins = store::logins(&core.store, &server.id).await?;
    let elapsed = store::elapsed(&core.store, &server.id, at).await?;

    let mut totals = ServerTotals::default();
    let mut rows = advance(&before, &counters, &connections(&sessions, &logins), elapsed, &mut totals);
    measure(core, &admin, &before, &mut rows).await?;
    totals.size_bytes = rows.values().filter_map(|row| row.size_bytes).sum();
    totals.transactions_per_second = elapsed.and_then(|elapsed| rate::per_second(totals.delta.transactions, elapsed));

    let changed: Vec<&DatabaseStats> =
        rows.values().filter(|row| before.get(&row.database).is_none_or(|known| known.stats != **row)).collect();
    let gone: Vec<String> = before.keys().filter(|name| !rows.contains_key(*name)).cloned().collect();
    cx.still_mine().await?;
    Ok(store::record(&core.store, &server.id, at, &changed, &gone, &totals).await?)
}

/// Of a tenant's database: what its login has open, anywhere, because that is what its limit counts. Of others: whoever
/// is in them.
fn connections(sessions: &[Sessions], logins: &BTreeMap<String, String>) -> HashMap<String, i32> {
    let of_login: HashMap<&str, &str> =
        logins.iter().map(|(database, login)| (login.as_str(), database.as_str())).collect();
    let mut open: HashMap<String, i32> = HashMap::new();
    for found in sessions {
        let database = match of_login.get(found.role.as_str()) {
            Some(database) => *database,
            None if logins.contains_key(&found.database) => continue,
            None => &found.database,
        };
        *open.entry(database.to_owned()).or_default() += found.count;
    }
    open
}

fn advance(
    before: &HashMap<String, store::Known>,
    counters: &[Counters],
    open: &HashMap<String, i32>,
    elapsed: Option<f64>,
    totals: &mut ServerTotals,
) -> BTreeMap<String, DatabaseStats> {
    let mut rows = BTreeMap::new();
    for now in counters {
        let known = before.get(&now.database).map(|known| &known.stats);
        // What a database counted before it was first looked at happened at some time, and not in this minute.
        let delta = known.map(|known| rate::since(&known.counters(), now));
        if let Some(delta) = &delta {
            totals.add(delta);
        }
        let per_second =
            delta.as_ref().zip(elapsed).and_then(|(delta, elapsed)| rate::per_second(delta.transactions, elapsed));
        let ratio = delta
            .as_ref()
            .and_then(|delta| rate::hit_ratio(delta.blocks_hit, delta.blocks_read))
            .or(known.and_then(|known| known.cache_hit_ratio));
        let row = DatabaseStats {
            database: now.database.clone(),
            transactions: now.transactions,
            blocks_hit: now.blocks_hit,
            blocks_read: now.blocks_read,
            deadlocks: now.deadlocks,
            temp_bytes: now.temp_bytes,
            connections: open.get(&now.database).copied().unwrap_or(0),
            transactions_per_second: per_second,
            cache_hit_ratio: ratio,
            size_bytes: known.and_then(|known| known.size_bytes),
            size_transactions: known.and_then(|known| known.size_transactions),
            size_is_new: false,
        };
        rows.insert(row.database.clone(), row);
    }
    rows
}

async fn measure(
    core: &Core,
    admin: &Admin,
    before: &HashMap<String, store::Known>,
    rows: &mut BTreeMap<String, DatabaseStats>,
) -> Result<(), Failure> {
    let candidates = rows.values().map(|row| Candidate {
        database: row.database.clone(),
        age: before.get(&row.database).and_then(|known| known.size_age),
        used: row.connections > 0 || row.size_transactions != Some(row.transactions),
    });
    let due = due::order(candidates.collect(), core.settings.stats.size_period_seconds as f64);
    let end = Instant::now() + MEASURING;
    let mut asked: HashSet<&str> = HashSet::new();
    for portion in due.chunks(PORTION) {
        if Instant::now() >= end {
            break;
        }
        let sizes = match admin.sizes(portion).await {
            Ok(sizes) => sizes,
            // One of them went away in this instant, and PostgreSQL says so to some admins: another round measures the rest.
            Err(error) if !admin.is_closed() => {
                tracing::debug!(%error, "not measured");
                continue;
            }
            Err(error) => return Err(hands::failure(error)),
        };
        asked.extend(portion.iter().map(String::as_str));
        for (name, size) in sizes {
            if let Some(row) = rows.get_mut(&name) {
                (row.size_bytes, row.size_transactions, row.size_is_new) = (Some(size), Some(row.transactions), true);
            }
        }
    }
    if asked.len() < due.len() {
        tracing::debug!(left = due.len() - asked.len(), "sizes left for the next round");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_connections_are_its_logins_wherever_they_are() {
        let found =
            |role: &str, database: &str, count| Sessions { role: role.into(), database: database.into(), count };
        let logins = BTreeMap::from([("d1".to_owned(), "l1".to_owned()), ("d2".to_owned(), "l2".to_owned())]);
        let sessions =
            [found("l1", "d1", 3), found("l1", "d2", 1), found("maintenance", "d1", 5), found("anybody", "other", 2)];
        let open = connections(&sessions, &logins);
        assert_eq!((open.get("d1"), open.get("d2"), open.get("other")), (Some(&4), None, Some(&2)));
    }
}
