//! Walks the chain from record to record and names what was bent. One record at a time, so that a chain of any length fits.
//!
//! Each record carries the hash of the one before it: whoever changes one must also change all that come after it, and then
//! the next checkpoint, or the end that the store keeps apart, says otherwise.

use freehold_api::audit::{AuditFinding, AuditFindingKind as Kind};
use uuid::Uuid;

use crate::bytes::Hash;
use crate::checkpoint::Checkpoint;
use crate::record::{Record, genesis, hash_of};
use crate::redaction::Redactions;

/// Findings that are told one by one; the rest is counted.
const TOLD: usize = 100;
/// Records that do not fit and are compared with each other. More than a person reads.
const COMPARED: usize = 300;
/// How far away the place of a record that was moved alone is looked for.
const NEAR: i64 = 100;

/// Where a walk begins.
#[derive(Debug, Clone, Copy)]
pub enum Start {
    /// With the first record of this store; or, where a checkpoint says that its head was removed, after that.
    First(Uuid),
    /// After a record that was walked already.
    After { place: i64, hash: Hash },
    /// With whatever comes first: a part of an export.
    Anywhere,
}

/// The last record, as the store keeps it apart from the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    pub place: i64,
    pub hash: Hash,
}

#[derive(Debug)]
pub struct Walk {
    last: Option<Seen>,
    /// What the first record may come after, by place. Empty where that is not asked.
    beginnings: Vec<End>,
    removed: i64,
    redactions: Redactions,
    first: Option<i64>,
    records: u64,
    /// By place; those before `next` are behind.
    checkpoints: Vec<Checkpoint>,
    next: usize,
    agreed: u64,
    agreed_at: Option<i64>,
    disagree: u64,
    misfits: Vec<Misfit>,
    findings: Vec<AuditFinding>,
    more: u64,
}

/// What a walk found, in the order of places.
#[derive(Debug, Clone, PartialEq)]
pub struct Walked {
    pub records: u64,
    /// The place that the chain begins after; 0 where nothing was removed.
    pub removed: i64,
    pub first: Option<i64>,
    pub last: Option<End>,
    /// Checkpoints whose hash is the one that stands at their place.
    pub agreed: u64,
    pub findings: Vec<AuditFinding>,
    /// Findings that are not among them.
    pub more: u64,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    place: i64,
    hash: Hash,
    fits: bool,
}

#[derive(Debug)]
struct Misfit {
    place: i64,
    id: Uuid,
    digest: Hash,
    previous: Hash,
    hash: Hash,
}

impl Walk {
    pub fn new(start: Start, checkpoints: Vec<Checkpoint>) -> Self {
        let (begins, mut checkpoints): (Vec<_>, Vec<_>) =
            checkpoints.into_iter().partition(|checkpoint| checkpoint.begins);
        checkpoints.sort_by_key(|checkpoint| checkpoint.place);
        let mut beginnings = Vec::new();
        if let Start::First(store) = start {
            beginnings.push(End { place: 0, hash: genesis(store) });
            beginnings.extend(begins.iter().map(|begins| End { place: begins.place, hash: begins.hash }));
            beginnings.sort_by_key(|beginning| beginning.place);
        }
        let mut walk = Self {
            last: None,
            beginnings,
            removed: 0,
            redactions: Redactions::default(),
            first: None,
            records: 0,
            next: 0,
            checkpoints,
            agreed: 0,
            agreed_at: None,
            disagree: 0,
            misfits: Vec::new(),
            findings: Vec::new(),
            more: 0,
        };
        if let Start::After { place, hash } = start {
            walk.begin(End { place, hash });
        }
        walk
    }

    /// An event that tells of a redaction, and comes later than this walk may get.
    pub fn knows(&mut self, record: &Record) {
        self.redactions.tell(record);
    }

    fn begin(&mut self, after: End) {
        self.last = Some(Seen { place: after.place, hash: after.hash, fits: true });
        self.next = self.checkpoints.partition_point(|checkpoint| checkpoint.place <= after.place);
        self.agreed_at = Some(after.place);
    }

