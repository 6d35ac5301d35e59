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
        redacted: None,
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
        begins: false,
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

#[test]
fn a_chain_may_begin_where_its_head_was_removed_and_nowhere_else() {
    let records = chain(12);
    let end = Some(end_of(&records));
    let begins = |place: usize| Checkpoint { begins: true, ..checkpoint(&records[place - 1]) };
    assert_eq!(walk(&records[5..], end, vec![begins(5), checkpoint(&records[2]), checkpoint(&records[8])]), []);
    // It was said, and not done yet.
    assert_eq!(walk(&records, end, vec![begins(5)]), []);
    assert_eq!(walk(&records[5..], end, vec![begins(3), begins(5)]), []);
    // One that says how far the chain was is none that says where it begins.
    assert_eq!(walk(&records[5..], end, vec![checkpoint(&records[4])]), [(Kind::Missing, Some(1))]);
    assert_eq!(walk(&records[6..], end, vec![begins(5)]), [(Kind::Missing, Some(6))]);
    assert_eq!(walk(&records[4..], end, vec![begins(5)]), [(Kind::Missing, Some(1))]);
    let mut forged = begins(5);
    forged.hash.0[0] ^= 1;
    assert_eq!(walk(&records[5..], end, vec![forged]), [(Kind::Rewritten, Some(6))]);
    assert_eq!(walk(&[], end, vec![begins(5)]), [(Kind::Truncated, Some(6))]);
    let mut walk = Walk::new(Start::First(STORE), vec![begins(5)]);
    records[5..].iter().for_each(|record| walk.take(record));
    assert_eq!(walk.finish(end).removed, 5);
}

#[test]
fn what_was_redacted_is_told_of_by_a_later_event() {
    let mut records = chain(12);
    let end = Some(end_of(&records));
    for at in [2, 3, 6] {
        records[at].redact();
    }
    let untold = walk(&records, end, Vec::new());
    assert_eq!(untold, [(Kind::Redacted, Some(3)), (Kind::Redacted, Some(7))]);
    let told = |places: &str, place: usize| {
        let mut records = records.clone();
        records[place - 1].action = "audit.redact".into();
        records[place - 1].details = format!("{{\"reason\": \"asked for\", \"places\": {places}}}");
        for at in place - 1..12 {
            let (previous, salt) = (records[at - 1].hash, records[at].salt);
            let place = records[at].place;
            records[at].seal(place, previous, salt);
        }
        walk(&records, Some(end_of(&records)), Vec::new())
    };
    assert_eq!(told("[[3, 4], [7, 7]]", 10), []);
    assert_eq!(told("[[1, 12]]", 10), []);
    assert_eq!(told("[[3, 3], [7, 7]]", 10), [(Kind::Redacted, Some(4))]);
    assert_eq!(told("[[3, 7]]", 5), [(Kind::Redacted, Some(7))]);
    assert_eq!(told("{}", 10), untold);
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
