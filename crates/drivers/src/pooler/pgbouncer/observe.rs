//! What the console shows, in our words.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::{DatabaseStats, Holder, PoolStats, PoolerError, Totals};
use super::console::{Console, Row};

/// The console lists itself as a database.
const ITSELF: &str = "pgbouncer";

pub(crate) async fn stats(console: &Console) -> Result<Vec<DatabaseStats>, PoolerError> {
    let mut databases: BTreeMap<String, DatabaseStats> = BTreeMap::new();
    for row in console.command("SHOW DATABASES").await? {
        let name = row.text("name").to_owned();
        let seen = DatabaseStats {
            name: name.clone(),
            host: row.text("host").to_owned(),
            port: row.number("port"),
            database: row.text("database").to_owned(),
            paused: row.is_set("paused"),
            disabled: row.is_set("disabled"),
            connections: row.number("current_connections"),
            client_connections: row.optional("current_client_connections"),
            ..DatabaseStats::default()
        };
        databases.insert(name, seen);
    }
    for row in console.command("SHOW POOLS").await? {
        if let Some(database) = databases.get_mut(row.text("database")) {
            database.pools.push(pool_of(&row));
        }
    }
    for row in console.command("SHOW STATS").await? {
        if let Some(database) = databases.get_mut(row.text("database")) {
            database.totals = totals_of(&row);
        }
    }
    databases.remove(ITSELF);
    let mut all: Vec<DatabaseStats> = databases.into_values().collect();
    for database in &mut all {
        database.pools.sort_by(|one, other| one.user.cmp(&other.user));
    }
    Ok(all)
}

pub(crate) fn pool_of(row: &Row) -> PoolStats {
    PoolStats {
        user: row.text("user").to_owned(),
        mode: row.text("pool_mode").to_owned(),
        cl_active: row.number("cl_active"),
        cl_waiting: row.number("cl_waiting"),
        sv_active: row.number("sv_active"),
        sv_idle: row.number("sv_idle"),
        sv_used: row.number("sv_used"),
        sv_tested: row.number("sv_tested"),
        sv_login: row.number("sv_login"),
        maxwait: Duration::from_secs(row.number("maxwait")) + Duration::from_micros(row.number("maxwait_us")),
    }
}

pub(crate) fn totals_of(row: &Row) -> Totals {
    let micros = |column| Duration::from_micros(row.number(column));
    Totals {
        transactions: row.number("total_xact_count"),
        queries: row.number("total_query_count"),
        received_bytes: row.number("total_received"),
        sent_bytes: row.number("total_sent"),
        transaction_time: micros("total_xact_time"),
        query_time: micros("total_query_time"),
        wait_time: micros("total_wait_time"),
    }
}

/// Server connections of a database that are lent or being tested: what a pause waits for.
pub(super) async fn busy(console: &Console, database: &str) -> Result<u32, PoolerError> {
    let rows = console.command("SHOW POOLS").await?;
    let ours = rows.iter().filter(|row| row.text("database") == database);
    Ok(ours.map(|row| row.number::<u32>("sv_active") + row.number::<u32>("sv_tested")).sum())
}

/// Who keeps them.
pub(super) async fn holders(console: &Console, database: &str) -> Result<Vec<Holder>, PoolerError> {
    let servers = console.command("SHOW SERVERS").await?;
    let clients = console.command("SHOW CLIENTS").await?;
    // PgBouncer's own clock: whoever asks (this session) has spoken just now.
    let now = clients.iter().filter_map(|row| moment(row.text("request_time"))).max();
    let held = servers
        .iter()
        .filter(|row| row.text("database") == database && ["active", "tested"].contains(&row.text("state")));
    let holder = |server: &Row| {
        let client = clients.iter().find(|row| !row.text("ptr").is_empty() && row.text("ptr") == server.text("link"));
        let spoke = client.and_then(|row| moment(row.text("request_time")));
        Holder {
            user: server.text("user").to_owned(),
            address: client.map_or_else(String::new, |row| format!("{}:{}", row.text("addr"), row.text("port"))),
            application: client.map_or("", |row| row.text("application_name")).to_owned(),
            state: server.text("state").to_owned(),
            silent_for: now.zip(spoke).and_then(|(now, spoke)| Duration::try_from(now - spoke).ok()),
            server_pid: server.number("remote_pid"),
        }
    };
    Ok(held.map(holder).collect())
}

/// `2026-11-21 19:28:09 UTC`, in whatever zone PgBouncer runs: only differences are used.
fn moment(text: &str) -> Option<jiff::SignedDuration> {
    let text = text.rsplit_once(' ')?.0;
    let at = jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S", text).ok()?;
    let epoch = jiff::civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    Some(at.duration_since(epoch))
}

#[cfg(test)]
mod tests {
    use super::moment;

    #[test]
    fn moments_are_read_as_pgbouncer_writes_them() {
        let one = moment("2026-11-21 19:28:09 UTC").unwrap();
        let other = moment("2026-11-21 19:29:10 UTC").unwrap();
        assert_eq!((other - one).as_secs(), 61);
        assert!(moment("").is_none() && moment("yesterday evening").is_none());
    }
}
