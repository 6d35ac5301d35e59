//! Free space where a server's data is, when that is on this machine.
//!
//! A path means something on one machine only. What proves that it is the right one is the cluster's identity: a control
//! file that begins with the system identifier which the server itself told. Absent: servers elsewhere, whose space only
//! their own machine knows.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::sql::Disk;

/// None: not on this machine, or not to be read by this user. Blocks for as long as the file system takes.
pub fn of_cluster(data_directory: &Path, system_identifier: &str) -> Option<Disk> {
    let known: u64 = system_identifier.parse().ok()?;
    let mut first = [0; 8];
    File::open(data_directory.join("global/pg_control")).ok()?.read_exact(&mut first).ok()?;
    // PostgreSQL writes it in its machine's byte order, and that is this machine's if it is the same.
    if u64::from_ne_bytes(first) != known {
        return None;
    }
    let found = nix::sys::statvfs::statvfs(data_directory).ok()?;
    let unit = found.fragment_size();
    Some(Disk {
        free_bytes: found.blocks_available().saturating_mul(unit),
        total_bytes: found.blocks().saturating_mul(unit),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_told_of_the_right_cluster_only() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(of_cluster(directory.path(), "7"), None);
        std::fs::create_dir(directory.path().join("global")).unwrap();
        std::fs::write(directory.path().join("global/pg_control"), 7u64.to_ne_bytes()).unwrap();
        assert_eq!(of_cluster(directory.path(), "8"), None);
        assert_eq!(of_cluster(directory.path(), ""), None);
        let disk = of_cluster(directory.path(), "7").unwrap();
        assert!(disk.total_bytes > 0 && disk.free_bytes <= disk.total_bytes);
    }
}
