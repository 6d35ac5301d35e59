//! Says what differs. Pure: reads neither store nor server.

use std::collections::{HashMap, HashSet};

use freehold_drivers::server::sql::{Limits, Observed, ObservedDatabase, ObservedRole};

/// The connection limit of a database that is half dropped.
const INVALID: i32 = -2;

/// What was seen, by name: a server may hold thousands of each.
pub struct Seen<'a> {
    roles: HashMap<&'a str, &'a ObservedRole>,
    databases: HashMap<&'a str, &'a ObservedDatabase>,
    owned_as_login: HashSet<(&'a str, &'a str)>,
}

impl<'a> Seen<'a> {
    pub fn of(observed: &'a Observed) -> Self {
        Self {
            roles: observed.roles.iter().map(|role| (role.name.as_str(), role)).collect(),
            databases: observed.databases.iter().map(|database| (database.name.as_str(), database)).collect(),
            owned_as_login: observed
                .owned_as_login
                .iter()
                .map(|(role, database)| (role.as_str(), database.as_str()))
                .collect(),
        }
    }
}

/// What a tenant's login must be.
pub struct Expected<'a> {
    pub login: &'a str,
    pub owner: &'a str,
    pub maintenance: &'a str,
    pub verifier: &'a str,
    pub maintenance_verifier: &'a str,
    /// The other logins of a rotation: its own as well.
    pub beside: &'a [&'a str],
    pub database: &'a str,
    pub extra: &'a [String],
    pub limits: &'a Limits,
    pub can_login: bool,
    /// Whether the template gives the database itself to the tenant.
    pub tenant_owns_database: bool,
    /// Every role on the server that is some tenant's.
    pub neighbours: &'a HashSet<&'a str>,
}

/// What was found, by database; empty is the truth.
#[derive(Debug, Default, PartialEq)]
pub struct Drift {
    pub lost_database: bool,
    /// Left by a DROP that was interrupted: it is there, and nobody gets in again.
    pub invalid_database: bool,
    pub lost_roles: Vec<String>,
    /// Why the login must be restored.
    pub login: Vec<&'static str>,
    pub maintenance: Vec<&'static str>,
    pub grants: Vec<&'static str>,
    pub owned_as_login: bool,
    /// Roles of other tenants that may connect to the database.
    pub strangers: Vec<String>,
    /// Owner and extra roles that became members of something: they are meant to be members of nothing.
    pub joined: Vec<String>,
    /// Roles with an attribute that no tenant's role has: SUPERUSER, CREATEDB, CREATEROLE, REPLICATION, BYPASSRLS.
    pub raised: Vec<String>,
}

impl Drift {
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// What only a restore brings back.
    pub fn is_lost(&self) -> bool {
        self.lost_database || self.invalid_database || !self.lost_roles.is_empty()
    }

    /// For the store, the API and the log.
    pub fn codes(&self) -> Vec<String> {
        let mut codes: Vec<String> = self.lost_roles.iter().map(|role| format!("lost_role:{role}")).collect();
        if self.lost_database {
            codes.push("lost_database".into());
        }
        if self.invalid_database {
            codes.push("database_invalid".into());
        }
        if self.owned_as_login {
            codes.push("owned_as_login".into());
        }
        codes.extend(self.strangers.iter().map(|role| format!("stranger_admitted:{role}")));
        codes.extend(self.joined.iter().map(|role| format!("memberships_changed:{role}")));
        codes.extend(self.raised.iter().map(|role| format!("attributes_changed:{role}")));
        codes.extend(self.login.iter().chain(&self.maintenance).chain(&self.grants).map(|code| (*code).to_owned()));
        codes
    }
}

pub fn compare(expected: &Expected<'_>, seen: &Seen<'_>) -> Drift {
    let role = |name: &str| seen.roles.get(name).copied();
    let mut drift = Drift::default();
    for name in [expected.owner, expected.login, expected.maintenance] {
        if role(name).is_none() {
            drift.lost_roles.push(name.to_owned());
        }
    }
    let extra = expected.extra.iter().map(String::as_str);
    for found in extra.chain([expected.owner, expected.login, expected.maintenance]).filter_map(role) {
        let admitted = found.name == expected.login || found.name == expected.maintenance;
        if !admitted && !found.member_of.is_empty() {
            drift.joined.push(found.name.clone());
        }
        if found.superuser || found.createdb || found.createrole || found.replication || found.bypass_rls {
            drift.raised.push(found.name.clone());
        }
    }
    if let Some(login) = role(expected.login) {
        drift.login = login_drift(expected, login);
    }
    if let Some(maintenance) = role(expected.maintenance) {
        drift.maintenance = maintenance_drift(expected, maintenance);
    }
    match seen.databases.get(expected.database) {
        Some(database) if database.conn_limit == INVALID => drift.invalid_database = true,
        Some(database) => {
            drift.grants = grant_drift(expected, database);
            drift.strangers = strangers(expected, database);
        }
        None => drift.lost_database = true,
    }
    drift.owned_as_login = seen.owned_as_login.contains(&(expected.login, expected.database));
    drift
}

