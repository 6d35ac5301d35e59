//! Walks the chain from record to record and names what was bent. One record at a time, so that a chain of any length fits.
//!
//! Each record carries the hash of the one before it: whoever changes one must also change all that come after it, and then
//! the next checkpoint, or the end that the store keeps apart, says otherwise.

use freehold_api::audit::{AuditFinding, AuditFindingKind as Kind};
use uuid::Uuid;

use crate::bytes::Hash;
use crate::checkpoint::Checkpoint;
use crate::record::{Record, genesis, hash_of};

/// Findings that are told one by one; the rest is counted.
const TOLD: usize = 100;
/// Records that do not fit and are compared with each other. More than a person reads.
const COMPARED: usize = 300;
/// How far away the place of a record that was moved alone is looked for.
const NEAR: i64 = 100;

/// Where a walk begins.
#[derive(Debug, Clone, Copy)]
pub enum Start {
    /// With the first record of this store.
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
    pub fn new(start: Start, mut checkpoints: Vec<Checkpoint>) -> Self {
        checkpoints.sort_by_key(|checkpoint| checkpoint.place);
        let last = match start {
            Start::First(store) => Some(Seen { place: 0, hash: genesis(store), fits: true }),
            Start::After { place, hash } => Some(Seen { place, hash, fits: true }),
            Start::Anywhere => None,
        };
        Self {
            last,
            first: None,
            records: 0,
            next: last.map_or(0, |last| checkpoints.partition_point(|checkpoint| checkpoint.place <= last.place)),
            checkpoints,
            agreed: 0,
            agreed_at: last.map(|last| last.place),
            disagree: 0,
            misfits: Vec::new(),
            findings: Vec::new(),
            more: 0,
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
        self.first.get_or_insert(record.place);
        let seen = Seen { place: record.place, hash: record.hash, fits: record.fits() };
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
        self.findings.sort_by_key(|finding| finding.place);
        if self.findings.len() > TOLD {
            self.more += (self.findings.len() - TOLD) as u64;
            self.findings.truncate(TOLD);
        }
        Walked {
            records: self.records,
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
        let message = match before {
            0 => "the chain does not begin as this store's does: it is another store's, or was made anew".to_owned(),
            _ => format!(
                "the record at place {before} is not the one that {after} was sealed after: it was changed and its hash made to fit"
            ),
        };
        let (kind, place) = if before == 0 { (Kind::Rewritten, after) } else { (Kind::Changed, before) };
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
pub(crate) mod tests {
    use super::*;
    use crate::bytes::{Digits, Salt};

    pub(crate) fn record(seq: i64, action: &str) -> Record {
        Record {
            place: 0,
            seq,
            id: Uuid::from_u128(u128::try_from(seq).unwrap()),
            at: "2026-01-10T12:00:00.123456Z".parse().unwrap(),
            actor: "key:1".into(),
            actor_name: Some("ops".into()),
            action: action.into(),
            subject: Some(format!("tenant:t{seq}")),
            outcome: "success".into(),
            reason: None,
            request_id: Some("r".into()),
            client: Some("127.0.0.1".into()),
            details: format!("{{\"n\": {seq}}}"),
            salt: Digits([0; 16]),
            previous: Digits([0; 32]),
            hash: Digits([0; 32]),
        }
    }

    const STORE: Uuid = Uuid::from_u128(77);

    fn chain(length: i64) -> Vec<Record> {
        let mut previous = genesis(STORE);
        let mut sealed = |place| {
            let mut record = record(place + 1000, "tenant.create");
            let salt: Salt = Digits([place as u8; 16]);
            record.seal(place, previous, salt);
            previous = record.hash;
            record
        };
        (1..=length).map(&mut sealed).collect()
    }

    fn end_of(records: &[Record]) -> End {
        let last = records.last().unwrap();
        End { place: last.place, hash: last.hash }
    }

    fn checkpoint(record: &Record) -> Checkpoint {
        Checkpoint {
            store: STORE,
            place: record.place,
            hash: record.hash,
            at: record.at,
            key: String::new(),
            signature: String::new(),
        }
    }

    fn walk(records: &[Record], end: Option<End>, checkpoints: Vec<Checkpoint>) -> Vec<(Kind, Option<i64>)> {
        let mut walk = Walk::new(Start::First(STORE), checkpoints);
        records.iter().for_each(|record| walk.take(record));
        walk.finish(end).findings.into_iter().map(|finding| (finding.kind, finding.place)).collect()
    }

    #[test]
    fn a_chain_as_it_was_sealed_has_no_findings() {
        let records = chain(20);
        assert_eq!(walk(&records, Some(end_of(&records)), vec![checkpoint(&records[9]), checkpoint(&records[19])]), []);
        assert_eq!(walk(&[], None, Vec::new()), []);
        let mut walk = Walk::new(Start::After { place: 5, hash: records[4].hash }, vec![checkpoint(&records[2])]);
        records[5..].iter().for_each(|record| walk.take(record));
        let walked = walk.finish(Some(end_of(&records)));
        assert_eq!((walked.records, walked.first, walked.findings.len()), (15, Some(6), 0));
    }

    #[test]
    fn each_way_to_bend_a_chain_is_named_with_its_place() {
        let records = chain(12);
        let end = Some(end_of(&records));
        let bent = |bend: &dyn Fn(&mut Vec<Record>)| {
            let mut bent = records.clone();
            bend(&mut bent);
            walk(&bent, end, Vec::new())
        };
        assert_eq!(bent(&|r| r[4].subject = None), [(Kind::Changed, Some(5))]);
        assert_eq!(bent(&|r| r[4].details = "{}".into()), [(Kind::Changed, Some(5))]);
        assert_eq!(bent(&|r| r[4].salt.0[3] ^= 1), [(Kind::Changed, Some(5))]);
        assert_eq!(bent(&|r| drop(r.remove(4))), [(Kind::Missing, Some(5))]);
        assert_eq!(bent(&|r| drop(r.drain(9..))), [(Kind::Truncated, Some(10))]);
        assert_eq!(bent(&|r| drop(r.drain(..2))), [(Kind::Missing, Some(1))]);
        let made_to_fit = bent(&|r| {
            r[4].reason = Some("forged".into());
            r[4].hash = r[4].hash_at(5, r[4].previous);
        });
        assert_eq!(made_to_fit, [(Kind::Changed, Some(5))]);
        let last_made_to_fit = bent(&|r| {
            r[11].reason = Some("forged".into());
            r[11].hash = r[11].hash_at(12, r[11].previous);
        });
        assert_eq!(last_made_to_fit, [(Kind::Changed, Some(12))]);
        let swapped_places = bent(&|r| {
            (r[2].place, r[7].place) = (8, 3);
            r.swap(2, 7);
        });
        assert_eq!(swapped_places, [(Kind::Moved, Some(3)), (Kind::Moved, Some(8))]);
        let swapped_contents = bent(&|r| {
            let (a, b) = (r[2].clone(), r[7].clone());
            for (at, with) in [(2, b), (7, a)] {
                let (place, previous, hash) = (r[at].place, r[at].previous, r[at].hash);
                r[at] = Record { place, previous, hash, ..with };
            }
        });
        assert_eq!(swapped_contents, [(Kind::Moved, Some(3)), (Kind::Moved, Some(8))]);
        let renumbered = bent(&|r| {
            r.remove(4);
            r[4..].iter_mut().for_each(|record| record.place -= 1);
        });
        assert!(renumbered.contains(&(Kind::Moved, Some(5))), "{renumbered:?}");
        let before_the_first = bent(&|r| r.insert(0, Record { place: 0, ..r[3].clone() }));
        assert_eq!(before_the_first, [(Kind::Inserted, Some(0))]);
        let twice = bent(&|r| r.insert(5, r[4].clone()));
        assert_eq!(twice, [(Kind::Inserted, Some(5))]);
        let beyond = bent(&|r| {
            let mut forged = record(5000, "forged");
            forged.seal(13, r[11].hash, Digits([1; 16]));
            r.push(forged);
        });
        assert_eq!(beyond, [(Kind::Inserted, Some(13))]);
    }

    /// Whoever writes everything anew, the end that the store keeps included, is told by a checkpoint, and by nothing else.
    #[test]
    fn what_was_written_anew_disagrees_with_the_next_checkpoint() {
        let records = chain(12);
        let mut forged = records.clone();
        forged[4].reason = Some("forged".into());
        for at in 4..12 {
            let (place, salt) = (forged[at].place, forged[at].salt);
            let previous = forged[at - 1].hash;
            forged[at].seal(place, previous, salt);
        }
        let end = Some(end_of(&forged));
        assert_eq!(walk(&forged, end, Vec::new()), []);
        let all = || vec![checkpoint(&records[2]), checkpoint(&records[7]), checkpoint(&records[9])];
        assert_eq!(walk(&forged, end, all()), [(Kind::Rewritten, Some(4))]);
        // An older copy: its end is its own, and the checkpoint is beyond it.
        let older = &records[..6];
        assert_eq!(walk(older, Some(end_of(older)), all()), [(Kind::Truncated, Some(7))]);
        // Another store's chain.
        let mut walk = Walk::new(Start::First(Uuid::nil()), Vec::new());
        records.iter().for_each(|record| walk.take(record));
        assert_eq!(walk.finish(end).findings[0].kind, Kind::Rewritten);
    }
}
