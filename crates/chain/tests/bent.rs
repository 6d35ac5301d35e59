//! Any single change to a chain is found, wherever it is and whoever made the hashes fit.

use freehold_api::audit::AuditFindingKind as Kind;
use freehold_chain::{End, Hash, REDACT, Record, Redaction, Salt, Start, Walk, Walked, genesis};
use jiff::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

const STORE: Uuid = Uuid::from_u128(77);

fn content() -> impl Strategy<Value = Record> {
    let text = "[a-z:\\. ]{0,12}";
    (
        (any::<i64>(), any::<u128>(), 0i64..4_000_000_000_000_000),
        (text, proptest::option::of(text), text, proptest::option::of(text), text),
        (proptest::option::of(text), proptest::option::of(text), proptest::option::of(text), any::<[u8; 16]>()),
    )
        .prop_map(
            |((seq, id, at), (actor, actor_name, action, subject, outcome), (reason, request_id, client, salt))| {
                Record {
                    place: 0,
                    seq,
                    id: Uuid::from_u128(id),
                    at: Timestamp::from_microsecond(at).expect("a time"),
                    actor,
                    actor_name,
                    action,
                    subject,
                    outcome,
                    reason,
                    request_id,
                    client,
                    details: format!("{{\"n\": {seq}}}"),
                    salt: Salt::of(&salt),
                    redacted: None,
                    previous: Hash::of(&[]),
                    hash: Hash::of(&[]),
                }
            },
        )
}

fn chain() -> impl Strategy<Value = Vec<Record>> {
    proptest::collection::vec(content(), 3..24).prop_map(|mut records| {
        seal(&mut records, 0, genesis(STORE));
        records
    })
}

/// From this index on, each after the one before.
fn seal(records: &mut [Record], from: usize, mut previous: Hash) {
    for (index, record) in records.iter_mut().enumerate().skip(from) {
        record.seal(i64::try_from(index).unwrap() + 1, previous, record.salt);
        previous = record.hash;
    }
}

fn walk(records: &[Record], end: End) -> Walked {
    let mut walk = Walk::new(Start::First(STORE), Vec::new());
    records.iter().for_each(|record| walk.take(record));
    walk.finish(Some(end))
}

fn end_of(records: &[Record]) -> End {
    let last = records.last().expect("not empty");
    End { place: last.place, hash: last.hash }
}

#[derive(Debug, Clone)]
enum Bend {
    /// One of its fields, by its number, and whether the hash is made to fit.
    Change(usize, bool),
    Remove,
    CutOff,
    Repeat,
    /// With the one this far after it: contents, or places.
    Swap(usize, bool),
    /// A forged one, and all after it one place further, without new hashes.
    PutIn(Box<Record>),
}

fn bend() -> impl Strategy<Value = Bend> {
    prop_oneof![
        4 => (0..FIELDS, any::<bool>()).prop_map(|(field, fit)| Bend::Change(field, fit)),
        1 => Just(Bend::Remove),
        1 => Just(Bend::CutOff),
        1 => Just(Bend::Repeat),
        2 => (1usize..24, any::<bool>()).prop_map(|(far, contents)| Bend::Swap(far, contents)),
        1 => content().prop_map(|record| Bend::PutIn(Box::new(record))),
    ]
}

const FIELDS: usize = 16;

fn change(record: &mut Record, field: usize) {
    let more = |text: &mut Option<String>| match text {
        Some(some) if some.is_empty() => *text = None,
        Some(some) => some.push('x'),
        None => *text = Some(String::new()),
    };
    match field {
        0 => record.seq = record.seq.wrapping_add(1),
        1 => record.id = Uuid::from_u128(record.id.as_u128() ^ 1),
        2 => record.at = Timestamp::from_microsecond(record.at.as_microsecond() + 1).expect("a time"),
        3 => record.actor.push('x'),
        4 => more(&mut record.actor_name),
        5 => record.action.push('x'),
        6 => more(&mut record.subject),
        7 => record.outcome.push('x'),
        8 => more(&mut record.reason),
        9 => more(&mut record.request_id),
        10 => more(&mut record.client),
        11 => record.details.push(' '),
        12 => record.salt.0[15] ^= 1,
        13 => record.previous.0[0] ^= 1,
        14 => record.redact(),
        _ => record.hash.0[31] ^= 1,
    }
}

