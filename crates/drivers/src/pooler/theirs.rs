//! A file that is somebody else's, and that Freehold has a block in: read whole, replaced whole or not at all. Whoever may
//! read it, and whose it is, stays as it is.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use super::lock::{self, Lock};
use super::seal::failed;
use super::{PoolerError, PoolerErrorKind};

#[derive(Debug, Clone)]
pub(super) struct TheirFile {
    path: PathBuf,
}

/// Who may read what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    AsBefore,
    /// Mode 0600: there are passwords in it.
    Owner,
}

impl TheirFile {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For people.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub async fn lock(&self) -> Result<Lock, PoolerError> {
        lock::directory(self.path.parent().unwrap_or(Path::new("/"))).await
    }

    pub fn read(&self) -> Result<String, PoolerError> {
        fs::read_to_string(&self.path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                let path = self.path.display();
                let why = "its own settings are yours, so write them first; Freehold adds to them";
                PoolerError::because(PoolerErrorKind::NotWritable, format!("there is no file {path}: {why}"), error)
            }
            ErrorKind::InvalidData => {
                let message = format!("{} is no text in UTF-8; it is left as it is", self.path.display());
                PoolerError::because(PoolerErrorKind::Refused, message, error)
            }
            _ => failed("read", &self.path, error),
        })
    }

    /// What is there now is what was read: somebody who saves his work in this very moment is not overwritten.
    pub fn replace(&self, before: &str, after: &str, readers: Readers) -> Result<(), PoolerError> {
        // A link stays one.
        let path = fs::canonicalize(&self.path).map_err(|error| failed("find", &self.path, error))?;
        let new = path.with_file_name(format!(".{}.freehold-new", self.name()));
        let write = || -> io::Result<bool> {
            match fs::remove_file(&new) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let theirs = fs::metadata(&path)?;
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
            file.write_all(after.as_bytes())?;
            let mine = file.metadata()?;
            if (theirs.uid(), theirs.gid()) != (mine.uid(), mine.gid()) {
                fchown(&file, Some(theirs.uid()), Some(theirs.gid()))?;
            }
            if readers == Readers::AsBefore {
                file.set_permissions(Permissions::from_mode(theirs.mode() & 0o7777))?;
            }
            file.sync_all()?;
            if fs::read_to_string(&path)? != before {
                return Ok(false);
            }
            fs::rename(&new, &path).map(|()| true)
        };
        let written = write();
        if !matches!(written, Ok(true)) {
            let _ = fs::remove_file(&new);
        }
        match written {
            Ok(true) => Ok(()),
            Ok(false) => {
                let message = format!("somebody saved {} at the same time; it is read again", path.display());
                Err(PoolerError::new(PoolerErrorKind::Conflict, message))
            }
            Err(error) => Err(failed("write", &path, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn whoever_may_read_it_may_read_it_still_and_a_link_stays_one() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.ini"), dir.path().join("link.ini"));
        fs::write(&real, "one").unwrap();
        fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
        symlink(&real, &link).unwrap();
        let file = TheirFile::new(&link);
        file.replace("one", "two", Readers::AsBefore).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
        file.replace("two", "three", Readers::Owner).unwrap();
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o600);
        let error = file.replace("two", "four", Readers::AsBefore).unwrap_err();
        assert_eq!((error.kind, file.read().unwrap().as_str()), (PoolerErrorKind::Conflict, "three"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let absent = TheirFile::new(dir.path().join("absent.ini"));
        let error = absent.read().unwrap_err();
        assert!(error.kind == PoolerErrorKind::NotWritable && error.message.contains("absent.ini"), "{error}");
        fs::write(dir.path().join("latin"), b"\xe9").unwrap();
        assert_eq!(TheirFile::new(dir.path().join("latin")).read().unwrap_err().kind, PoolerErrorKind::Refused);
        let error = TheirFile::new("/proc/version").replace("", "x", Readers::AsBefore).unwrap_err();
        assert!(error.kind == PoolerErrorKind::NotWritable && error.message.contains("/proc/version"), "{error}");
    }
}
