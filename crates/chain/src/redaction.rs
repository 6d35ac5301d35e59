//! What was taken out of records, and the events that say so. A record without its private part, of which no later event tells,
//! was bent like any other.

use serde::{Deserialize, Serialize};

use crate::record::Record;

/// The action of an event that tells of a redaction.
pub const REDACT: &str = "audit.redact";

/// Its details.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redaction {
    pub reason: String,
    /// First and last place, in their order.
    pub places: Vec<(i64, i64)>,
}

impl Redaction {
    /// Of these places, in their order.
    pub fn of(reason: String, places: impl IntoIterator<Item = i64>) -> Self {
        let mut ranges = Vec::new();
        places.into_iter().for_each(|place| add(&mut ranges, place));
        Self { reason, places: ranges }
    }
}

/// To the last range, where it comes right after it.
fn add(ranges: &mut Vec<(i64, i64)>, place: i64) {
    match ranges.last_mut() {
        Some((_, to)) if to.checked_add(1) == Some(place) => *to = place,
        _ => ranges.push((place, place)),
    }
}

#[derive(Debug, Default)]
pub(crate) struct Redactions {
    seen: Vec<(i64, i64)>,
    told: Vec<(i64, i64)>,
}

impl Redactions {
    /// The next record of a walk.
    pub fn see(&mut self, record: &Record, fits: bool) {
        if record.redacted.is_some() {
            add(&mut self.seen, record.place);
        }
        if fits {
            self.tell(record);
        }
    }

    pub fn tell(&mut self, record: &Record) {
        if record.action != REDACT || !record.fits() {
            return;
        }
        if let Ok(Redaction { places, .. }) = serde_json::from_str(&record.details) {
            // Nobody tells of what comes later.
            let before = record.place.saturating_sub(1);
            self.told
                .extend(places.into_iter().map(|(from, to)| (from, to.min(before))).filter(|(from, to)| from <= to));
        }
    }

    /// What was taken out and is told of by nobody.
    pub fn untold(&self) -> Vec<(i64, i64)> {
        let mut told = self.told.clone();
        told.sort_unstable();
        let mut untold = Vec::new();
        for &(mut from, to) in &self.seen {
            for &(told_from, told_to) in &told {
                if told_from > to {
                    break;
                }
                if told_to < from {
                    continue;
                }
                if told_from > from {
                    untold.push((from, told_from - 1));
                }
                from = told_to.saturating_add(1);
            }
            if from <= to {
                untold.push((from, to));
            }
        }
        untold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_as_ranges_and_what_is_left_is_found() {
        let places = Redaction::of(String::new(), [1, 2, 3, 5, 9, 10]).places;
        assert_eq!(places, [(1, 3), (5, 5), (9, 10)]);
        for (told, untold) in [
            (vec![], places.clone()),
            (vec![(1, 10)], vec![]),
            (vec![(9, 9), (1, 5)], vec![(10, 10)]),
            (vec![(2, 2), (2, 2), (1, 2), (10, 99)], vec![(3, 3), (5, 5), (9, 9)]),
            (vec![(2, 2)], vec![(1, 1), (3, 3), (5, 5), (9, 10)]),
            (vec![(i64::MIN, i64::MAX)], vec![]),
        ] {
            let redactions = Redactions { seen: places.clone(), told: told.clone() };
            assert_eq!(redactions.untold(), untold, "{told:?}");
        }
    }
}
