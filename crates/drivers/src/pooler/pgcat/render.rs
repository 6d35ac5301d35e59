//! From a configuration and plain passwords to PgCat's TOML. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use zeroize::Zeroizing;

use super::super::{ClientTls, Configuration, Entry, Limits, PoolerError, PoolerErrorKind, ServerTls, Standing};
use crate::secrets::Password;

/// What PgCat cannot do without, and no other pooler is given. It does not print.
#[derive(Clone)]
pub struct PlainPasswords {
    /// Of the console's administrator.
    pub admin: Password,
    /// By role.
    pub logins: BTreeMap<String, Password>,
}

/// A pool as it shows it: one for each entry and login.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted {
    pub entry: String,
    pub role: String,
    pub host: String,
    pub port: u16,
    pub database: String,
    pub pool_size: u32,
    pub mode: String,
}

#[derive(Serialize)]
struct File<'a> {
    general: General<'a>,
    pools: BTreeMap<&'a str, Pool<'a>>,
}

#[derive(Serialize)]
struct Pools<'a> {
    pools: BTreeMap<&'a str, Pool<'a>>,
}

/// Times in milliseconds, but for the ban, which is in seconds.
#[derive(Serialize)]
struct General<'a> {
    host: &'a str,
    port: u16,
    connect_timeout: u64,
    idle_timeout: u64,
    server_lifetime: u64,
    ban_time: u32,
    autoreload: u32,
    worker_threads: u32,
    admin_username: &'a str,
    admin_password: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_private_key: Option<String>,
}

#[derive(Serialize)]
struct Pool<'a> {
    pool_mode: &'a str,
    load_balancing_mode: &'a str,
    query_parser_enabled: bool,
    primary_reads_enabled: bool,
    prepared_statements_cache_size: u32,
    users: BTreeMap<String, User<'a>>,
    shards: BTreeMap<&'static str, Shard<'a>>,
}

#[derive(Serialize)]
struct User<'a> {
    username: &'a str,
    password: &'a str,
    pool_size: u32,
}

#[derive(Serialize)]
struct Shard<'a> {
    servers: [(&'a str, u16, &'static str); 1],
    database: &'a str,
}

/// With passwords in it.
pub fn render(wanted: &Configuration, passwords: &PlainPasswords) -> Result<Zeroizing<String>, PoolerError> {
    let (certificate, key) = match &wanted.client_tls {
        ClientTls::Off => (None, None),
        ClientTls::Offered { certificate, key } => (Some(certificate), Some(key)),
        ClientTls::Required { .. } | ClientTls::Mutual { .. } => {
            return Err(refused("PgCat cannot insist on TLS from clients: offer it, or use PgBouncer"));
        }
    };
    match wanted.server_tls {
        ServerTls::Off => {}
        ServerTls::Offered => return Err(refused("PgCat speaks TLS to all servers or to none: use PgBouncer")),
        ServerTls::VerifyFull { .. } => {
            return Err(refused("PgCat cannot be given an authority that vouches for its servers: use PgBouncer"));
        }
    }
    let [address] = wanted.listen.addresses.as_slice() else {
        return Err(refused("PgCat listens on one address, or on all of them (`*`)"));
    };
    let path = |path: Option<&std::path::PathBuf>| path.map(|path| path.to_string_lossy().into_owned());
    let limits = &wanted.limits;
    let millis = |seconds: u32| u64::from(seconds) * 1_000;
    let general = General {
        host: if address == "*" { "0.0.0.0" } else { address },
        port: wanted.listen.port,
        connect_timeout: millis(limits.server_connect_seconds),
        idle_timeout: millis(limits.server_idle_seconds),
        server_lifetime: millis(limits.server_lifetime_seconds),
        ban_time: 60,
        // It looks at the file by itself as well; whoever writes it asks for a RELOAD at once.
        autoreload: 15_000,
        worker_threads: 4,
        admin_username: &wanted.console.admin.name,
        admin_password: passwords.admin.expose(),
        tls_certificate: path(certificate),
        tls_private_key: path(key),
    };
    let entries: Vec<&Entry> = wanted.entries.iter().collect();
    let pools = pools(&entries, limits, &passwords.logins)?;
    write(&File { general, pools })
}

/// The pools alone, for a file whose `[general]` is somebody else's.
pub(super) fn render_pools(
    entries: &[&Entry],
    limits: &Limits,
    passwords: &BTreeMap<String, Password>,
) -> Result<Zeroizing<String>, PoolerError> {
    match pools(entries, limits, passwords)? {
        none if none.is_empty() => Ok(Zeroizing::new(String::new())),
        pools => write(&Pools { pools }),
    }
}

fn write(file: &impl Serialize) -> Result<Zeroizing<String>, PoolerError> {
    let text = toml::to_string(file);
    let text = text.map_err(|error| PoolerError::because(PoolerErrorKind::Refused, "write PgCat's TOML", error))?;
    Ok(Zeroizing::new(text))
}

