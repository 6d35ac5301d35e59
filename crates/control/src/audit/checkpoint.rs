//! The loop that anchors the chain outside of the store: a signed line in a file, and posted, says which hash it has at which place.
//!
//! Before it writes, it looks at the last line that is there: where the store is older than that, or has another hash, it was
//! restored or written anew. Then nothing is written, and `freehold status` tells, until somebody has looked.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freehold_chain::{Checkpoint, End, PublicKey};
use freehold_drivers::secrets::Signer;
use freehold_drivers::webhook::Webhook;
use freehold_durable::{Failure, Loop, LoopCx};
use uuid::Uuid;

use super::store::{self, EndRow};
use super::{retention, seal};
use crate::plane::Core;

pub const LOOP: &str = "audit_checkpoint";
/// The store is not the one that was anchored.
pub(super) const DIFFERS: &str = "audit_differs";
/// More than the longest line.
const TAIL: u64 = 4096;

pub struct Anchor {
    core: Core,
    webhook: Option<Webhook>,
}

impl Anchor {
    pub fn new(core: Core) -> Self {
        let url = core.settings.audit.checkpoint_url.as_ref();
        let webhook = url.map(|url| Webhook::new(url.expose_secret()).expect("checked() saw to it"));
        Self { core, webhook }
    }
}

#[async_trait]
impl Loop for Anchor {
    fn name(&self) -> &'static str {
        LOOP
    }
    fn period(&self) -> Duration {
        Duration::from_secs(self.core.settings.audit.checkpoint_seconds)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        if !self.core.settings.audit.anchors() {
            return Ok(());
        }
        let end = store::end(&self.core.store).await?.ok_or_else(seal::end_is_gone)?;
        let beginning = retention::beginning(&self.core, &self.core.store, &end).await?;
        let last = match &self.core.settings.audit.checkpoint_file {
            Some(path) => self.last(path, &end, beginning.as_ref()).await?,
            None => None,
        };
        if let Some(beginning) = beginning {
            self.tell(beginning, cx).await?;
        }
        if end.place <= end.checkpoint_place {
            return Ok(());
        }
        cx.still_mine().await?;
        let checkpoint = match last.filter(|last| last.place == end.place) {
            // It was written, and not taken at the other place, or not recorded.
            Some(last) => last,
            None => {
                let now = of(&end, End { place: end.place, hash: end.hash() });
                self.write(sign(self.core.sealer.signer(), now)).await?
            }
        };
        self.post(&checkpoint).await?;
        store::anchored(&self.core.store, checkpoint.place, checkpoint.at).await?;
        Ok(())
    }
}

impl Anchor {
    /// Where the chain begins since its head was removed, outside of the store too.
    async fn tell(&self, beginning: Checkpoint, cx: &LoopCx) -> Result<(), Failure> {
        let row = retention::store::beginning(&self.core.store).await?;
        if row.is_none_or(|row| row.anchored || row.place != beginning.place) {
            return Ok(());
        }
        cx.still_mine().await?;
        let beginning = self.write(beginning).await?;
        self.post(&beginning).await?;
        retention::store::anchored(&self.core.store, beginning.place).await?;
        Ok(())
    }

    async fn post(&self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        let Some(webhook) = &self.webhook else { return Ok(()) };
        let body = serde_json::to_vec(checkpoint).map_err(|error| not_anchored(&error.to_string()))?;
        let posted = webhook.post("application/json", &body).await;
        posted.map_err(|error| not_anchored(&format!("audit.checkpoint_url: {error}")))
    }

    /// The newest line of the file, which agrees with the store; or is about what was removed since.
    async fn last(
        &self,
        path: &Path,
        end: &EndRow,
        beginning: Option<&Checkpoint>,
    ) -> Result<Option<Checkpoint>, Failure> {
        let (read, store) = (path.to_owned(), end.store);
        let last = in_file(path, move || last_of(&read, store)).await?;
        let Some(checkpoint) = &last else { return Ok(None) };
        if beginning.is_some_and(|beginning| checkpoint.place <= beginning.place) {
            return Ok(last);
        }
        let there = store::hash_at(&self.core.store, checkpoint.place).await?;
        if checkpoint.place <= end.place && there == Some(checkpoint.hash) {
            return Ok(last);
        }
        let why = match checkpoint.place > end.place {
            true => format!("the store ends at {}: it is an older copy, or its end was cut off", end.place),
            false => "the store has another event there, or none".to_owned(),
        };
        let message = format!(
            "the last checkpoint in {} is of place {}, and {why}; nothing is anchored until you have looked (freehold audit verify) \
             and put the file elsewhere, for good",
            path.display(),
            checkpoint.place
        );
        Err(Failure::transient(DIFFERS, message))
    }

