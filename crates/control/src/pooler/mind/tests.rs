//! A plane, a PgBouncer and a clock that do anything in any order: what holds in spite of it.

use std::collections::{BTreeMap, BTreeSet};

use freehold_api::pooler::PauseState;
use freehold_drivers::pooler::{Holder, Limits, Mode, PoolerError, PoolerErrorKind, Server};
use proptest::prelude::*;
use uuid::Uuid;

use super::pauses::{Answer, Stage};
use super::*;

const DATABASES: [&str; 3] = ["a", "b", "c"];

fn entry(name: &str, port: u16) -> Entry {
    Entry {
        name: name.into(),
        server: Server { host: "127.0.0.1".into(), port },
        database: name.into(),
        mode: Some(Mode::Transaction),
        pool_size: 1,
        reserve: 0,
        database_connections: None,
        client_connections: None,
        logins: Vec::new(),
    }
}

fn wanted(generation: u64, ports: &BTreeMap<&str, u16>) -> Wanted {
    let entries = ports.iter().map(|(name, port)| entry(name, *port)).collect();
    Wanted { generation, served: Served { limits: Limits::default(), entries } }
}

#[derive(Debug, Clone)]
enum Event {
    /// The plane: this database is somewhere else, or nowhere.
    Change(usize, bool),
    Pause {
        database: usize,
        hold_ms: u64,
    },
    TakeBack(usize),
    /// The agent hears what the plane wants now.
    Hear,
    Pass(u64),
    /// One of the commands that are on their way has its effect; the answer may come later.
    Effect(usize),
    Answer(usize, u8),
    Die,
    /// The agent: what it kept is all that is left.
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..3usize, any::<bool>()).prop_map(|(database, gone)| Event::Change(database, gone)),
        (0..3usize, 100..5_000u64).prop_map(|(database, hold_ms)| Event::Pause { database, hold_ms }),
        (0..4usize).prop_map(Event::TakeBack),
        Just(Event::Hear),
        Just(Event::Hear),
        (1..1_500u64).prop_map(Event::Pass),
        (0..4usize).prop_map(Event::Effect),
        (0..4usize, 0..4u8).prop_map(|(which, how)| Event::Answer(which, how)),
        (0..4usize, 0..1u8).prop_map(|(which, how)| Event::Answer(which, how)),
        Just(Event::Die),
        Just(Event::Restart),
    ]
}

struct World {
    now: Moment,
    mind: Mind,
    /// The plane.
    generation: u64,
    ports: BTreeMap<&'static str, u16>,
    listed: Vec<PauseWanted>,
    /// PgBouncer.
    loaded: Option<Arc<Wanted>>,
    paused: BTreeSet<String>,
    /// Command, and whether it had its effect.
    under_way: Vec<(Do, bool)>,
    reloaded: Option<Moment>,
    ends: BTreeMap<Uuid, Moment>,
}

impl World {
    fn new() -> Self {
        Self {
            now: Duration::from_secs(1_000),
            mind: Mind::default(),
            generation: 1,
            ports: DATABASES.iter().map(|name| (*name, 1)).collect(),
            listed: Vec::new(),
            loaded: None,
            paused: BTreeSet::new(),
            under_way: Vec::new(),
            reloaded: None,
            ends: BTreeMap::new(),
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Change(database, gone) => {
                self.generation += 1;
                let name = DATABASES[database];
                let port = u16::try_from(self.generation).unwrap();
                match gone && self.ports.contains_key(name) {
                    true => self.ports.remove(name),
                    false => self.ports.insert(name, port),
                };
            }
            Event::Pause { database, hold_ms } => self.listed.push(PauseWanted {
                id: Uuid::now_v7(),
                database: DATABASES[database].into(),
                drain_ms: 500,
                hold_ms,
            }),
            Event::TakeBack(which) if which < self.listed.len() => drop(self.listed.remove(which)),
            Event::Hear => self.hear(),
            Event::Pass(ms) => self.now += Duration::from_millis(ms),
            Event::Effect(which) if which < self.under_way.len() => self.effect(which),
            Event::Answer(which, how) if which < self.under_way.len() => self.answer(which, how),
            Event::Die => {
                self.paused.clear();
                self.mind.died(self.now);
            }
            Event::Restart => self.restart(),
            Event::TakeBack(_) | Event::Effect(_) | Event::Answer(..) => {}
        }
        self.act();
    }

    fn hear(&mut self) {
        for pause in &self.listed {
            self.ends.entry(pause.id).or_insert(self.now + Duration::from_millis(pause.hold_ms));
        }
        let told = wanted(self.generation, &self.ports);
        self.mind.hear(told, &self.listed, self.now).unwrap();
        if self.generation > 1 {
            let older = wanted(self.generation - 1, &BTreeMap::new());
            assert_eq!(self.mind.hear(older, &[], self.now), Err(Older(self.generation - 1, self.generation)));
        }
    }

