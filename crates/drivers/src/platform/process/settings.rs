//! The files that make a cluster Freehold's: settings, who may come in, and which machine user is the admin.
//! Written anew before each start, so that they always say what this version means.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::cluster::{ADMIN_ROLE, ClusterOptions, Durability};
use super::error::ProcessError;
use crate::platform::container;
use crate::server::managed::autovacuum_naptime_seconds;

/// Included at the end of postgresql.conf, so that initdb's own choices stay readable above it.
pub(super) const FILE: &str = "freehold.conf";

pub(super) fn write(dir: &Path, options: &ClusterOptions, machine_users: &[String]) -> Result<(), ProcessError> {
    let put = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).map_err(ProcessError::io("write", path))
    };
    put(FILE, render(options, naptime_seconds(dir)))?;
    put("pg_hba.conf", hba())?;
    put("pg_ident.conf", ident(machine_users))
}

/// Autovacuum is told when there are many more databases than when it was last told, or many fewer.
pub(super) struct Naptime {
    told: u32,
}

impl Naptime {
    pub(super) fn new(options: &ClusterOptions) -> Self {
        Self { told: naptime_seconds(&options.data_dir) }
    }

    /// True: the file says something else now, and PostgreSQL should read it.
    pub(super) fn follow(&mut self, options: &ClusterOptions) -> Result<bool, ProcessError> {
        let wanted = naptime_seconds(&options.data_dir);
        if wanted < self.told * 2 && self.told < wanted * 2 {
            return Ok(false);
        }
        let path = options.data_dir.join(FILE);
        fs::write(&path, render(options, wanted)).map_err(ProcessError::io("write", path))?;
        self.told = wanted;
        Ok(true)
    }
}

fn naptime_seconds(data_dir: &Path) -> u32 {
    // One directory for each.
    let databases = fs::read_dir(data_dir.join("base")).map_or(0, Iterator::count);
    autovacuum_naptime_seconds(u32::try_from(databases).unwrap_or(u32::MAX))
}

fn render(options: &ClusterOptions, naptime_seconds: u32) -> String {
    let mut settings: BTreeMap<&str, String> = [
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_permissions", "0700"),
        ("password_encryption", "scram-sha-256"),
        // Moves need these from the first day: changing them is a restart.
        ("wal_level", "logical"),
        ("max_replication_slots", "64"),
        ("max_wal_senders", "64"),
        ("max_logical_replication_workers", "32"),
        ("max_worker_processes", "64"),
        // Below it one CREATE DATABASE in a hundred waits half a second for WAL segments.
        ("min_wal_size", "2GB"),
        ("max_wal_size", "4GB"),
        // 5 s instead of 75 s after a crash with 3,000 databases.
        ("recovery_init_sync_method", "syncfs"),
        ("autovacuum_max_workers", "4"),
        ("logging_collector", "on"),
        ("log_directory", "log"),
        ("log_filename", "postgresql-%a.log"),
        ("log_truncate_on_rotation", "on"),
        ("log_rotation_age", "1d"),
        ("log_rotation_size", "0"),
        ("log_line_prefix", "%m [%p] %q%u@%d "),
        // A tenant's own ALTER ROLE … PASSWORD must not end in the log, not even when it fails or is slow.
        ("log_statement", "none"),
        ("log_min_duration_statement", "-1"),
        ("log_min_error_statement", "panic"),
        ("log_parameter_max_length", "0"),
        ("log_parameter_max_length_on_error", "0"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into();
    settings.insert("autovacuum_naptime", format!("{naptime_seconds}s"));
    settings.insert("port", options.port.to_string());
    settings.insert("max_connections", options.max_connections.to_string());
    settings.insert("unix_socket_directories", options.socket_dir.display().to_string());
    settings.insert(
        "shared_buffers",
        format!("{}MB", (shared_buffers_mb() / u64::from(options.neighbours.max(1))).max(32)),
    );
    if options.durability == Durability::ThrowAway {
        for name in ["fsync", "synchronous_commit", "full_page_writes"] {
            settings.insert(name, "off".into());
        }
    }
    settings.extend(options.settings.iter().map(|(name, value)| (name.as_str(), value.clone())));
    file(settings.iter().map(|(name, value)| (*name, value.as_str())))
}

/// The text of a settings file.
pub(super) fn file<'a>(settings: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::from("# Written by Freehold before each start: changes made here are lost.\n");
    for (name, value) in settings {
        text.push_str(&container::setting(name, value));
    }
    text
}

/// The machine's Freehold is the admin; everybody else shows a password. Nothing else comes in.
fn hba() -> String {
    format!(
        "local all {ADMIN_ROLE} peer map=freehold\n\
         local replication {ADMIN_ROLE} peer map=freehold\n\
         local all all scram-sha-256\n\
         host all all 127.0.0.1/32 scram-sha-256\n\
         host all all ::1/128 scram-sha-256\n"
    )
}

pub(super) fn ident(machine_users: &[String]) -> String {
    machine_users.iter().map(|user| format!("freehold \"{user}\" {ADMIN_ROLE}\n")).collect()
}

/// A quarter of the memory, at most 1 GB: other programs live here too.
fn shared_buffers_mb() -> u64 {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total_kb =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    total_kb.map_or(128, |kb| (kb / 1024 / 4).clamp(32, 1024))
}

#[cfg(test)]
mod tests {
    use super::super::binaries::Binaries;
    use super::*;

    #[test]
    fn autovacuum_follows_the_number_of_databases() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        fs::create_dir(&base).unwrap();
        let binaries = Binaries { dir: "/nowhere".into() };
        let options = ClusterOptions::new(binaries, dir.path(), dir.path(), 1);
        let mut naptime = Naptime::new(&options);
        assert!(render(&options, naptime.told).contains("autovacuum_naptime = '30s'"));
        assert!(!naptime.follow(&options).unwrap(), "nothing has changed");
        for oid in 0..1000 {
            fs::create_dir(base.join(oid.to_string())).unwrap();
        }
        assert!(naptime.follow(&options).unwrap());
        let written = fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(written.contains("autovacuum_naptime = '500s'"), "{written}");
        assert!(!naptime.follow(&options).unwrap(), "once");
    }
}
