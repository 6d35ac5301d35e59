//! Where a service lives: `<dir>/<service>/` holds its record, its lock, `tls`, `run` (the private socket), `log` and,
//! unless an operator wants it elsewhere, `data`.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::cluster::Account;
use super::super::initialise::private_dir;
use super::super::{ProcessError, preflight};
use super::record::{Definition, Record};
use super::refuse::failed;
use crate::platform::{PlatformError, PlatformErrorKind, Storage};

#[derive(Debug, Clone)]
pub(super) struct Place {
    pub name: String,
    pub home: PathBuf,
}

/// Held by whoever changes a service, in whatever process.
pub(super) struct Lock {
    _file: File,
}

/// A clean stop is the longest that anybody holds it.
const LOCK_PATIENCE: Duration = Duration::from_secs(300);

impl Place {
    pub(super) fn of(dir: &Path, name: &str) -> Result<Self, PlatformError> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 50 || !name.chars().all(inner) || name.starts_with('-') {
            return Err(PlatformError::new(
                PlatformErrorKind::Unsupported,
                format!(
                    "{name:?} cannot be the name of a service: expected lowercase letters, digits and dashes, at most 50"
                ),
            ));
        }
        Ok(Self { name: name.to_owned(), home: dir.join(name) })
    }

    pub(super) fn record_file(&self) -> PathBuf {
        self.home.join("service.json")
    }

    pub(super) fn socket_dir(&self) -> PathBuf {
        self.home.join("run")
    }

    pub(super) fn log_dir(&self) -> PathBuf {
        self.home.join("log")
    }

    pub(super) fn certificate(&self) -> PathBuf {
        self.home.join("tls/server.crt")
    }

    pub(super) fn key(&self) -> PathBuf {
        self.home.join("tls/server.key")
    }

    pub(super) fn data(&self, definition: &Definition) -> PathBuf {
        definition.storage.as_ref().unwrap_or(&self.home).join("data")
    }

    pub(super) fn read(&self) -> Result<Option<Record>, PlatformError> {
        Record::read(&self.record_file())
    }

    pub(super) fn write(&self, record: &Record) -> Result<(), PlatformError> {
        let text = serde_json::to_vec_pretty(record).map_err(|error| {
            PlatformError::because(PlatformErrorKind::Other, "write the record of a service", error)
        })?;
        replace(&self.record_file(), &text, None)
    }

    /// Only for a service that has a home.
    pub(super) async fn lock(&self) -> Result<Lock, PlatformError> {
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            if let Some(lock) = self.try_lock()? {
                return Ok(lock);
            }
            if !self.lock_file().exists() {
                return Err(PlatformError::new(
                    PlatformErrorKind::Conflict,
                    format!("{} was purged meanwhile: try again", self.name),
                ));
            }
            if Instant::now() > deadline {
                return Err(PlatformError::new(
                    PlatformErrorKind::Unreachable,
                    format!("another Freehold is at work on {} for minutes: try again", self.name),
                ));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Only `make_home` makes the file: whoever looks in the midst of a purge leaves nothing behind.
    pub(super) fn try_lock(&self) -> Result<Option<Lock>, PlatformError> {
        let path = self.lock_file();
        let file = match OpenOptions::new().write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.not_writable(source)),
        };
        if file.try_lock().is_err() {
            return Ok(None);
        }
        // A purge may have taken the directory away while this one waited.
        let same = match (file.metadata(), fs::metadata(&path)) {
            (Ok(held), Ok(there)) => held.ino() == there.ino(),
            _ => false,
        };
        Ok(same.then_some(Lock { _file: file }))
    }

    /// The directories, with the modes they need.
    pub(super) fn make_home(&self, account: &Account) -> Result<(), PlatformError> {
        self.claim_home()?;
        preflight::is_enterable(&self.home, account).map_err(failed)?;
        preflight::socket_path_fits(&self.socket_dir()).map_err(failed)?;
        for dir in [self.home.join("tls"), self.socket_dir(), self.log_dir()] {
            private_dir(&dir, account).map_err(failed)?;
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(self.lock_file());
        lock.map(drop).map_err(|source| self.not_writable(source))
    }

    fn lock_file(&self) -> PathBuf {
        self.home.join("lock")
    }

    fn not_writable(&self, source: std::io::Error) -> PlatformError {
        failed(ProcessError::NotWritable { dir: self.home.clone(), source })
    }

    /// Where an operator wants the data.
    pub(super) fn make_storage(&self, storage: &Storage, account: &Account) -> Result<(), PlatformError> {
        let Storage::Directory { path, mode } = storage else { return Ok(()) };
        if !path.is_dir() {
            return Err(PlatformError::new(
                PlatformErrorKind::Storage,
                format!(
                    "the storage path {} is not there or no directory: mount it, or make it; it is not made here, because \
                     an absent mount would look the same",
                    path.display()
                ),
            ));
        }
        let dir = path.join(&self.name);
        let denied = |source| failed(ProcessError::NotWritable { dir: dir.clone(), source });
        fs::create_dir_all(&dir).map_err(denied)?;
        fs::set_permissions(&dir, Permissions::from_mode(mode | 0o700)).map_err(denied)?;
        if account.switch {
            chown(&dir, Some(account.uid), Some(account.gid)).map_err(denied)?;
        }
        preflight::is_enterable(&dir, account).map_err(failed)
    }

    fn claim_home(&self) -> Result<(), PlatformError> {
        let is_strange = fs::read_dir(&self.home).is_ok_and(|mut entries| {
            entries.any(|entry| {
                entry.is_ok_and(|entry| {
                    !["lock", "service.json", "tls", "run", "log"]
                        .contains(&entry.file_name().to_string_lossy().as_ref())
                })
            })
        });
        if is_strange && !self.record_file().exists() {
            return Err(PlatformError::new(
                PlatformErrorKind::Conflict,
                format!("{} holds something that Freehold did not put there: choose another name", self.home.display()),
            ));
        }
        fs::create_dir_all(&self.home).map_err(|source| self.not_writable(source))?;
        // Passable for the user PostgreSQL runs as; each thing in it has a mode of its own.
        fs::set_permissions(&self.home, Permissions::from_mode(0o711)).map_err(|source| self.not_writable(source))
    }
}

/// Whole or not at all. With an owner it is his alone, else this user's.
pub(super) fn replace(path: &Path, bytes: &[u8], owner: Option<&Account>) -> Result<(), PlatformError> {
    let new = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        // One that was left behind keeps its old mode.
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        if let Some(owner) = owner.filter(|owner| owner.switch) {
            chown(&new, Some(owner.uid), Some(owner.gid))?;
        }
        fs::rename(&new, path)
    };
    write().map_err(|error| failed(ProcessError::io("write", path)(error)))
}
