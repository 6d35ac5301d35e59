//! Finds PostgreSQL's binaries: the named directory, what PATH leads to, the newest that the distribution has.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// One directory with `postgres`, `initdb` and their companions (`pg_dump`, `psql`, …) of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    pub dir: PathBuf,
}

#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("no PostgreSQL server binaries {place}: install them (apt-get install postgresql), or name their directory")]
pub struct NotFound {
    place: String,
}

impl Binaries {
    pub fn tool(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

pub fn find_binaries(explicit: Option<&Path>) -> Result<Binaries, NotFound> {
    if let Some(dir) = explicit {
        return at(dir).ok_or_else(|| NotFound { place: format!("in {}", dir.display()) });
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).find_map(|dir| at(&dir)).or_else(newest_installed);
    found.ok_or_else(|| NotFound { place: "in PATH or /usr/lib/postgresql".into() })
}

/// Distributions put wrappers and symlinks into PATH; the directory that counts is the one behind them.
fn at(dir: &Path) -> Option<Binaries> {
    let postgres = fs::canonicalize(dir.join("postgres")).ok().filter(|path| path.is_file())?;
    let dir = postgres.parent()?;
    dir.join("initdb").is_file().then(|| Binaries { dir: dir.to_owned() })
}

fn newest_installed() -> Option<Binaries> {
    let entries = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut versions: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable();
    versions.iter().rev().find_map(|version| at(Path::new(&format!("/usr/lib/postgresql/{version}/bin"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_are_found_behind_symlinks_and_their_absence_tells_what_to_install() {
        let found = find_binaries(None).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(found.tool("postgres"), dir.path().join("postgres")).unwrap();
        assert_eq!(find_binaries(Some(dir.path())).unwrap(), found);
        let error = find_binaries(Some(Path::new("/nowhere"))).unwrap_err();
        assert!(error.to_string().contains("/nowhere") && error.to_string().contains("apt-get install postgresql"));
    }
}
