//! Walks an export here, so that nobody else need be believed.

use freehold_api::audit::{AuditFinding, AuditFindingKind, AuditVerified};
use freehold_chain::{Checkpoint, Record, Start, Walk};
use uuid::Uuid;

use crate::failure::Failure;

/// Lines that cannot be read and are told one by one.
const TOLD: usize = 20;

pub struct Lines {
    /// None until the first line says where the chain begins.
    walk: Option<Walk>,
    checkpoints: Option<Vec<Checkpoint>>,
    anchored: bool,
    store: Option<Uuid>,
    /// All events of a store: it must begin as the store's chain does.
    whole: bool,
    number: usize,
    findings: Vec<AuditFinding>,
    more: u64,
}

impl Lines {
    /// `store` is whose checkpoints and chain these are, where that is known.
    pub fn new(checkpoints: Option<Vec<Checkpoint>>, store: Option<Uuid>, whole: bool) -> Self {
        let anchored = checkpoints.is_some();
        Self { walk: None, checkpoints, anchored, store, whole, number: 0, findings: Vec::new(), more: 0 }
    }

    pub fn take(&mut self, line: &[u8]) -> Result<(), Failure> {
        self.number += 1;
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let number = self.number;
        match serde_json::from_slice::<Record>(line) {
            Ok(record) => {
                self.begin(Some(record.place)).take(&record);
            }
            Err(error) if number == 1 => {
                let detail =
                    format!("line 1 is no event: {error}; expected what freehold audit export prints as JSON lines");
                return Err(Failure::usage(detail));
            }
            Err(_) if self.findings.len() == TOLD => self.more += 1,
            Err(error) => {
                let message = format!("line {number} is no event: {error}");
                self.findings.push(AuditFinding { kind: AuditFindingKind::Changed, place: None, message });
            }
        }
        Ok(())
    }

    pub fn finish(mut self, mut findings: Vec<AuditFinding>) -> AuditVerified {
        self.begin(None);
        let walked = self.walk.take().unwrap_or_else(|| Walk::new(Start::Anywhere, Vec::new())).finish(None);
        findings.extend(self.findings);
        findings.extend(walked.findings);
        AuditVerified {
            store: self.store.unwrap_or_default(),
            records: walked.records,
            removed: walked.removed.unsigned_abs(),
            first: walked.first,
            last: walked.last.map(|last| last.place),
            hash: walked.last.map(|last| last.hash.to_string()),
            unsealed: 0,
            checkpoints: self.anchored.then_some(walked.agreed),
            findings,
            more: walked.more + self.more,
            next: None,
        }
    }

    /// At its first place. A part of an export may begin anywhere; one from the first place on, or from where a checkpoint says that
    /// the chain begins, only as its store's chain does.
    fn begin(&mut self, place: Option<i64>) -> &mut Walk {
        let (store, whole) = (self.store, self.whole);
        let checkpoints = &mut self.checkpoints;
        self.walk.get_or_insert_with(|| {
            let checkpoints = checkpoints.take().unwrap_or_default();
            let begins = |place| checkpoints.iter().any(|at| at.begins && at.place.checked_add(1) == Some(place));
            let start = match store {
                Some(store) if whole || place.is_some_and(|place| place == 1 || begins(place)) => Start::First(store),
                _ => Start::Anywhere,
            };
            Walk::new(start, checkpoints)
        })
    }
}
