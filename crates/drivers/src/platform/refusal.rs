//! What every engine of containers refuses, in the same words: an older order, data that would have to move, and to purge
//! what is still there.

use super::{PlatformError, PlatformErrorKind, Service};

pub(super) fn outdated(name: &str, there: u64, asked: u64) -> PlatformError {
    PlatformError::new(
        PlatformErrorKind::Outdated,
        format!("{name} is at generation {there} already, {asked} is older: somebody else has changed it since"),
    )
}

pub(super) fn still_there(name: &str) -> PlatformError {
    PlatformError::new(
        PlatformErrorKind::Conflict,
        format!("{name} is still there: remove the server before its data is purged"),
    )
}

/// Data does not move because a setting changed. `there` is the directory that it is in, if it has no volume.
pub(super) fn check_storage(service: &Service, there: Option<&str>) -> Result<(), PlatformError> {
    let asked = service.directory();
    if there == asked.as_deref() {
        return Ok(());
    }
    Err(PlatformError::new(
        PlatformErrorKind::Storage,
        format!(
            "the data of {} is in {}, not in {}: nothing was moved; set the storage back, or move its tenants to another server",
            service.name,
            there.unwrap_or("a volume"),
            asked.as_deref().unwrap_or("a volume")
        ),
    ))
}
