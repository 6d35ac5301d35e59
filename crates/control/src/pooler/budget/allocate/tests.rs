use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn one(most: u32, granted: u32, need: Need) -> Database {
    Database { most, granted, in_force: granted, open: 0, need }
}

fn of(connections: u32) -> Budget {
    Budget { connections, oversubscription: 10 }
}

/// As if poolers did at once what they are told, and whoever may open connections does.
fn settled(databases: &mut [Database], given: &[u32]) {
    for (one, given) in databases.iter_mut().zip(given) {
        let open = if one.need == Need::More { *given } else { one.open.min(*given) };
        *one = Database { granted: *given, in_force: *given, open, ..*one };
    }
}

#[test]
fn budget_that_is_enough_gives_everybody_all_at_once() {
    let databases = [one(5, 1, Need::Rest), one(5, 2, Need::More), one(10, 1, Need::Work)];
    assert_eq!(allocate(of(20), Some(1), &databases), [5, 5, 10]);
    assert_eq!(allocate(of(19), Some(1), &databases), [1, 4, 1]);
}

#[test]
fn budget_goes_to_who_waits_and_comes_back_from_who_rests() {
    let mut databases = vec![one(8, 1, Need::Rest); 60];
    databases[7].need = Need::More;
    let hot = |databases: &mut [Database]| {
        let given = allocate(of(20), Some(1), databases);
        settled(databases, &given);
        given[7]
    };
    assert_eq!([hot(&mut databases), hot(&mut databases), hot(&mut databases)], [2, 4, 8]);
    assert_eq!(hot(&mut databases), 8, "never more than its plan says");
    databases[7].need = Need::Work;
    databases[7].open = 3;
    assert_eq!(hot(&mut databases), 8, "nobody needs it");
    // Others want to have it: of 14 they get two each, as soon as it has given back what it does not use.
    for other in &mut databases[20..25] {
        other.need = Need::More;
    }
    let given = allocate(of(20), Some(1), &databases);
    assert_eq!((given[7], &given[20..25]), (4, &[2, 1, 1, 1, 1][..]));
    settled(&mut databases, &given);
    databases[20].need = Need::Work;
    let given = allocate(of(20), Some(1), &databases);
    assert_eq!((given[7], &given[20..25]), (4, &[2, 2, 2, 2, 2][..]));
    databases[7].need = Need::Rest;
    databases[7].open = 0;
    assert_eq!(hot(&mut databases), 1);
}

#[test]
fn budget_that_another_has_still_open_is_not_given_twice() {
    let mut databases = vec![one(8, 8, Need::Work), one(8, 1, Need::More), one(8, 1, Need::Rest)];
    databases[0].open = 8;
    databases[0].in_force = 8;
    databases[1].open = 1;
    // 10 less 1 for the one at rest: 8 are held.
    assert_eq!(allocate(of(10), Some(1), &databases), [7, 1, 1]);
    databases[0] = Database { granted: 7, in_force: 8, open: 8, ..databases[0] };
    assert_eq!(allocate(of(10), Some(1), &databases), [7, 1, 1], "not taken over yet");
    databases[0] = Database { granted: 7, in_force: 7, open: 7, ..databases[0] };
    assert_eq!(allocate(of(10), Some(1), &databases), [7, 2, 1]);
}

#[test]
fn budget_below_those_at_work_leaves_one_each() {
    let databases = vec![one(5, 5, Need::More); 30];
    assert_eq!(allocate(of(20), Some(2), &databases), [1; 30]);
    assert_eq!(room(of(20), Some(2), &databases), 20);
}

#[test]
fn budget_for_those_at_rest_is_a_power_of_two_and_rises_late() {
    let level = |count: u64, before| resting(of(24), [(5u32, count)].into_iter(), before);
    assert_eq!((level(24, None), level(25, None), level(60, None), level(61, None)), (None, Some(4), Some(2), Some(1)));
    assert_eq!((level(24, Some(4)), level(22, Some(4)), level(21, Some(4))), (Some(4), Some(4), None));
    assert_eq!(level(100_000, None), Some(1));
}

fn databases() -> impl Strategy<Value = Vec<Database>> {
    let need = prop_oneof![3 => Just(Need::Rest), 2 => Just(Need::Work), 2 => Just(Need::More)];
    let database = (1u32..40, 0u32..100, 0u32..100, 0u32..100, need).prop_map(|(most, granted, held, open, need)| {
        let granted = 1 + granted % most;
        let in_force = granted.max(held % (most + 1));
        Database { most, granted, in_force, open: open % (in_force + 1), need }
    });
    vec(database, 0..80)
}

fn level() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![Just(None), Just(Some(1)), Just(Some(2)), Just(Some(8))]
}

