//! Appends sealed events to a file, opened anew for each batch: one that was renamed is left to whoever did it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use freehold_chain::Record;
use freehold_durable::{Failure, Loop, LoopCx};

use super::{BYTES, Batch, Receiver, not_streamed, send};
use crate::plane::Core;

pub const LOOP: &str = "audit_stream_file";
pub const NAME: &str = "file";

pub struct ToFile {
    pub core: Core,
}

#[async_trait]
impl Loop for ToFile {
    fn name(&self) -> &'static str {
        LOOP
    }
    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        match &self.core.settings.audit.stream_file {
            Some(path) => send(&self.core, cx, path).await,
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Receiver for PathBuf {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn has(&self) -> Result<Option<Record>, Failure> {
        let path = self.clone();
        beside(self, move || last_of(&path)).await
    }

    async fn take(&self, batch: &Batch) -> Result<(), Failure> {
        let (path, lines) = (self.clone(), batch.lines.clone());
        beside(self, move || append(&path, lines.as_bytes())).await
    }
}

/// A disk may hang: beside the threads that everything else runs on.
async fn beside<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| not_streamed(&format!("the file {}: {error}", path.display())))
}

/// The newest event that is there as a whole.
fn last_of(path: &Path) -> io::Result<Option<Record>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let tail = tail(&mut file)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(&[][..], |end| &tail[..end]);
    let line = whole.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(serde_json::from_slice(line).ok())
}

fn tail(file: &mut File) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES as u64)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    Ok(tail)
}

/// Down on the disk when it returns.
fn append(path: &Path, lines: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).read(true).mode(0o640).open(path)?;
    let tail = tail(&mut file)?;
    if tail.last().is_some_and(|last| *last != b'\n') {
        // A part of a line, which a full disk or a failing machine left: the whole of it comes now.
        let part = tail.iter().rev().take_while(|byte| **byte != b'\n').count();
        let length = file.metadata()?.len();
        file.set_len(length - part as u64)?;
    }
    file.write_all(lines)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use freehold_chain::{Hash, Salt, genesis};
    use uuid::Uuid;

    use super::*;

    fn record(place: i64) -> Record {
        let mut record = Record {
            place,
            seq: place,
            id: Uuid::from_u128(7),
            at: "2026-01-10T12:00:00Z".parse().unwrap(),
            actor: "system".into(),
            actor_name: None,
            action: "test".into(),
            subject: None,
            outcome: "success".into(),
            reason: None,
            request_id: None,
            client: None,
            details: "{}".into(),
            salt: Salt::of(&[1; 16]),
            redacted: None,
            previous: Hash::of(&[]),
            hash: Hash::of(&[]),
        };
        record.seal(place, genesis(Uuid::nil()), record.salt);
        record
    }

    #[test]
    fn a_file_is_appended_to_made_anew_where_it_was_renamed_and_holds_whole_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let line = |place| serde_json::to_string(&record(place)).unwrap() + "\n";
        assert_eq!(last_of(&path).unwrap(), None);
        append(&path, (line(1) + &line(2)).as_bytes()).unwrap();
        append(&path, line(3).as_bytes()).unwrap();
        assert_eq!(last_of(&path).unwrap(), Some(record(3)));
        // Half a line is none, and is not left there.
        let whole = std::fs::read(&path).unwrap();
        for left in [whole.len() - 1, whole.len() - 20, whole.len() - line(3).len() + 1] {
            std::fs::write(&path, &whole[..left]).unwrap();
            assert_eq!(last_of(&path).unwrap(), Some(record(2)));
            append(&path, line(3).as_bytes()).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
        std::fs::write(&path, "half of the first").unwrap();
        assert_eq!(last_of(&path).unwrap(), None);
        append(&path, line(1).as_bytes()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), line(1));
        std::fs::rename(&path, directory.path().join("audit.jsonl.1")).unwrap();
        append(&path, line(2).as_bytes()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), line(2));
    }
}