    fn act(&mut self) {
        for todo in self.mind.next(self.now) {
            let same = self.under_way.iter().filter(|(other, _)| match (&todo, other) {
                (Do::Apply(_), Do::Apply(_)) => true,
                (Do::Tell(Command::Pause { database, .. }), Do::Tell(Command::Pause { database: other, .. })) => {
                    database == other
                }
                (Do::Tell(Command::Resume { database }), Do::Tell(Command::Resume { database: other })) => {
                    database == other
                }
                _ => false,
            });
            assert_eq!(same.count(), 0, "{todo:?} is under way already");
            if let Do::Apply(wanted) = &todo {
                self.may_be_applied(wanted);
            }
            self.under_way.push((todo, false));
        }
        assert_eq!(self.mind.next(self.now), [], "nothing is asked twice");
        assert!(self.mind.wake(self.now).is_none_or(|wake| wake > self.now), "it would turn and turn");
        for pause in self.mind.pauses.all() {
            let is_late = self.now >= self.ends[&pause.id];
            let is_ending = matches!(pause.stage, Stage::Ending { .. } | Stage::Over(_));
            assert!(is_ending || !is_late, "held for longer than it may be: {pause:?}");
        }
        for told in self.mind.pauses.told() {
            let database = &self.mind.pauses.all().iter().find(|pause| pause.id == told.id).unwrap().database;
            assert!(told.state != PauseState::Paused || self.paused.contains(database), "{told:?}");
        }
    }

    fn may_be_applied(&self, wanted: &Wanted) {
        let there = self.loaded.as_ref().map_or(0, |loaded| loaded.generation);
        assert!(wanted.generation >= there, "generation {} over {there}", wanted.generation);
        let is_change = self.loaded.as_deref() != Some(wanted);
        let in_force = |stage: &Stage| matches!(stage, Stage::Asked { begun: true } | Stage::Draining | Stage::Paused);
        let somebody_waits = self.mind.pauses.all().iter().any(|pause| !pause.listed && in_force(&pause.stage));
        let is_time = somebody_waits || self.reloaded.is_none_or(|at| self.now >= at + PACE);
        assert!(!is_change || is_time, "two reloads in a second");
        for pause in self.mind.pauses.all().iter().filter(|pause| pause.stage == Stage::Paused && pause.listed) {
            let before = self.loaded.as_ref().and_then(|loaded| loaded.entry(&pause.database));
            assert_eq!(before, wanted.entry(&pause.database), "{pause:?} is sent elsewhere");
        }
    }

    fn effect(&mut self, which: usize) {
        if std::mem::replace(&mut self.under_way[which].1, true) {
            return;
        }
        match &self.under_way[which].0 {
            Do::Apply(wanted) => {
                if self.loaded.as_ref() != Some(wanted) {
                    self.reloaded = Some(self.now);
                }
                self.loaded = Some(wanted.clone());
            }
            Do::Tell(Command::Pause { database, .. }) => drop(self.paused.insert(database.clone())),
            Do::Tell(Command::Resume { database }) => drop(self.paused.remove(database)),
        }
    }

    /// 0: as hoped; else a failure of some kind.
    fn answer(&mut self, which: usize, how: u8) {
        if how == 0 {
            self.effect(which);
        }
        let error = |kind| PoolerError::new(kind, "it failed");
        let (todo, _) = self.under_way.remove(which);
        match (todo, how) {
            (Do::Apply(_), 0) => self.mind.applied(Ok(1), self.now),
            // What was not verified is taken back, or was never there: here, it may be in force as well.
            (Do::Apply(_), _) => self.mind.applied(Err(()), self.now),
            (Do::Tell(Command::Pause { id, database, .. }), 0) => {
                // Resumed, or dead, since: the driver sees that, and answers that it did not drain.
                let answer = match self.paused.contains(&database) {
                    true => Answer::Drained,
                    false => Answer::Held(Vec::new()),
                };
                self.mind.pauses.paused(id, answer, self.now);
            }
            (Do::Tell(Command::Pause { id, database, .. }), how) => {
                self.paused.remove(&database);
                let holder = Holder {
                    user: "u".into(),
                    address: String::new(),
                    application: String::new(),
                    state: "active".into(),
                    silent_for: None,
                    server_pid: 1,
                };
                let answer = match how {
                    1 => Answer::Held(vec![holder]),
                    2 => Answer::Failed(error(PoolerErrorKind::Unreachable)),
                    _ => Answer::Failed(error(PoolerErrorKind::Denied)),
                };
                self.mind.pauses.paused(id, answer, self.now);
            }
            (Do::Tell(Command::Resume { database }), 0) => self.mind.pauses.resumed(&database, Ok(()), self.now),
            (Do::Tell(Command::Resume { database }), _) => {
                self.mind.pauses.resumed(&database, Err(error(PoolerErrorKind::Unreachable)), self.now);
            }
        }
    }