/// Of a login that is retired when its grace is over: what differs of itself. One that is gone already is none the worse.
pub fn compare_retiring(expected: &Expected<'_>, seen: &Seen<'_>) -> Drift {
    let Some(login) = seen.roles.get(expected.login).copied() else { return Drift::default() };
    let bent = login.superuser || login.createdb || login.createrole || login.replication || login.bypass_rls;
    Drift {
        login: login_drift(expected, login),
        raised: if bent { vec![login.name.clone()] } else { Vec::new() },
        owned_as_login: seen.owned_as_login.contains(&(expected.login, expected.database)),
        ..Drift::default()
    }
}

fn login_drift(expected: &Expected<'_>, login: &ObservedRole) -> Vec<&'static str> {
    let mut drift = Vec::new();
    if login.verifier.as_deref().is_some_and(|found| found != expected.verifier) {
        drift.push("verifier_changed");
    }
    if login.can_login != expected.can_login {
        drift.push("admission_changed");
    }
    if login.conn_limit != expected.limits.connection_limit {
        drift.push("connection_limit_changed");
    }
    if !login.config_in.is_empty() || !settings_agree(expected, &login.config) {
        drift.push("settings_changed");
    }
    let stray = |name: &String| name != expected.owner && !expected.extra.contains(name);
    if login.member_of.iter().any(stray) || !login.member_of.iter().any(|name| name == expected.owner) {
        drift.push("memberships_changed");
    }
    drift
}

/// `role` must be the owner, each default what the plan says, and nothing else may be set.
fn settings_agree(expected: &Expected<'_>, config: &[String]) -> bool {
    let limits = expected.limits;
    let mut wanted = vec![
        ("role", Some(expected.owner.to_owned())),
        ("statement_timeout", (limits.statement_timeout_ms > 0).then(|| limits.statement_timeout_ms.to_string())),
        (
            "idle_in_transaction_session_timeout",
            (limits.idle_in_transaction_timeout_ms > 0).then(|| limits.idle_in_transaction_timeout_ms.to_string()),
        ),
        ("work_mem", limits.work_mem_kb.map(|kb| kb.to_string())),
    ];
    // Not every admin may set it, so its absence is no drift.
    wanted.push(("temp_file_limit", limits.temp_file_limit_kb.map(|kb| kb.to_string())));
    let mut found: Vec<(&str, &str)> = config.iter().filter_map(|entry| entry.split_once('=')).collect();
    for (name, value) in wanted {
        let position = found.iter().position(|(key, _)| *key == name);
        match (position, value) {
            (Some(index), Some(value)) => {
                let (_, is) = found.swap_remove(index);
                if !same_value(is, &value) {
                    return false;
                }
            }
            // A plan without the setting and a server's explicit zero say the same.
            (Some(index), None) => {
                let (_, is) = found.swap_remove(index);
                if is != "0" {
                    return false;
                }
            }
            (None, Some(_)) if name == "temp_file_limit" => {}
            (None, Some(_)) => return false,
            (None, None) => {}
        }
    }
    found.is_empty()
}

/// `60000` and `60000ms`, `4096` and `4096kB` are the same.
fn same_value(is: &str, wanted: &str) -> bool {
    is == wanted || is.trim_end_matches("ms").trim_end_matches("kB") == wanted
}

fn maintenance_drift(expected: &Expected<'_>, maintenance: &ObservedRole) -> Vec<&'static str> {
    let mut drift = Vec::new();
    if maintenance.verifier.as_deref().is_some_and(|found| found != expected.maintenance_verifier) {
        drift.push("maintenance_verifier_changed");
    }
    if maintenance.can_login != expected.can_login {
        drift.push("maintenance_admission_changed");
    }
    if maintenance.member_of != [expected.owner] {
        drift.push("maintenance_memberships_changed");
    }
    drift
}

fn grant_drift(expected: &Expected<'_>, database: &ObservedDatabase) -> Vec<&'static str> {
    let mut drift = Vec::new();
    if database.public_connect {
        drift.push("public_connect");
    }
    let is_owner = database.owner == expected.owner;
    if is_owner != expected.tenant_owns_database {
        drift.push("database_owner_changed");
    }
    if !is_owner && !database.connect.iter().any(|role| role == expected.owner) {
        drift.push("connect_revoked");
    }
    if !database.allow_connections {
        drift.push("database_closed");
    }
    if database.conn_limit != -1 {
        drift.push("database_limit_changed");
    }
    drift
}

fn strangers(expected: &Expected<'_>, database: &ObservedDatabase) -> Vec<String> {
    let own = |role: &str| {
        [expected.owner, expected.login, expected.maintenance].contains(&role)
            || expected.beside.contains(&role)
            || expected.extra.iter().any(|extra| extra == role)
    };
    let let_in = database.connect.iter();
    let_in.filter(|role| expected.neighbours.contains(role.as_str()) && !own(role)).cloned().collect()
}

#[cfg(test)]
mod tests;
