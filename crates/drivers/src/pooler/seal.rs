//! A file that is a pooler's: it begins with its generation and a digest of the rest, so that one which somebody wrote in is
//! recognised. Written whole or not at all. Mode 0600; the owner is the one it has, or the directory's.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{PoolerError, PoolerErrorKind};

pub(super) fn sealed(comment: char, generation: u64, body: &str) -> String {
    format!(
        "{comment} Written by Freehold: what is changed here is found and undone.\n\
         {comment} generation {generation} sha256 {}\n{body}",
        digest(generation, body)
    )
}

/// The generation of a text that is as it was written.
pub(super) fn read_back(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once('\n')?;
    let (seal, body) = rest.split_once('\n')?;
    let mut words = seal.split(' ').skip(1);
    let (Some("generation"), Some(generation), Some("sha256"), Some(told)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return None;
    };
    let generation = generation.parse().ok()?;
    // The first line too: whatever is above the seal is not in the digest.
    let comment = seal.chars().next()?;
    (digest(generation, body) == told && sealed(comment, generation, body) == text).then_some(generation)
}

pub(super) fn digest(generation: u64, body: &str) -> String {
    let digest = Sha256::new().chain_update(generation.to_string()).chain_update("\n").chain_update(body).finalize();
    crate::hex(&digest)
}

/// Whole or not at all, and on disk before it has its name.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), PoolerError> {
    let new = path.with_extension("new");
    let owner = fs::metadata(path).or_else(|_| fs::metadata(path.parent().unwrap_or(Path::new("/"))));
    let write = || -> io::Result<()> {
        // One that was left behind keeps its old mode and owner.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        let (owner, mine) = (owner?, file.metadata()?);
        if (owner.uid(), owner.gid()) != (mine.uid(), mine.gid()) {
            fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&new);
        failed("write", path, error)
    })
}

pub(super) fn failed(doing: &str, path: &Path, error: io::Error) -> PoolerError {
    let path = path.display();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => PoolerError::because(
            PoolerErrorKind::DiskFull,
            format!("{doing} {path}: the disk is full; nothing was changed"),
            error,
        ),
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::NotFound
        | ErrorKind::NotADirectory => PoolerError::because(
            PoolerErrorKind::NotWritable,
            format!("{doing} {path}: not possible for this user; nothing was changed"),
            error,
        ),
        // A container into which the file is mounted, and not its directory.
        ErrorKind::ResourceBusy => PoolerError::because(
            PoolerErrorKind::NotWritable,
            format!("{doing} {path}: it is mounted by itself; mount its directory; nothing was changed"),
            error,
        ),
        _ => PoolerError::because(PoolerErrorKind::Other, format!("{doing} {path}"), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_a_name_of_its_own() {
        let full = failed("write", Path::new("/x"), ErrorKind::StorageFull.into());
        assert_eq!((full.kind, full.code(), full.is_transient()), (PoolerErrorKind::DiskFull, "disk_full", true));
    }
}