    fn restart(&mut self) {
        self.under_way.clear();
        let kept: Vec<_> = self.mind.pauses.all().to_vec();
        let wanted = self.mind.wanted.clone();
        let running = wanted.clone().filter(|wanted| self.loaded.as_ref() == Some(wanted));
        let pauses = Pauses::found(kept, true, self.now);
        // Its first reload is not held up by one that it does not know of.
        self.reloaded = None;
        self.mind = Mind::new(wanted, running, pauses);
    }
}

proptest! {
    #[test]
    fn whatever_happens_nobody_stays_paused_and_the_newest_comes_into_force(
        events in proptest::collection::vec(event(), 1..60)
    ) {
        let mut world = World::new();
        for event in events {
            world.step(event);
        }
        // The plane asks for nothing more, and all goes well.
        world.listed.clear();
        world.step(Event::Hear);
        for _ in 0..200 {
            while !world.under_way.is_empty() {
                world.step(Event::Answer(0, 0));
            }
            world.step(Event::Pass(250));
        }
        prop_assert!(world.paused.is_empty(), "{:?} {:?}", world.paused, world.mind.pauses);
        prop_assert_eq!(&world.loaded, &world.mind.wanted);
        prop_assert!(world.mind.pauses.all().iter().all(|pause| matches!(pause.stage, Stage::Over(_))));
        let told = world.mind.pauses.told();
        world.mind.pauses.forget(&told);
        prop_assert_eq!(world.mind.pauses.all(), []);
    }
}

#[test]
fn whoever_waits_to_be_sent_elsewhere_does_not_wait_for_the_pace_of_reloads() {
    let mut world = World::new();
    world.step(Event::Hear);
    world.step(Event::Answer(0, 0));
    world.step(Event::Pause { database: 0, hold_ms: 4_000 });
    world.step(Event::Hear);
    world.step(Event::Answer(0, 0));
    world.step(Event::Pass(1_000));
    world.step(Event::Change(1, false));
    world.step(Event::Hear);
    world.step(Event::Answer(0, 0));
    // Right after that reload: one of somebody at work waits for its second, and goes with the one that is waited for.
    world.step(Event::Change(1, false));
    world.step(Event::Hear);
    assert!(world.under_way.is_empty(), "{:?}", world.under_way);
    world.step(Event::Change(0, false));
    world.step(Event::TakeBack(0));
    world.step(Event::Hear);
    assert!(matches!(world.under_way[..], [(Do::Apply(_), _)]), "{:?}", world.under_way);
}

#[test]
fn a_pause_that_is_taken_back_with_a_change_ends_after_it() {
    let mut world = World::new();
    world.step(Event::Hear);
    world.step(Event::Answer(0, 0));
    world.step(Event::Pause { database: 0, hold_ms: 4_000 });
    world.step(Event::Hear);
    world.step(Event::Answer(0, 0));
    assert_eq!(world.mind.pauses.told()[0].state, PauseState::Paused);
    // Another database's change is not held up; its own is, until the pause is taken back.
    for (database, is_applied) in [(1, true), (0, false)] {
        world.step(Event::Change(database, false));
        world.step(Event::Hear);
        world.step(Event::Pass(1_000));
        assert_eq!(world.under_way.len(), usize::from(is_applied));
        while !world.under_way.is_empty() {
            world.step(Event::Answer(0, 0));
        }
    }
    world.step(Event::TakeBack(0));
    world.step(Event::Hear);
    assert!(matches!(world.under_way[..], [(Do::Apply(_), _)]), "{:?}", world.under_way);
    world.step(Event::Answer(0, 0));
    assert!(matches!(world.under_way[..], [(Do::Tell(Command::Resume { .. }), _)]), "{:?}", world.under_way);
    world.step(Event::Answer(0, 0));
    assert_eq!(world.mind.pauses.told()[0].state, PauseState::Resumed);
}

#[test]
fn after_a_start_of_the_machine_no_pause_is_left() {
    let mut world = World::new();
    world.step(Event::Hear);
    world.step(Event::Answer(0, 0));
    world.step(Event::Pause { database: 0, hold_ms: 4_000 });
    world.step(Event::Hear);
    world.step(Event::Answer(0, 0));
    let kept = world.mind.pauses.all().to_vec();
    let state = |pauses: &Pauses| pauses.told()[0].state;
    assert_eq!(state(&Pauses::found(kept.clone(), false, world.now)), PauseState::Resumed);
    // The next agent goes on with it, and ends it when its time is over.
    let mut same = Pauses::found(kept.clone(), true, world.now);
    let first = same.next(world.now, |_| pauses::Entry::InForce);
    assert!(matches!(first[..], [Command::Pause { .. }]), "{first:?}");
    let mut late = Pauses::found(kept, true, world.now + Duration::from_secs(5));
    let first = late.next(world.now + Duration::from_secs(5), |_| pauses::Entry::InForce);
    assert_eq!(first, [Command::Resume { database: "a".into() }]);
}
