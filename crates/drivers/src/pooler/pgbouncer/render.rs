//! From a configuration to the text of three files. Pure: the same in, the same out, in whatever order it comes.
//!
//! *Who gets in where* is in the access rules (`auth_type = hba`), one per database with its logins. With the list of users
//! alone, any login may ask for any database: the pooler would let it in, open a pool for it, and leave the refusal to the
//! server, at the cost of its neighbour's connections and, until `server_login_retry` is over, of everybody's patience.
//! With the rules the pooler itself refuses, before anything is opened. What they cost, with two logins for each database on
//! 2 cores, list alone / with rules: a reload of 500 databases 1.6 / 2.6 ms, of 1,000 4 / 6 ms, of 10,000 167 / 183 ms
//! (1.18; 1.24: 1.6 / 2.3, 4 / 5, 162 / 209); the first answer to a login 0.02 / 0.04 ms at 1,000, 0.1 / 0.5 at 10,000.
//!
//! *Order* carries proof. The ini file is read to its first error and no further, so the console's settings come last and
//! end with the generation; the list of users likewise, so the administrator is its first line and the check login its last.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use super::super::{
    ClientTls, Configuration, ConsoleLogin, Entry, Mode, PoolerError, PoolerErrorKind, Standing, Verifier,
};
use super::files::Files;
use super::quote::{self, EntryName, Unwritable};
use super::settings;
use super::version::Features;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// `pgbouncer.ini`.
    pub ini: String,
    /// `auth_file`.
    pub users: String,
    /// `auth_hba_file`.
    pub rules: String,
    /// Settings that this version does not have.
    pub left_out: BTreeSet<&'static str>,
}

pub fn render(wanted: &Configuration, features: Features, files: &Files) -> Result<Rendered, PoolerError> {
    check(wanted)?;
    let mut entries: Vec<&Entry> = wanted.entries.iter().collect();
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    let mut left_out = BTreeSet::new();
    let with_limit = |entry: &&Entry| entry.client_connections.is_some();
    if !features.client_limits && entries.iter().any(with_limit) {
        left_out.insert("max_db_client_connections");
    }
    if !features.prepared_statements && wanted.limits.prepared_statements > 0 {
        left_out.insert("max_prepared_statements");
    }
    let text = || -> Result<_, Unwritable> {
        Ok((ini(wanted, &entries, features, files)?, users(wanted, &entries)?, rules(wanted, &entries, features)?))
    };
    let (ini, users, rules) = text().map_err(refused)?;
    Ok(Rendered { ini, users, rules, left_out })
}

/// The check login's name in this generation. It changes with each, so that a list which was not read again does not
/// pass; and it comes round, because PgBouncer never forgets a name.
pub(super) fn check_name(login: &ConsoleLogin, generation: u64) -> String {
    format!("{}_{}", login.name, generation % 16)
}

fn ini(wanted: &Configuration, entries: &[&Entry], features: Features, files: &Files) -> Result<String, Unwritable> {
    let mut text = String::from("[databases]\n");
    for entry in entries {
        text.push_str(&entry_line(entry, wanted.limits.default_mode, features)?);
    }
    text.push_str("\n[pgbouncer]\n");
    for (name, value) in settings::of(wanted, features, files) {
        let _ = writeln!(text, "{name} = {}", quote::setting(&value)?);
    }
    Ok(text)
}

/// A line of `[databases]`.
pub(super) fn entry_line(entry: &Entry, default_mode: Mode, features: Features) -> Result<String, Unwritable> {
    let mut text = format!(
        "{} = host={} port={} dbname={} pool_mode={} pool_size={} reserve_pool={}",
        EntryName::parse(&entry.name)?.as_str(),
        quote::host(&entry.server.host)?,
        entry.server.port,
        quote::connection_value("database", &entry.database)?,
        entry.mode.unwrap_or(default_mode).as_str(),
        entry.pool_size,
        entry.reserve,
    );
    if let Some(limit) = entry.database_connections.filter(|limit| *limit > 0) {
        let _ = write!(text, " max_db_connections={limit}");
    }
    if let (true, Some(limit)) = (features.client_limits, entry.client_connections.filter(|limit| *limit > 0)) {
        let _ = write!(text, " max_db_client_connections={limit}");
    }
    text.push('\n');
    Ok(text)
}

fn users(wanted: &Configuration, entries: &[&Entry]) -> Result<String, Unwritable> {
    let Configuration { console, generation, .. } = wanted;
    let admin = user_line(&console.admin.name, &console.admin.verifier)?;
    Ok(format!("{admin}{}", logins_then_check(entries, &console.check, *generation)?))
}

/// Each login once, in order; the check login comes last.
pub(super) fn logins_then_check(
    entries: &[&Entry],
    check: &ConsoleLogin,
    generation: u64,
) -> Result<String, Unwritable> {
    let mut verifiers: BTreeMap<&str, Verifier> = BTreeMap::new();
    for login in entries.iter().flat_map(|entry| &entry.logins) {
        let verifier = match login.standing {
            Standing::Usable => login.verifier.clone(),
            Standing::Unusable => Verifier::unusable(&login.role),
        };
        verifiers.insert(&login.role, verifier);
    }
    let mut text = String::new();
    for (role, verifier) in &verifiers {
        text.push_str(&user_line(role, verifier)?);
    }
    text.push_str(&user_line(&check_name(check, generation), &check.verifier)?);
    Ok(text)
}