    /// After what the first record may come: the highest of what is before it. None: that is not asked.
    fn begin_before(&mut self, place: i64) {
        let before = self.beginnings.partition_point(|beginning| beginning.place < place);
        if let Some(beginning) = self.beginnings.get(before.saturating_sub(1)).copied() {
            self.removed = beginning.place;
            self.begin(beginning);
        }
    }

    /// The next record, in the order of places.
    pub fn take(&mut self, record: &Record) {
        self.records += 1;
        if record.place < 1 {
            let message =
                format!("record {} stands at place {}, before the first: it was put in", record.id, record.place);
            return self.find(Kind::Inserted, Some(record.place), message);
        }
        if self.first.is_none() {
            self.first = Some(record.place);
            self.begin_before(record.place);
        }
        let seen = Seen { place: record.place, hash: record.hash, fits: record.fits() };
        self.redactions.see(record, seen.fits);
        if let Some(last) = self.last {
            if seen.place <= last.place {
                return self.extra(record, last, seen);
            }
            if seen.place > last.place.saturating_add(1) {
                self.missing(last.place + 1, seen.place - 1);
            } else if record.previous != last.hash && seen.fits && last.fits {
                self.broken(last.place, seen.place);
            }
        }
        if !seen.fits {
            self.misfit(record);
        }
        self.last = Some(seen);
        self.compare(seen);
    }

    /// What was found up to here; the chain goes on.
    pub fn pause(mut self) -> Walked {
        self.tell_misfits();
        self.walked()
    }

    /// That was the last record.
    pub fn finish(mut self, end: Option<End>) -> Walked {
        self.tell_misfits();
        if self.first.is_none() {
            self.begin_before(end.map_or(i64::MAX, |end| end.place.saturating_add(1)));
        }
        let last = self.last.map_or(0, |last| last.place);
        if let Some(end) = end {
            if end.place > last {
                let message = format!(
                    "the last {} records, from place {} to {}, are gone: the chain was cut off",
                    end.place - last,
                    last + 1,
                    end.place
                );
                self.find(Kind::Truncated, Some(last + 1), message);
            } else if end.place < last {
                let message = format!(
                    "records stand from place {} to {last}, beyond the end of what was sealed: they were put in",
                    end.place + 1
                );
                self.find(Kind::Inserted, Some(end.place + 1), message);
            } else if self.last.is_some_and(|seen| seen.fits && seen.hash != end.hash) {
                let message = format!("the last record, at place {last}, was changed and its hash made to fit");
                self.find(Kind::Changed, Some(last), message);
            }
        }
        if end.is_some_and(|end| end.place > last) {
            return self.walked();
        }
        let beyond = self.checkpoints.partition_point(|checkpoint| checkpoint.place <= last);
        if let Some(checkpoint) = self.checkpoints.get(beyond..).and_then(<[_]>::last) {
            let message = format!(
                "the checkpoint of {} was made at place {}, and the chain ends at {last}: its end was cut off, or this is an older copy",
                checkpoint.at, checkpoint.place
            );
            self.find(Kind::Truncated, Some(last + 1), message);
        }
        self.walked()
    }

    fn walked(mut self) -> Walked {
        if self.disagree > 1 {
            self.more += self.disagree - 1;
        }
        for (from, to) in self.redactions.untold() {
            let places = if from == to { format!("place {from}") } else { format!("places {from} to {to}") };
            let message = format!("what is about persons was taken out at {places}, and no event says by whom");
            self.find(Kind::Redacted, Some(from), message);
        }
        self.findings.sort_by_key(|finding| finding.place);
        if self.findings.len() > TOLD {
            self.more += (self.findings.len() - TOLD) as u64;
            self.findings.truncate(TOLD);
        }
        Walked {
            records: self.records,
            removed: self.removed,
            first: self.first,
            last: self.last.filter(|last| last.place > 0).map(|last| End { place: last.place, hash: last.hash }),
            agreed: self.agreed,
            findings: self.findings,
            more: self.more,
        }
    }

    fn find(&mut self, kind: Kind, place: Option<i64>, message: String) {
        // Not yet sorted: misfits are told last, and must not fall behind a thousand gaps.
        if self.findings.len() < 10 * TOLD {
            self.findings.push(AuditFinding { kind, place, message });
        } else {
            self.more += 1;
        }
    }

