//! What a server is, what its admin may do there, and what will therefore not work. Needs are named before
//! anything starts.

use std::collections::BTreeMap;

use super::admin::Admin;
use super::error::SqlError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    pub version_num: i32,
    pub version: String,
    /// Empty when the admin may not read it.
    pub system_identifier: String,
    pub admin: String,
    pub superuser: bool,
    pub createdb: bool,
    pub createrole: bool,
    pub replication: bool,
    pub in_recovery: bool,
    pub settings: BTreeMap<String, String>,
    pub available_extensions: BTreeMap<String, String>,
    pub findings: Vec<Finding>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Stable, for programs.
    pub code: &'static str,
    pub severity: Severity,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Low,
    Medium,
    High,
}

const SETTINGS: [&str; 22] = [
    "data_checksums",
    "fsync",
    "listen_addresses",
    "log_min_duration_statement",
    "log_statement",
    "max_connections",
    "max_logical_replication_workers",
    "max_replication_slots",
    "max_wal_senders",
    "max_wal_size",
    "max_worker_processes",
    "min_wal_size",
    "password_encryption",
    "port",
    "recovery_init_sync_method",
    "reserved_connections",
    "server_encoding",
    "shared_buffers",
    "ssl",
    "superuser_reserved_connections",
    "synchronous_commit",
    "wal_level",
];

impl Finding {
    pub(super) fn new(code: &'static str, severity: Severity, message: impl Into<String>) -> Self {
        Self { code, severity, message: message.into() }
    }
}

impl ServerFacts {
    /// Why Freehold will not use this server at all.
    pub fn refusal(&self) -> Option<String> {
        let admin = &self.admin;
        match self.version_num {
            ..150_000 => return Some(format!("PostgreSQL {} is older than 15", self.version)),
            150_009 | 160_005 | 170_001 => {
                return Some(format!(
                    "PostgreSQL {} ignores ALTER ROLE … SET role: install the next minor release",
                    self.version
                ));
            }
            _ => {}
        }
        if self.in_recovery {
            return Some("this server is a standby: name the primary, or add target_session_attrs=read-write".into());
        }
        match (self.superuser || self.createdb, self.superuser || self.createrole) {
            (true, true) => None,
            (false, true) => Some(format!("{admin} lacks CREATEDB: ALTER ROLE {admin} CREATEDB")),
            (true, false) => Some(format!("{admin} lacks CREATEROLE: ALTER ROLE {admin} CREATEROLE")),
            (false, false) => {
                Some(format!("{admin} lacks CREATEDB and CREATEROLE: ALTER ROLE {admin} CREATEDB CREATEROLE"))
            }
        }
    }
}

impl Admin {
    pub async fn facts(&self) -> Result<ServerFacts, SqlError> {
        let doing = "read the server's facts";
        let sql = "select r.rolsuper, r.rolcreatedb, r.rolcreaterole, r.rolreplication, current_setting('server_version'), \
                   pg_is_in_recovery(), \
                   has_parameter_privilege('temp_file_limit', 'SET'), pg_has_role('pg_signal_backend', 'USAGE'), \
                   (select count(*) from pg_roles s where s.rolname = 'pg_create_subscription' and pg_has_role(s.oid, 'USAGE')), \
                   (select count(*) from pg_roles s where s.rolname = 'pg_use_reserved_connections' and pg_has_role(s.oid, 'USAGE')) \
                   from pg_roles r where r.rolname = current_user";
        let row = self.row(doing, sql, &[]).await?;
        let settings = self
            .pairs(
                doing,
                &format!(
                    "select name, setting from pg_settings where name in ({})",
                    SETTINGS.map(super::quote::literal).join(", ")
                ),
            )
            .await?;
        let available_extensions = self
            .pairs(
                doing,
                "select name::text, default_version from pg_available_extensions where default_version is not null",
            )
            .await?;
        let system_identifier = self.system_identifier().await?;
        let can = Can {
            superuser: row.get(0),
            replication: row.get(3),
            temp_file_limit: row.get(6),
            signal: row.get(7),
            subscribe: row.get::<_, i64>(8) > 0,
            reserve: row.get::<_, i64>(9) > 0 && settings.get("reserved_connections").is_some_and(|kept| kept != "0"),
        };
        let mut findings = can.findings(self.version_num());
        findings.extend(about_settings(&settings));
        Ok(ServerFacts {
            version_num: self.version_num(),
            version: row.get(4),
            system_identifier,
            admin: self.user.clone(),
            superuser: can.superuser,
            createdb: row.get(1),
            createrole: row.get(2),
            replication: can.replication,
            in_recovery: row.get(5),
            settings,
            available_extensions,
            findings,
        })
    }

    /// Tells one cluster from another, also behind a DSN that changed. Empty when the admin may not read it.
    pub async fn system_identifier(&self) -> Result<String, SqlError> {
        let doing = "read the system identifier";
        let allowed = "select has_function_privilege('pg_control_system()', 'EXECUTE')";
        match self.superuser || self.row(doing, allowed, &[]).await?.get(0) {
            true => Ok(self.row(doing, "select system_identifier::text from pg_control_system()", &[]).await?.get(0)),
            false => Ok(String::new()),
        }
    }

