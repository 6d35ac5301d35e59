//! Finds a `pg_dump` that is at least as new as the source: an older one refuses.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::platform::process::find_binaries;
use crate::server::sql::error::{SqlError, SqlErrorKind};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpBinary {
    pub path: PathBuf,
    pub major: i32,
}

/// In `dirs` first, then where the servers' own programs are, then in PATH. Of those that fit, the oldest: it says least that the
/// target does not know.
pub fn find_pg_dump(dirs: &[PathBuf], source_version_num: i32) -> Result<DumpBinary, SqlError> {
    let needed = source_version_num / 10_000;
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut places: Vec<PathBuf> = dirs.to_vec();
    places.extend(find_binaries(None).ok().map(|found| found.dir));
    places.extend(installed.map(|entry| entry.path().join("bin")));
    places.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let found = places.iter().filter_map(|dir| ask(&dir.join("pg_dump")));
    found.filter(|found| found.major >= needed).min_by_key(|found| found.major).ok_or_else(|| {
        let message = format!(
            "there is no pg_dump of PostgreSQL {needed} or later: install it (apt-get install postgresql-client-{needed}), or add its directory to PATH"
        );
        SqlError::new("look for pg_dump", SqlErrorKind::Missing, message)
    })
}

/// `pg_dump (PostgreSQL) 15.13 (Debian …)`.
fn ask(path: &Path) -> Option<DumpBinary> {
    let output = Command::new(path).arg("--version").output().ok().filter(|output| output.status.success())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = said.strip_prefix("pg_dump (PostgreSQL) ")?;
    let major: String = number.chars().take_while(char::is_ascii_digit).collect();
    Some(DumpBinary { path: path.to_owned(), major: major.parse().ok()? })
}
