//! Whose a directory of an operator's storage is: `.freehold` in it, beside the data, names the service and carries a nonce
//! that the service's record has too. It is there before the data is; what it does not vouch for is neither adopted,
//! stopped nor removed. Absent: markers of data beside the record. Whoever has the one has the other.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::{ProcessError, initialise};
use super::place::Place;
use super::record::{Definition, Record};
use super::refuse::failed;
use crate::platform::{PlatformError, PlatformErrorKind};

const FILE: &str = ".freehold";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    service: String,
    /// Where its record is: which Freehold's it is, for people and for one that lost its record.
    home: PathBuf,
    nonce: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Or nobody's: no data is there.
    Ours,
    Anothers,
    /// There was data of ours, and now there is data without a marker.
    Unmarked,
}

/// The nonce that the service's record shall have. Refused where its storage holds something that this service did not put
/// there; changes nothing.
pub(super) fn admit(
    place: &Place,
    definition: &Definition,
    before: Option<&Record>,
    may_begin: bool,
) -> Result<String, PlatformError> {
    let known = before.and_then(|record| record.nonce.clone());
    let fresh = || known.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
    let Some(dir) = &definition.storage else { return Ok(fresh()) };
    match read(dir)? {
        Some(marker) if Some(&marker.nonce) == known.as_ref() => Ok(marker.nonce),
        // Its record is lost and its data is not. One that never had any begins elsewhere.
        Some(marker) if before.is_none() && !may_begin && is_of(&marker, place) => Ok(marker.nonce),
        Some(marker) => Err(conflict(format!(
            "{} holds the data of {} of {}: nothing was touched; choose another storage path, or another name",
            dir.display(),
            marker.service,
            marker.home.display()
        ))),
        // A version of Freehold that wrote no markers put it there, or whoever brought its data here.
        None if !may_begin => Ok(fresh()),
        None => match strange(dir)? {
            None => Ok(fresh()),
            Some(entry) => Err(conflict(format!(
                "{} holds something that Freehold did not put there, {entry}: nothing was touched; choose another \
                 storage path, or another name",
                dir.display()
            ))),
        },
    }
}

/// Its storage carries the marker afterwards, unless somebody else was quicker.
pub(super) fn put(place: &Place, record: &Record) -> Result<(), PlatformError> {
    let (Some(dir), Some(nonce)) = (&record.definition.storage, &record.nonce) else { return Ok(()) };
    let marker = Marker { service: place.name.clone(), home: place.home.clone(), nonce: nonce.clone() };
    if read(dir)?.is_none() {
        let new = dir.join(format!("{FILE}.{nonce}"));
        let file = dir.join(FILE);
        let write = || -> std::io::Result<()> {
            let _ = fs::remove_file(&new);
            let mut text = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
            text.write_all(&serde_json::to_vec(&marker)?)?;
            text.sync_all()?;
            // Unlike a rename it fails where another's came in between.
            match fs::hard_link(&new, &file) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => fs::remove_file(&new)?,
            }
            OpenOptions::new().read(true).open(dir)?.sync_all()
        };
        write().map_err(|error| failed(ProcessError::io("write", &file)(error)))?;
    }
    match read(dir)?.is_some_and(|there| there.nonce == marker.nonce) {
        true => Ok(()),
        false => Err(conflict(format!("another Freehold took {} meanwhile: choose another name", dir.display()))),
    }
}

pub(super) fn whose(place: &Place, record: &Record) -> Result<Whose, PlatformError> {
    let Some(dir) = &record.definition.storage else { return Ok(Whose::Ours) };
    let data = place.data(&record.definition);
    let is_empty = || !data.exists() && !initialise::sibling(&data, "initialising").exists();
    Ok(match read(dir)? {
        Some(marker) if Some(&marker.nonce) == record.nonce.as_ref() => Whose::Ours,
        Some(_) => Whose::Anothers,
        None if is_empty() => Whose::Ours,
        // The marker is written before any data is.
        None if !record.has_data => Whose::Anothers,
        // A version of Freehold that wrote none.
        None if record.nonce.is_none() => Whose::Ours,
        None => Whose::Unmarked,
    })
}

/// Before anything is stopped or removed: whether it is ours to stop and to remove.
pub(super) fn is_ours(place: &Place, record: &Record) -> Result<bool, PlatformError> {
    match whose(place, record)? {
        Whose::Ours => Ok(true),
        Whose::Anothers => {
            tracing::warn!(
                service = %place.name,
                storage = ?record.definition.storage,
                "its storage holds data that is not its own: left alone"
            );
            Ok(false)
        }
        Whose::Unmarked => Err(conflict(format!(
            "{FILE} is gone from {}, and without it nobody knows whose the data is: nothing was touched; put it back, or \
             start {}, which writes it again",
            record.definition.storage.as_deref().unwrap_or(&place.home).display(),
            place.name
        ))),
    }
}

pub(super) fn remove(dir: &Path, nonce: Option<&str>) -> Result<(), ProcessError> {
    let half_written = nonce.map(|nonce| dir.join(format!("{FILE}.{nonce}")));
    for file in half_written.into_iter().chain([dir.join(FILE)]) {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(ProcessError::io("remove", &file)(error)),
            _ => {}
        }
    }
    Ok(())
}

fn read(dir: &Path) -> Result<Option<Marker>, PlatformError> {
    let file = dir.join(FILE);
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => {
            let message =
                format!("{}, which tells whose the data beside it is, cannot be read: {error}", file.display());
            return Err(PlatformError::because(PlatformErrorKind::Storage, message, error));
        }
    };
    // Containers' markers are a name alone.
    let other = || Marker {
        service: String::from_utf8_lossy(&text).trim().to_owned(),
        home: PathBuf::from("another platform"),
        nonce: String::new(),
    };
    Ok(Some(serde_json::from_slice(&text).unwrap_or_else(|_| other())))
}

fn is_of(marker: &Marker, place: &Place) -> bool {
    marker.service == place.name && marker.home == place.home
}

/// What is there beside what file systems have, and markers that were begun.
fn strange(dir: &Path) -> Result<Option<String>, PlatformError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(source) => return Err(failed(ProcessError::NotWritable { dir: dir.to_owned(), source })),
    };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let is_expected = |name: &String| name == "lost+found" || name.starts_with(".freehold.");
    Ok(names.into_iter().find(|name| !is_expected(name)))
}

fn conflict(message: String) -> PlatformError {
    PlatformError::new(PlatformErrorKind::Conflict, message)
}
