//! The settings of a managed server, from its limits and its capacity.
//!
//! **No statement's text is ever logged**, because it may be a tenant's `ALTER ROLE … PASSWORD '…'`, or a customer's data:
//! - `log_statement` and `log_min_duration_statement` are off. PostgreSQL cannot log that a statement was slow without its
//!   text: `log_duration` has no threshold, `auto_explain` prints the text with the plan. What is too slow is told by other
//!   lines, all with user and database: waits for locks, and temporary files of 64 MB and more. What is slow *now* is in
//!   `pg_stat_activity`, which only the admin may read, and statement_timeout ends it.
//! - Errors are the client's (`log_min_messages = log`): `syntax error at or near "…"` and `invalid input syntax …: "…"`
//!   quote what was typed, the detail of a deadlock has the whole statements of both. Refused logins, crashes, checkpoints
//!   and what background processes say at LOG and above remain.
//! - Messages are terse: the context of a wait for a lock inside a function is the statement that the function executes.

use std::collections::BTreeMap;

use super::tuning::{RESERVED, Size};

/// What a server is to be like.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub major: u16,
    /// Its limit. None: 1 GiB is assumed.
    pub memory_bytes: Option<u64>,
    /// Its limit. None: 2 are assumed.
    pub cpus: Option<f64>,
    /// What the storage holds at most. None: 40 GB are assumed.
    pub disk_bytes: Option<u64>,
    /// Its capacity: tenants' databases, and stock.
    pub databases: u32,
    pub transport: Transport,
    pub log: Log,
    /// The operator's own, above all others.
    pub extra: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TLS 1.2 and later, and nothing else.
    Tls,
    /// For builds without TLS: plain, and from this machine alone.
    Loopback,
}

/// Where the log goes: a platform that collects what programs print wants [`Log::Output`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// One file for each day of the week, begun anew each week. PostgreSQL itself bounds no file's size.
    Files,
    Output,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    pub settings: BTreeMap<String, String>,
    /// What was wanted and cannot be, for the person who declares pools.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSetting {
    #[error("{0:?} is not the name of a setting: expected letters, digits, _ and .")]
    Name(String),
    #[error("the value of {0} has a line break or a NUL in it")]
    Value(String),
    #[error("{0} is Freehold's to set: take it out")]
    Reserved(String),
}

/// What the platform decides (where the server listens and keeps its files), and what keeps strangers out.
const NOT_EXTRA: [&str; 22] = [
    "config_file",
    "data_directory",
    "external_pid_file",
    "hba_file",
    "ident_file",
    "include",
    "include_dir",
    "include_if_exists",
    "listen_addresses",
    "log_directory",
    "logging_collector",
    "password_encryption",
    "port",
    "ssl",
    "ssl_cert_file",
    "ssl_key_file",
    "ssl_min_protocol_version",
    "ssl_passphrase_command",
    "unix_socket_directories",
    "unix_socket_group",
    "unix_socket_permissions",
    "wal_level",
];

pub fn render(wanted: &Wanted) -> Result<Rendered, BadSetting> {
    let size = Size::new(wanted.memory_bytes, wanted.cpus, wanted.disk_bytes, wanted.databases);
    let mut settings: BTreeMap<String, String> =
        ALWAYS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut set = |name: &str, value: String| drop(settings.insert(name.to_owned(), value));

    set("max_connections", size.max_connections().to_string());
    set("superuser_reserved_connections", RESERVED.to_string());
    set("shared_buffers", format!("{}MB", size.shared_buffers_mb()));
    set("effective_cache_size", format!("{}MB", size.effective_cache_size_mb()));
    set("work_mem", format!("{}kB", size.work_mem_kb()));
    set("maintenance_work_mem", format!("{}MB", size.maintenance_work_mem_mb()));
    set("autovacuum_work_mem", format!("{}MB", size.autovacuum_work_mem_mb()));
    set("min_wal_size", format!("{}MB", size.min_wal_size_mb()));
    set("max_wal_size", format!("{}MB", size.max_wal_size_mb()));
    set("max_slot_wal_keep_size", format!("{}MB", size.max_slot_wal_keep_size_mb()));
    set("max_parallel_workers", size.whole_cpus().to_string());
    set("max_parallel_workers_per_gather", (size.whole_cpus() / 2).min(2).to_string());
    let workers = size.autovacuum_workers();
    set("autovacuum_naptime", format!("{}s", size.autovacuum_naptime_seconds()));
    set("autovacuum_max_workers", workers.to_string());
    // They share it: more workers with the same allowance would only be slower ones.
    set("autovacuum_vacuum_cost_limit", (200 * workers).to_string());
    if wanted.transport == Transport::Tls {
        set("ssl", "on".into());
        set("ssl_min_protocol_version", "TLSv1.2".into());
    }
    match wanted.log {
        Log::Files => {
            for (name, value) in LOG_FILES {
                set(name, value.into());
            }
        }
        Log::Output => set("logging_collector", "off".into()),
    }
    for (name, value) in &wanted.extra {
        check(name, value)?;
        set(name, value.clone());
    }
    Ok(Rendered { settings, notes: notes(wanted, &size) })
}

