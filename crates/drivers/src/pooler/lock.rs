//! One Freehold at a time on a pooler's files, in whatever process. It ends with the process that holds it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::seal::failed;
use super::{PoolerError, PoolerErrorKind};

/// Held while files are changed.
pub(super) struct Lock {
    _file: File,
}

/// Somebody who verifies takes seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// On a file of its own, in a directory that is Freehold's. Waits for whoever else is at it.
pub(super) async fn file(path: &Path) -> Result<Lock, PoolerError> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    hold(file.map_err(|error| failed("open", path, error))?, path.parent().unwrap_or(path)).await
}

/// On the directory itself, so that nothing is left in one that is somebody else's.
pub(super) async fn directory(path: &Path) -> Result<Lock, PoolerError> {
    hold(File::open(path).map_err(|error| failed("open", path, error))?, path).await
}

async fn hold(file: File, directory: &Path) -> Result<Lock, PoolerError> {
    let deadline = Instant::now() + PATIENCE;
    while file.try_lock().is_err() {
        if Instant::now() > deadline {
            return Err(PoolerError::new(
                PoolerErrorKind::Conflict,
                format!("another Freehold has been at work on {} for {PATIENCE:?}", directory.display()),
            ));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(Lock { _file: file })
}