proptest! {
    #[test]
    fn chain_any_single_change_is_found_at_its_place(records in chain(), at in any::<prop::sample::Index>(), bend in bend()) {
        let end = end_of(&records);
        prop_assert_eq!(walk(&records, end).findings, []);
        let (at, mut bent) = (at.index(records.len()), records.clone());
        let place = i64::try_from(at).unwrap() + 1;
        match bend.clone() {
            Bend::Change(field, fit) => {
                change(&mut bent[at], field);
                if fit {
                    bent[at].hash = bent[at].hash_at(place, bent[at].previous);
                }
            }
            Bend::Remove => drop(bent.remove(at)),
            Bend::CutOff => bent.truncate(at),
            Bend::Repeat => bent.insert(at, bent[at].clone()),
            Bend::Swap(far, contents) => {
                let other = (at + far) % bent.len();
                let (a, b) = (bent[at].clone(), bent[other].clone());
                if contents {
                    bent[at] = Record { place: a.place, previous: a.previous, hash: a.hash, ..b.clone() };
                    bent[other] = Record { place: b.place, previous: b.previous, hash: b.hash, ..a };
                } else {
                    (bent[at].place, bent[other].place) = (b.place, a.place);
                    bent.sort_by_key(|record| record.place);
                }
            }
            Bend::PutIn(mut forged) => {
                let previous = if at == 0 { genesis(STORE) } else { bent[at - 1].hash };
                let salt = forged.salt;
                forged.seal(place, previous, salt);
                bent[at..].iter_mut().for_each(|record| record.place += 1);
                bent.insert(at, *forged);
            }
        }
        prop_assume!(bent != records);
        let walked = walk(&bent, end);
        prop_assert!(!walked.findings.is_empty(), "{:?} at {} was not found", bend, place);
        // Named at its place; where hashes were made to fit, it is one of two neighbours, and both are told.
        let first = walked.findings[0].place.unwrap_or_default();
        let near = match bend {
            Bend::Swap(..) => walked.findings.iter().any(|finding| finding.place == Some(place)),
            Bend::PutIn(_) => walked.findings.iter().any(|finding| finding.place >= Some(place)),
            _ => (place - 1..=place + 1).contains(&first),
        };
        prop_assert!(near, "{:?} at {}: {:?}", bend, place, walked.findings);
        if let Bend::Swap(..) = bend {
            prop_assert!(walked.findings.iter().any(|finding| finding.kind == Kind::Moved), "{:?}", walked.findings);
        }
    }

    /// What was taken out by those who say so is no finding; whatever else is done to it, or to the event that says so, is one.
    #[test]
    fn chain_that_was_redacted_verifies_and_any_change_to_it_is_found(
        records in chain(), chosen in proptest::collection::vec(any::<bool>(), 24), telling in content(),
        at in any::<prop::sample::Index>(), field in 0..FIELDS, fit in any::<bool>(),
    ) {
        let mut records = records;
        let chosen: Vec<usize> = (0..records.len()).filter(|at| chosen[*at]).collect();
        let told = Redaction::of("asked for".into(), chosen.iter().map(|at| records[*at].place));
        records.push(Record { action: REDACT.into(), details: serde_json::to_string(&told).expect("JSON"), ..telling });
        seal(&mut records, 0, genesis(STORE));
        chosen.iter().for_each(|at| records[*at].redact());
        let end = end_of(&records);
        prop_assert_eq!(walk(&records, end).findings, []);
        let (at, mut bent) = (at.index(records.len()), records.clone());
        change(&mut bent[at], field);
        if fit {
            bent[at].hash = bent[at].hash_at(bent[at].place, bent[at].previous);
        }
        let found = !walk(&bent, end).findings.is_empty();
        prop_assert_eq!(found, bent != records, "field {} at {}", field, at);
    }

    /// Only what is signed as a beginning lets a chain begin there.
    #[test]
    fn chain_whose_head_was_removed_verifies_from_there_and_from_nowhere_else(
        records in chain(), removed in any::<prop::sample::Index>(), said in any::<prop::sample::Index>(),
    ) {
        let (removed, said) = (removed.index(records.len()), said.index(records.len() - 1));
        let begins = freehold_chain::Checkpoint {
            store: STORE, place: records[said].place, hash: records[said].hash, at: records[0].at,
            begins: true, key: String::new(), signature: String::new(),
        };
        let mut walk = Walk::new(Start::First(STORE), vec![begins]);
        records[removed..].iter().for_each(|record| walk.take(record));
        let walked = walk.finish(Some(end_of(&records)));
        prop_assert_eq!(walked.findings.is_empty(), removed == 0 || removed == said + 1, "{:?}", walked.findings);
    }

    /// Everything from one record on is sealed anew, and the end with it: only a checkpoint can tell, and does.
    #[test]
    fn chain_written_anew_is_found_by_any_checkpoint_after_it(
        records in chain(), from in any::<prop::sample::Index>(), field in 0usize..13, anchored in any::<prop::sample::Index>(),
    ) {
        let (from, mut forged) = (from.index(records.len()), records.clone());
        let anchored = from + anchored.index(records.len() - from);
        change(&mut forged[from], field);
        let previous = if from == 0 { genesis(STORE) } else { forged[from - 1].hash };
        seal(&mut forged, from, previous);
        prop_assert_eq!(walk(&forged, end_of(&forged)).findings, []);
        let checkpoint = freehold_chain::Checkpoint {
            store: STORE, place: records[anchored].place, hash: records[anchored].hash, at: records[0].at,
            begins: false, key: String::new(), signature: String::new(),
        };
        let mut walk = Walk::new(Start::First(STORE), vec![checkpoint]);
        forged.iter().for_each(|record| walk.take(record));
        let walked = walk.finish(Some(end_of(&forged)));
        prop_assert_eq!(walked.findings.iter().map(|finding| finding.kind).collect::<Vec<_>>(), [Kind::Rewritten]);
    }
}