const ALWAYS: [(&str, &str); 17] = [
    ("password_encryption", "scram-sha-256"),
    // Moves need these from the first day: changing them is a restart.
    ("wal_level", "logical"),
    ("max_replication_slots", "64"),
    ("max_wal_senders", "64"),
    ("max_logical_replication_workers", "32"),
    ("max_worker_processes", "64"),
    // 5 s instead of 75 s after a crash with 3,000 databases.
    ("recovery_init_sync_method", "syncfs"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
    ("log_lock_waits", "on"),
    ("log_temp_files", "64MB"),
    ("log_statement", "none"),
    ("log_min_duration_statement", "-1"),
    ("log_min_messages", "log"),
    ("log_min_error_statement", "panic"),
    ("log_error_verbosity", "terse"),
    ("log_parameter_max_length", "0"),
    ("log_parameter_max_length_on_error", "0"),
];

const LOG_FILES: [(&str, &str); 6] = [
    ("logging_collector", "on"),
    ("log_filename", "postgresql-%a.log"),
    ("log_truncate_on_rotation", "on"),
    ("log_rotation_age", "1d"),
    ("log_rotation_size", "0"),
    ("log_file_mode", "0600"),
];

fn check(name: &str, value: &str) -> Result<(), BadSetting> {
    let lower = name.to_ascii_lowercase();
    if NOT_EXTRA.contains(&lower.as_str()) {
        return Err(BadSetting::Reserved(name.to_owned()));
    }
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if !begins || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.".contains(c)) {
        return Err(BadSetting::Name(name.to_owned()));
    }
    match value.contains(['\n', '\r', '\0']) {
        true => Err(BadSetting::Value(name.to_owned())),
        false => Ok(()),
    }
}

fn notes(wanted: &Wanted, size: &Size) -> Vec<String> {
    let (ideal, given) = (size.connections_wanted(), size.max_connections());
    if given >= ideal || wanted.extra.contains_key("max_connections") {
        return Vec::new();
    }
    let memory =
        wanted.memory_bytes.map_or("1 GiB, which is assumed,".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
    vec![format!(
        "{} databases would want {ideal} connections; {memory} of memory bear {given}: use a pooler, more memory, or a smaller capacity",
        wanted.databases
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(extra: &[(&str, &str)]) -> Wanted {
        Wanted {
            major: 15,
            memory_bytes: Some(4 << 30),
            cpus: Some(2.0),
            disk_bytes: None,
            databases: 50,
            transport: Transport::Tls,
            log: Log::Files,
            extra: extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn settings_take_the_operator_s_own_and_refuse_what_is_not_his() {
        let rendered = render(&wanted(&[("work_mem", "8MB"), ("app.x", "it's")])).unwrap();
        assert_eq!((&*rendered.settings["work_mem"], &*rendered.settings["app.x"]), ("8MB", "it's"));
        assert!(rendered.notes[0].contains("1010") && rendered.notes[0].contains("409"), "{:?}", rendered.notes);
        for (name, value) in
            [("ssl", "off"), ("Port", "1"), ("hba_file", "/x"), ("a b", "1"), ("", ""), ("work_mem", "1\nssl=off")]
        {
            assert!(render(&wanted(&[(name, value)])).is_err(), "{name}");
        }
        assert_eq!(render(&wanted(&[("max_connections", "2000")])).unwrap().notes, Vec::<String>::new());
    }

    #[test]
    fn settings_without_tls_say_nothing_of_it_and_output_has_no_files() {
        let plain = Wanted { transport: Transport::Loopback, log: Log::Output, ..wanted(&[]) };
        let settings = render(&plain).unwrap().settings;
        assert!(!settings.keys().any(|name| name.starts_with("ssl") || name.starts_with("log_rotation")));
        assert_eq!(settings["logging_collector"], "off");
    }
}