/// One that nobody may use is left out: there are no verifiers here.
fn pools<'a>(
    entries: &[&'a Entry],
    limits: &Limits,
    passwords: &'a BTreeMap<String, Password>,
) -> Result<BTreeMap<&'a str, Pool<'a>>, PoolerError> {
    let mut pools = BTreeMap::new();
    for entry in entries {
        check(entry)?;
        let pool = pool(entry, limits, passwords)?;
        if !pool.users.is_empty() && pools.insert(entry.name.as_str(), pool).is_some() {
            return Err(refused(format!("entry {} is there twice", entry.name)));
        }
    }
    Ok(pools)
}

fn pool<'a>(
    entry: &'a Entry,
    limits: &Limits,
    passwords: &'a BTreeMap<String, Password>,
) -> Result<Pool<'a>, PoolerError> {
    let mut users = BTreeMap::new();
    for role in usable(entry) {
        let password = passwords
            .get(role)
            .ok_or_else(|| refused(format!("PgCat needs the plain password of login {role}, and was not given it")))?;
        let user = User { username: role, password: password.expose(), pool_size: entry.pool_size };
        users.insert(users.len().to_string(), user);
    }
    let server = (entry.server.host.as_str(), entry.server.port, "primary");
    Ok(Pool {
        pool_mode: entry.mode.unwrap_or(limits.default_mode).as_str(),
        load_balancing_mode: "random",
        query_parser_enabled: true,
        primary_reads_enabled: true,
        prepared_statements_cache_size: limits.prepared_statements,
        users,
        shards: BTreeMap::from([("0", Shard { servers: [server], database: &entry.database })]),
    })
}

pub(super) fn wanted_pools<'a>(entries: impl IntoIterator<Item = &'a Entry>, limits: &Limits) -> BTreeSet<Wanted> {
    let of = |entry: &'a Entry| {
        usable(entry)
            .into_iter()
            .map(|role| Wanted {
                entry: entry.name.clone(),
                role: role.to_owned(),
                host: entry.server.host.clone(),
                port: entry.server.port,
                database: entry.database.clone(),
                pool_size: entry.pool_size,
                mode: entry.mode.unwrap_or(limits.default_mode).as_str().to_owned(),
            })
            .collect::<Vec<_>>()
    };
    entries.into_iter().flat_map(of).collect()
}

/// A login that may not be used is left out: there are no verifiers here.
fn usable(entry: &Entry) -> BTreeSet<&str> {
    let usable = entry.logins.iter().filter(|login| login.standing == Standing::Usable);
    usable.map(|login| login.role.as_str()).collect()
}

/// PgCat calls a server of a pool `<pool>_shard_0_primary`.
pub(super) fn entry_of(address: &str) -> &str {
    address.strip_suffix("_shard_0_primary").unwrap_or(address)
}

/// What PgBouncer has and PgCat has not.
pub(super) fn left_out(wanted: &Configuration) -> BTreeSet<&'static str> {
    let entries: Vec<&Entry> = wanted.entries.iter().collect();
    let mut left_out = left_out_of(&entries);
    if wanted.limits.default_database_connections > 0 {
        left_out.insert("max_db_connections");
    }
    if !wanted.extra.is_empty() {
        left_out.insert("extra");
    }
    left_out
}

pub(super) fn left_out_of(entries: &[&Entry]) -> BTreeSet<&'static str> {
    let mut left_out = BTreeSet::new();
    let any = |has: fn(&Entry) -> bool| entries.iter().any(|entry| has(entry));
    if any(|entry| entry.reserve > 0) {
        left_out.insert("reserve_pool_size");
    }
    if any(|entry| entry.database_connections.is_some()) {
        left_out.insert("max_db_connections");
    }
    if any(|entry| entry.client_connections.is_some()) {
        left_out.insert("max_db_client_connections");
    }
    left_out
}

/// PgCat splits its commands at white space and commas, and knows no quotes.
pub(super) fn is_word(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || ",;".contains(c))
}

pub(super) fn check(entry: &Entry) -> Result<(), PoolerError> {
    let roles = entry.logins.iter().map(|login| login.role.as_str());
    for name in roles.chain([entry.name.as_str()]) {
        if !is_word(name) {
            let why = "its console splits at white space and commas, and knows no quotes";
            return Err(refused(format!("{name:?} cannot be a pool or a user of PgCat: {why}")));
        }
    }
    if ["pgcat", "pgbouncer"].contains(&entry.name.as_str()) {
        return Err(refused(format!("entry {} is the console's", entry.name)));
    }
    if entry.pool_size == 0 {
        return Err(refused(format!("entry {} has pool_size 0: nobody would ever be served", entry.name)));
    }
    Ok(())
}

fn refused(message: impl Into<String>) -> PoolerError {
    PoolerError::new(PoolerErrorKind::Refused, message)
}