fn budget() -> impl Strategy<Value = Budget> {
    (0u32..600, 1u32..20).prop_map(|(connections, oversubscription)| Budget { connections, oversubscription })
}

/// What those at work may have open, before their poolers took anything over.
fn committed(databases: &[Database], given: &[u32]) -> u64 {
    let busy = databases.iter().zip(given).filter(|(one, _)| one.need != Need::Rest);
    busy.map(|(one, given)| u64::from((*given).max(one.in_force).max(one.open))).sum()
}

proptest! {
    #[test]
    fn budget_is_kept_and_nobody_gets_nothing(budget in budget(), level in level(), databases in databases()) {
        let given = allocate(budget, level, &databases);
        prop_assert_eq!(given.len(), databases.len());
        for (one, given) in databases.iter().zip(&given) {
            prop_assert!((1..=one.most).contains(given), "{one:?}: {given}");
        }
        let most: u64 = databases.iter().map(|one| u64::from(one.most)).sum();
        if most <= u64::from(budget.connections) {
            prop_assert!(databases.iter().zip(&given).all(|(one, given)| one.most == *given));
            return Ok(());
        }
        let room = room(budget, level, &databases);
        let anybody = databases.iter().any(|one| one.need != Need::Rest);
        let busy: Vec<_> = databases.iter().zip(&given).filter(|(one, _)| one.need != Need::Rest).collect();
        let granted: u64 = busy.iter().map(|(_, given)| u64::from(**given)).sum();
        if anybody && busy.len() as u64 <= u64::from(room) {
            prop_assert!(granted <= u64::from(room), "{granted} of {room}");
            let idle: u64 = databases.iter().zip(&given).filter(|(one, _)| one.need == Need::Rest).map(|(_, given)| u64::from(*given)).sum();
            let kept = idle.div_ceil(u64::from(budget.oversubscription));
            prop_assert!(granted + kept <= u64::from(budget.connections));
        } else {
            // More than there is room for, each with one.
            prop_assert!(busy.iter().all(|(one, given)| **given == 1 || **given <= one.in_force));
        }
        // Nothing that is new is given before what is old has come back; but everybody has one.
        let before = committed(&databases, &vec![1; databases.len()]);
        let after = committed(&databases, &given);
        prop_assert!(after <= before.max(u64::from(room)), "{before} became {after} of {room}");
    }

    #[test]
    fn budget_is_shared_fairly(budget in budget(), mosts in vec(1u32..40, 1..60)) {
        let mut databases: Vec<_> = mosts.iter().map(|most| one(*most, 1, Need::More)).collect();
        for _ in 0..12 {
            let given = allocate(budget, Some(1), &databases);
            settled(&mut databases, &given);
        }
        let most_given = databases.iter().map(|one| one.granted).max().unwrap();
        for one in &databases {
            prop_assert!(one.granted == one.most || one.granted + 1 >= most_given, "{one:?} beside {most_given}");
        }
    }

    #[test]
    fn budget_rests_where_nothing_changes(budget in budget(), level in level(), databases in databases()) {
        let mut databases = databases;
        let mut last = Vec::new();
        for _ in 0..16 {
            last = allocate(budget, level, &databases);
            settled(&mut databases, &last);
        }
        for _ in 0..3 {
            let given = allocate(budget, level, &databases);
            prop_assert_eq!(&given, &last);
            settled(&mut databases, &given);
        }
    }

    #[test]
    fn budget_that_is_larger_gives_nobody_less(connections in 0u32..300, more in 0u32..100, mosts in vec((1u32..40, any::<bool>()), 1..60)) {
        let databases: Vec<_> =
            mosts.iter().map(|(most, waits)| one(*most, 1, if *waits { Need::More } else { Need::Rest })).collect();
        let less = allocate(of(connections), Some(1), &databases);
        let more = allocate(of(connections + more), Some(1), &databases);
        prop_assert!(less.iter().zip(&more).all(|(less, more)| less <= more), "{less:?} {more:?}");
    }

    #[test]
    fn budget_at_rest_stays_within_what_is_declared(budget in budget(), mosts in vec((1u32..40, 1u64..100), 1..6), before in level()) {
        let level = resting(budget, mosts.iter().copied(), before);
        let all: u64 = mosts.iter().map(|(most, count)| u64::from(at_rest(*most, level)) * count).sum();
        let half = u64::from(budget.connections.div_ceil(2)) * u64::from(budget.oversubscription);
        prop_assert!(all <= half || level == Some(1) || level.is_none() && all <= u64::from(budget.connections));
        prop_assert_eq!(resting(budget, mosts.iter().copied(), level), level, "and stays");
    }
}