    fn missing(&mut self, from: i64, to: i64) {
        let message = match to - from {
            0 => format!("the record at place {from} is missing"),
            more => format!("{} records are missing, from place {from} to {to}", more + 1),
        };
        self.find(Kind::Missing, Some(from), message);
    }

    /// Each is what was sealed after something, and not after the other.
    fn broken(&mut self, before: i64, after: i64) {
        // Also where that is the place up to which the head was removed.
        let is_first = self.first == Some(after) && !self.beginnings.is_empty();
        let message = match is_first {
            true => "the chain does not begin as this store's does: it is another store's, or was made anew".to_owned(),
            false => format!(
                "the record at place {before} is not the one that {after} was sealed after: it was changed and its hash made to fit"
            ),
        };
        let (kind, place) = if is_first { (Kind::Rewritten, after) } else { (Kind::Changed, before) };
        self.find(kind, Some(place), message);
    }

    /// In a place that was walked already.
    fn extra(&mut self, record: &Record, last: Seen, seen: Seen) {
        if seen.place < last.place {
            let message = format!("record {} of place {} stands after place {}", record.id, seen.place, last.place);
            return self.find(Kind::Moved, Some(seen.place), message);
        }
        let message = format!("place {} is taken twice, also by record {}: one was put in", seen.place, record.id);
        self.find(Kind::Inserted, Some(seen.place), message);
        if seen.fits && !last.fits {
            self.last = Some(seen);
        }
    }

    fn misfit(&mut self, record: &Record) {
        if self.misfits.len() == COMPARED {
            self.more += 1;
            return;
        }
        let (place, previous, hash) = (record.place, record.previous, record.hash);
        self.misfits.push(Misfit { place, id: record.id, digest: record.digest(), previous, hash });
    }

    /// Moved, where another place explains it; else changed.
    fn tell_misfits(&mut self) {
        let misfits = std::mem::take(&mut self.misfits);
        for misfit in &misfits {
            let Misfit { place, id, .. } = misfit;
            match misfit.origin(&misfits) {
                Some(origin) => {
                    let message =
                        format!("record {id}, at place {place}, was sealed at place {origin}: it was put elsewhere");
                    self.find(Kind::Moved, Some(*place), message);
                }
                None => {
                    let message = format!("record {id}, at place {place}, is not what was sealed: it was changed");
                    self.find(Kind::Changed, Some(*place), message);
                }
            }
        }
    }

    fn compare(&mut self, seen: Seen) {
        while let Some(checkpoint) = self.checkpoints.get(self.next).cloned().filter(|next| next.place <= seen.place) {
            self.next += 1;
            // Of a place that is missing, which is told.
            // Or of one that is told as not what was sealed.
            if checkpoint.place < seen.place || !seen.fits {
                continue;
            }
            if checkpoint.hash == seen.hash {
                self.agreed += 1;
                self.agreed_at = Some(seen.place);
                continue;
            }
            self.disagree += 1;
            if self.disagree == 1 {
                let from = self.agreed_at.map_or(self.first.unwrap_or(1), |agreed| agreed + 1);
                let message = format!(
                    "the checkpoint of {} has another hash for place {}: what stands from place {from} on was written anew after it was made, \
                     or went on from an older copy of the store",
                    checkpoint.at, checkpoint.place
                );
                self.find(Kind::Rewritten, Some(from), message);
            }
        }
    }
}

impl Misfit {
    /// Where it was sealed, if another of them, or a place nearby, says so.
    fn origin(&self, all: &[Self]) -> Option<i64> {
        let others = || all.iter().filter(|other| other.place != self.place);
        // What it says, in the place, and under the hash, of another one.
        if let Some(other) = others().find(|other| hash_of(&self.digest, other.place, other.previous) == other.hash) {
            return Some(other.place);
        }
        // The whole record, with only its place changed.
        let near = (self.place - NEAR).max(1)..=self.place.saturating_add(NEAR);
        let mut places = others().map(|other| other.place).chain(near).filter(|place| *place != self.place);
        places.find(|place| hash_of(&self.digest, *place, self.previous) == self.hash)
    }
}

#[cfg(test)]
pub(crate) mod tests;