fn user_line(role: &str, verifier: &Verifier) -> Result<String, Unwritable> {
    Ok(format!("{} \"{}\"\n", quote::identifier("role", role)?, verifier.as_str()))
}

fn rules(wanted: &Configuration, entries: &[&Entry], features: Features) -> Result<String, Unwritable> {
    let over_network = match wanted.client_tls {
        ClientTls::Off | ClientTls::Offered { .. } => "host",
        ClientTls::Required { .. } | ClientTls::Mutual { .. } => "hostssl",
    };
    let anywhere: &[&str] = if features.all_addresses { &["all"] } else { &["0.0.0.0/0", "::/0"] };
    let mut text = String::new();
    let console = |text: &mut String, name: &str| -> Result<(), Unwritable> {
        let name = quote::identifier("role", name)?;
        let _ = writeln!(text, "local \"pgbouncer\" {name} scram-sha-256");
        for network in &wanted.console.networks {
            let network = quote::setting(network)?;
            let _ = writeln!(text, "{over_network} \"pgbouncer\" {name} {network} scram-sha-256");
        }
        Ok(())
    };
    console(&mut text, &wanted.console.admin.name)?;
    for entry in entries.iter().filter(|entry| !entry.logins.is_empty()) {
        let database = quote::identifier("entry", &entry.name)?;
        let roles: BTreeSet<&str> = entry.logins.iter().map(|login| login.role.as_str()).collect();
        let roles = quote::identifiers("role", roles)?;
        for addresses in anywhere {
            let _ = writeln!(text, "{over_network} {database} {roles} {addresses} scram-sha-256");
        }
    }
    console(&mut text, &check_name(&wanted.console.check, wanted.generation))?;
    Ok(text)
}

/// What each part alone cannot see.
fn check(wanted: &Configuration) -> Result<(), PoolerError> {
    let refuse = |message: String| Err(PoolerError::new(PoolerErrorKind::Refused, message));
    let check = check_name(&wanted.console.check, wanted.generation);
    for name in [&wanted.console.admin.name, &wanted.console.check.name] {
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if name.is_empty() || name.len() > 40 || !is_plain || name == "pgbouncer" {
            return refuse(format!(
                "{name:?} cannot be a login of the console: expected letters, digits and underscores, at most 40"
            ));
        }
    }
    if wanted.console.admin.name == wanted.console.check.name || wanted.console.admin.name == check {
        return refuse("the console's administrator and its check login are two different logins".into());
    }
    for network in &wanted.console.networks {
        if !is_network(network) {
            return refuse(format!(
                "{network:?} is no network: expected an address with its fixed bits, as 127.0.0.1/32"
            ));
        }
    }
    for name in wanted.extra.keys() {
        if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') || is_ours(name) {
            return refuse(format!(
                "{name:?} cannot be set in `extra`: it is no setting, or one that Freehold decides"
            ));
        }
    }
    check_entries(&wanted.entries, &[&wanted.console.admin.name, &check])
}

/// `console`: whoever is called so is one of the console's.
pub(super) fn check_entries(entries: &[Entry], console: &[&str]) -> Result<(), PoolerError> {
    let refuse = |message: String| Err(PoolerError::new(PoolerErrorKind::Refused, message));
    let mut names = BTreeSet::new();
    let mut logins: BTreeMap<&str, (&Verifier, Standing)> = BTreeMap::new();
    for entry in entries {
        if !names.insert(entry.name.as_str()) {
            return refuse(format!("entry {} is there twice", entry.name));
        }
        if entry.pool_size == 0 {
            return refuse(format!("entry {} has pool_size 0: nobody would ever be served", entry.name));
        }
        for login in &entry.logins {
            if console.contains(&login.role.as_str()) {
                return refuse(format!("login {} of entry {} is the console's", login.role, entry.name));
            }
            let one = logins.entry(&login.role).or_insert((&login.verifier, login.standing));
            if *one != (&login.verifier, login.standing) {
                return refuse(format!("login {} has two verifiers, or is both usable and not", login.role));
            }
        }
    }
    Ok(())
}

/// Whoever sets these decides who gets in, or breaks the proof.
fn is_ours(name: &str) -> bool {
    let prefixes = ["auth_", "admin_", "stats_", "client_tls_", "server_tls_", "syslog", "unix_socket_", "listen_"];
    prefixes.iter().any(|prefix| name.starts_with(prefix)) || name == "user" || name == "conffile"
}

fn is_network(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse() {
        Ok(std::net::IpAddr::V4(_)) => 32,
        Ok(std::net::IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

pub(super) fn refused(error: Unwritable) -> PoolerError {
    PoolerError::new(PoolerErrorKind::Refused, error.to_string())
}

/// As PgBouncer is given it.
pub(super) fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