    async fn write(&self, checkpoint: Checkpoint) -> Result<Checkpoint, Failure> {
        if let Some(path) = self.core.settings.audit.checkpoint_file.clone() {
            let (to, line) = (path.clone(), checkpoint.clone());
            in_file(&path, move || append(&to, &line)).await?;
        }
        Ok(checkpoint)
    }
}

/// A disk may hang: beside the threads that everything else runs on.
async fn in_file<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| not_anchored(&format!("the file of checkpoints {}: {error}", path.display())))
}

fn not_anchored(why: &str) -> Failure {
    let message = format!("the audit's chain is not anchored: {why}; events are sealed all the same");
    Failure::transient("audit_not_anchored", message)
}

/// Whether so much was sealed that it should not wait for its time.
pub(super) fn is_due(core: &Core, end: &EndRow, now: End) -> bool {
    let settings = &core.settings.audit;
    settings.anchors() && now.place - end.checkpoint_place >= i64::from(settings.checkpoint_records)
}

/// Of this place, now.
pub(super) fn of(end: &EndRow, End { place, hash }: End) -> Checkpoint {
    let (at, key, signature) = (end.now.to_jiff(), String::new(), String::new());
    Checkpoint { store: end.store, place, hash, at, begins: false, key, signature }
}

pub(super) fn sign(signer: &Signer, mut checkpoint: Checkpoint) -> Checkpoint {
    checkpoint.key = PublicKey(signer.public_key()).id();
    checkpoint.signature = STANDARD.encode(signer.sign(&checkpoint.message()));
    checkpoint
}

/// The newest line about the end of this store's chain, whoever signed it. None: there is no such file, or its end is about others.
fn last_of(path: &Path, store: Uuid) -> io::Result<Option<Checkpoint>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let tail = String::from_utf8_lossy(&tail);
    let mut checkpoints = tail.lines().rev().filter_map(|line| serde_json::from_str::<Checkpoint>(line).ok());
    Ok(checkpoints.find(|checkpoint| checkpoint.store == store && !checkpoint.begins))
}

/// One write, and down on the disk when it returns.
fn append(path: &Path, checkpoint: &Checkpoint) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
    let mut line = serde_json::to_vec(checkpoint)?;
    line.push(b'\n');
    // A line that a failing machine left half written stays by itself.
    if file.seek(SeekFrom::End(0))? > 0 {
        let mut last = [0u8];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != [b'\n'] {
            line.insert(0, b'\n');
        }
    }
    file.write_all(&line)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use freehold_chain::{Hash, read_checkpoints};
    use freehold_drivers::secrets::Sealer;

    use super::*;

    fn checkpoint(sealer: &Sealer, store: u128, place: i64) -> Checkpoint {
        let checkpoint = Checkpoint {
            store: Uuid::from_u128(store),
            place,
            hash: Hash::of(&[7; 32]),
            at: "2026-01-10T12:00:00Z".parse().unwrap(),
            begins: false,
            key: String::new(),
            signature: String::new(),
        };
        sign(sealer.signer(), checkpoint)
    }

    #[test]
    fn checkpoints_are_appended_and_the_last_of_a_store_is_found() {
        let (dir, sealer) = (tempfile::tempdir().unwrap(), Sealer::random());
        let path = dir.path().join("checkpoints");
        assert_eq!(last_of(&path, Uuid::from_u128(1)).unwrap(), None);
        for (store, place) in [(1, 5), (2, 3), (1, 9), (2, 4)] {
            append(&path, &checkpoint(&sealer, store, place)).unwrap();
        }
        let begins = Checkpoint { begins: true, ..checkpoint(&sealer, 1, 7) };
        append(&path, &sign(sealer.signer(), begins)).unwrap();
        for (store, place) in [(1, Some(9)), (2, Some(4)), (3, None)] {
            let last = last_of(&path, Uuid::from_u128(store)).unwrap();
            assert_eq!(last.map(|last| last.place), place);
        }
        // Half a line, as after a power failure: the next one is whole.
        let half = std::fs::read(&path).unwrap();
        std::fs::write(&path, &half[..half.len() - 20]).unwrap();
        append(&path, &checkpoint(&sealer, 2, 6)).unwrap();
        let key = PublicKey(sealer.signer().public_key());
        let (read, findings) = read_checkpoints(&std::fs::read_to_string(&path).unwrap(), &key, None);
        assert_eq!((read.len(), findings.len()), (5, 1), "{findings:?}");
    }
}