    async fn pairs(&self, doing: &str, sql: &str) -> Result<BTreeMap<String, String>, SqlError> {
        Ok(self.rows(doing, sql, &[]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

struct Can {
    superuser: bool,
    replication: bool,
    temp_file_limit: bool,
    signal: bool,
    subscribe: bool,
    reserve: bool,
}

impl Can {
    fn findings(&self, version: i32) -> Vec<Finding> {
        use Severity::*;
        if self.superuser {
            return Vec::new();
        }
        let mut findings = vec![
            Finding::new(
                "no_superuser_verifiers",
                Low,
                "pg_authid is not readable: a changed password is found by logging in, not by comparing",
            ),
            Finding::new(
                "no_superuser_event_triggers",
                Low,
                "event triggers cannot be created: DDL is not captured during a move",
            ),
            Finding::new(
                "no_superuser_for_all_tables",
                Low,
                "publications FOR ALL TABLES cannot be created: tables are named one by one",
            ),
        ];
        if !self.temp_file_limit {
            findings.push(Finding::new(
                "temp_file_limit_not_settable",
                Low,
                "temp_file_limit cannot be set: GRANT SET ON PARAMETER temp_file_limit to the admin",
            ));
        }
        if !self.subscribe {
            let need = if version >= 160_000 {
                "GRANT pg_create_subscription to the admin"
            } else {
                "on 15 that takes a superuser"
            };
            findings.push(Finding::new(
                "subscriptions_not_creatable",
                Medium,
                format!("databases cannot be moved here without downtime: no CREATE SUBSCRIPTION; {need}"),
            ));
        }
        if !self.reserve {
            let need = if version >= 160_000 {
                "set reserved_connections, and GRANT pg_use_reserved_connections to the admin"
            } else {
                "on 15 that takes a superuser"
            };
            findings.push(Finding::new(
                "admin_slots_not_reserved",
                Low,
                format!(
                    "no connection is kept for the admin: tenants that connect directly may take the last one; {need}"
                ),
            ));
        }
        if !self.replication {
            findings.push(Finding::new(
                "slots_not_creatable",
                Medium,
                "databases cannot be moved away without downtime: replication slots need ALTER ROLE … REPLICATION",
            ));
        }
        if !self.signal {
            findings.push(Finding::new(
                "foreign_sessions_not_endable",
                Low,
                "only sessions of Freehold's own roles can be ended: GRANT pg_signal_backend to the admin for others",
            ));
        }
        findings
    }
}

fn about_settings(settings: &BTreeMap<String, String>) -> Vec<Finding> {
    use Severity::*;
    let get = |name: &str| settings.get(name).map_or("", String::as_str);
    let number = |name: &str| get(name).parse::<i64>().unwrap_or(0);
    let mut findings = Vec::new();
    let mut when = |wrong: bool, code, severity, message: &str| {
        if wrong {
            findings.push(Finding::new(code, severity, message));
        }
    };
    when(get("fsync") == "off", "fsync_off", High, "fsync is off: a crash of the machine destroys every database");
    when(
        get("wal_level") != "logical",
        "wal_level_not_logical",
        Medium,
        "wal_level is not logical: databases cannot be moved away without downtime (needs a restart)",
    );
    when(number("max_replication_slots") < 8, "few_replication_slots", Low, "max_replication_slots is below 8");
    when(number("max_wal_senders") < 8, "few_wal_senders", Low, "max_wal_senders is below 8");
    // pg_settings counts it in megabytes.
    when(
        number("min_wal_size") < 2048,
        "min_wal_size_small",
        Low,
        "min_wal_size is below 2GB: one CREATE DATABASE in a hundred takes ten times as long",
    );
    when(
        get("recovery_init_sync_method") == "fsync",
        "slow_crash_recovery",
        Low,
        "recovery_init_sync_method is fsync: with thousands of databases a crash start takes minutes; syncfs takes seconds",
    );
    when(
        get("password_encryption") != "scram-sha-256",
        "password_encryption_weak",
        Medium,
        "password_encryption is not scram-sha-256",
    );
    when(
        ["all", "ddl", "mod"].contains(&get("log_statement")),
        "log_statement_on",
        Low,
        "log_statement is on: statements of tenants are in the server's log",
    );
    when(
        get("data_checksums") == "off",
        "no_data_checksums",
        Low,
        "data checksums are off: silent corruption stays silent",
    );
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> ServerFacts {
        ServerFacts {
            version_num: 150_013,
            version: "15.13".into(),
            system_identifier: String::new(),
            admin: "adm".into(),
            superuser: false,
            createdb: true,
            createrole: true,
            replication: false,
            in_recovery: false,
            settings: BTreeMap::new(),
            available_extensions: BTreeMap::new(),
            findings: Vec::new(),
        }
    }

    #[test]
    fn facts_refuse_old_broken_and_powerless_servers_by_name() {
        assert_eq!(facts().refusal(), None);
        for version_num in [140_011, 150_009, 160_005, 170_001] {
            assert!(ServerFacts { version_num, ..facts() }.refusal().is_some(), "{version_num}");
        }
        assert!(ServerFacts { createdb: false, ..facts() }.refusal().unwrap().contains("lacks CREATEDB:"));
        assert!(ServerFacts { createrole: false, ..facts() }.refusal().unwrap().contains("lacks CREATEROLE:"));
        assert!(ServerFacts { in_recovery: true, ..facts() }.refusal().unwrap().contains("standby"));
        assert_eq!(ServerFacts { superuser: true, createdb: false, createrole: false, ..facts() }.refusal(), None);
    }
}
