//! What cannot be, and why: said before anything is made.

use std::path::Path;

use super::super::ProcessError;
use super::place::Place;
use super::record::{Definition, Record};
use crate::platform::{PlatformError, PlatformErrorKind, Service};

pub(super) fn possible(service: &Service, definition: &Definition) -> Result<(), PlatformError> {
    let refuse = |message: String| Err(PlatformError::new(PlatformErrorKind::Unsupported, message));
    if service.image.is_some() {
        return refuse("processes are made from programs on this machine, not from images: leave the image out".into());
    }
    if let Some(constraint) = service.constraints.first() {
        return Err(PlatformError::new(
            PlatformErrorKind::NoNode,
            format!("processes run on this machine alone, which no constraint describes: leave {constraint:?} out"),
        ));
    }
    if !definition.admin.verifier.starts_with("SCRAM-SHA-256$") {
        return refuse("the admin's verifier must be SCRAM-SHA-256: a plain password is not taken".into());
    }
    plain(definition.storage.as_deref().unwrap_or(Path::new("/")))
}

/// pg_ctl hands paths to a shell, in double quotes.
pub(super) fn plain(path: &Path) -> Result<(), PlatformError> {
    match path.to_str().is_some_and(|text| !text.contains(['"', '$', '`', '\\', '\n'])) {
        true => Ok(()),
        false => Err(PlatformError::new(
            PlatformErrorKind::Storage,
            format!("the path {} must be UTF-8 without quotes, $, ` and \\", path.display()),
        )),
    }
}

pub(super) fn newer(service: &Service, before: Option<&Record>) -> Result<(), PlatformError> {
    match before {
        Some(record) if record.generation > service.generation => Err(PlatformError::new(
            PlatformErrorKind::Outdated,
            format!(
                "{} is of generation {} already: generation {} comes too late",
                service.name, record.generation, service.generation
            ),
        )),
        _ => Ok(()),
    }
}

pub(super) fn lost(place: &Place, definition: &Definition) -> PlatformError {
    PlatformError::new(
        PlatformErrorKind::Storage,
        format!(
            "the data of {} is not in {}: mount it or restore it there; a server that had data is never begun anew",
            place.name,
            place.data(definition).display()
        ),
    )
}

pub(super) fn failed(error: ProcessError) -> PlatformError {
    let kind = match &error {
        ProcessError::PortTaken { .. } => PlatformErrorKind::PortTaken,
        ProcessError::TooLittleRoom { .. }
        | ProcessError::NotWritable { .. }
        | ProcessError::NotEnterable { .. }
        | ProcessError::SocketPathTooLong { .. }
        | ProcessError::NotACluster { .. } => PlatformErrorKind::Storage,
        ProcessError::OtherVersion { .. } | ProcessError::NoSuchUser { .. } => PlatformErrorKind::Unsupported,
        ProcessError::Locked { .. } => PlatformErrorKind::Unreachable,
        ProcessError::Initdb { .. }
        | ProcessError::DidNotStart { .. }
        | ProcessError::NotReady { .. }
        | ProcessError::OrphanStays { .. }
        | ProcessError::Io { .. } => PlatformErrorKind::Other,
    };
    let source = std::error::Error::source(&error).map(ToString::to_string);
    let message = match source {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    PlatformError::because(kind, message, error)
}
