//! The last words of a server: what it says of itself. What it says about its sessions may be about tenants' data and is
//! left out: those lines name a user and a database before the severity.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// What it says before its log collector runs.
pub(super) const STARTUP: &str = "startup.log";
const TAIL: u64 = 64 * 1024;

/// Since it was started last.
pub(super) fn last(log_dir: &Path) -> Vec<String> {
    let startup = tail(&log_dir.join(STARTUP));
    let newest = fs::read_dir(log_dir).ok().and_then(|entries| {
        let files = entries.flatten().filter(|entry| entry.file_name() != STARTUP);
        files.max_by_key(|entry| entry.metadata().and_then(|meta| meta.modified()).ok())
    });
    let collected = newest.map(|entry| tail(&entry.path())).unwrap_or_default();
    let begun = collected.rfind("LOG:  starting PostgreSQL").unwrap_or(0);
    // A start that failed early is in the first alone; the other is then about the one before.
    let collected = if startup.contains("FATAL:") { "" } else { &collected[begun..] };
    startup.lines().chain(collected.lines()).filter(|line| is_its_own(line)).map(str::to_owned).collect()
}

/// For an error message.
pub(super) fn reason(log_dir: &Path) -> String {
    let words = last(log_dir);
    let grave: Vec<&String> = words.iter().filter(|line| line.contains("FATAL:") || line.contains("PANIC:")).collect();
    match grave.as_slice() {
        [] => words.last().cloned().unwrap_or_else(|| "it said nothing".into()),
        lines => lines[lines.len().saturating_sub(3)..].iter().map(|line| line.trim()).collect::<Vec<_>>().join("; "),
    }
}

fn is_its_own(line: &str) -> bool {
    const SEVERITIES: [&str; 4] = ["LOG:", "WARNING:", "FATAL:", "PANIC:"];
    let severity = SEVERITIES.iter().filter_map(|severity| line.find(severity)).min();
    severity.is_some_and(|at| !line[..at].contains('@'))
}

fn tail(file: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(file)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut text = Vec::new();
        file.take(TAIL).read_to_end(&mut text)?;
        Ok(text)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_the_server_s_own_and_of_its_last_start() {
        let dir = tempfile::tempdir().unwrap();
        let log = "2026 [1] LOG:  starting PostgreSQL 15\n2026 [1] PANIC:  old trouble\n\
            2026 [2] LOG:  starting PostgreSQL 15\n2026 [3] bob@shop FATAL:  secret\n2026 [3] bob@shop ERROR:  secret\n\
            STATEMENT:  secret\n2026 [2] PANIC:  could not locate a valid checkpoint record\n";
        fs::write(dir.path().join("postgresql-Sat.log"), log).unwrap();
        assert_eq!(reason(dir.path()), "2026 [2] PANIC:  could not locate a valid checkpoint record");
        assert!(!last(dir.path()).join("\n").contains("secret"));
        fs::write(dir.path().join(STARTUP), "2026 [9] FATAL:  could not access file \"x\"\n").unwrap();
        assert_eq!(reason(dir.path()), "2026 [9] FATAL:  could not access file \"x\"");
    }
}
