//! What becomes of the pauses that the plane asks for. Pure: time is given, and what PgBouncer answered.
//!
//! ```text
//! asked → draining → paused → ending → over
//!   ↑        │          │        ↑
//!   └────────┴──────────┘        └─ its time is over, or it was taken back; from every state
//! ```
//!
//! Back to *asked* goes what failed for a moment, and what a PgBouncer that died has forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use freehold_api::pooler::{PauseState, PauseTold, PauseWanted};
use freehold_drivers::pooler::{Holder, PoolerError, PoolerErrorKind};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Since the machine was started.
pub type Moment = Duration;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub id: Uuid,
    pub database: String,
    pub drain: Duration,
    pub hold: Duration,
    /// Whatever happens.
    pub ends: Moment,
    pub stage: Stage,
    /// The newest assignment names it.
    pub listed: bool,
    /// Why it is not further yet.
    pub trouble: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// `begun`: PgBouncer may hold it already.
    Asked {
        begun: bool,
    },
    Draining,
    Paused,
    /// To be resumed, and then this. `resumed`: it is, but a PAUSE that is still on its way may come after that.
    Ending {
        outcome: Outcome,
        resumed: bool,
    },
    Over(Outcome),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub state: PauseState,
    pub detail: Option<String>,
}

/// Of a database, for whoever wants to pause it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// What is wanted of it is in force.
    InForce,
    /// Not yet, or nobody knows.
    Changing,
    Absent,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Pause { id: Uuid, database: String, drain: Duration },
    Resume { database: String },
}

/// What the driver made of a pause.
#[derive(Debug)]
pub enum Answer {
    Drained,
    Held(Vec<Holder>),
    Failed(PoolerError),
}

#[derive(Debug, Default)]
pub struct Pauses {
    all: Vec<Pause>,
    /// Commands that are not answered yet.
    pausing: BTreeMap<String, Uuid>,
    /// False: a PAUSE was answered meanwhile, and nobody knows which of the two came first.
    resuming: BTreeMap<String, bool>,
    /// After a failure.
    not_before: BTreeMap<String, Moment>,
}

/// Between two tries of a command that failed.
const AGAIN: Duration = Duration::from_millis(200);

impl Pauses {
    /// Those of an agent before this one. After a start of the machine nothing of them is left: PgBouncer went with it.
    pub fn found(kept: Vec<Pause>, same_boot: bool, now: Moment) -> Self {
        let mut all = kept;
        for pause in &mut all {
            // A clock that says that more is left than was ever given is not the same clock.
            let is_same_clock = pause.ends <= now + pause.hold;
            pause.stage = match pause.stage.clone() {
                Stage::Over(outcome) => Stage::Over(outcome),
                _ if !same_boot => Stage::Over(resumed("the machine was started again")),
                Stage::Ending { outcome, .. } => ending(outcome),
                _ if !is_same_clock => ending(resumed("the time that it has left is not known")),
                Stage::Draining | Stage::Paused => Stage::Asked { begun: true },
                stage @ Stage::Asked { .. } => stage,
            };
        }
        Self { all, ..Self::default() }
    }

    pub fn all(&self) -> &[Pause] {
        &self.all
    }

    /// The time of each begins when it is first heard of.
    pub fn hear(&mut self, wanted: &[PauseWanted], now: Moment) {
        for pause in &mut self.all {
            pause.listed = wanted.iter().any(|wanted| wanted.id == pause.id);
        }
        for wanted in wanted {
            if self.all.iter().any(|pause| pause.id == wanted.id) {
                continue;
            }
            let hold = Duration::from_millis(wanted.hold_ms);
            self.all.push(Pause {
                id: wanted.id,
                database: wanted.database.clone(),
                drain: Duration::from_millis(wanted.drain_ms),
                hold,
                ends: now.saturating_add(hold),
                stage: Stage::Asked { begun: false },
                listed: true,
                trouble: None,
            });
        }
    }

    /// Databases that nobody may change the entry of: that would send the clients of a paused one elsewhere.
    pub fn held(&self, now: Moment) -> impl Iterator<Item = &str> {
        let held = self.all.iter().filter(move |pause| pause.listed && now < pause.ends && pause.is_in_force());
        held.map(|pause| pause.database.as_str())
    }

    /// Whether one was taken back together with a change of its entry: its clients wait until that is in force.
    pub fn await_entry(&self) -> bool {
        self.all.iter().any(|pause| !pause.listed && pause.is_in_force())
    }

    /// Nothing is asked twice that is not answered.
    pub fn next(&mut self, now: Moment, entry: impl Fn(&str) -> Entry) -> Vec<Command> {
        for pause in self.all.iter_mut().filter(|pause| pause.is_live()) {
            let is_late = now >= pause.ends;
            // Taken back together with a change of its entry: the change first, so that who waited goes the new way.
            let is_taken_back = !pause.listed && (!pause.is_in_force() || entry(&pause.database) != Entry::Changing);
            pause.stage = match (&pause.stage, is_late, is_taken_back) {
                (Stage::Asked { begun: false }, true, _) => {
                    let why = pause.trouble.clone().unwrap_or_else(|| "its entry did not come into force".into());
                    Stage::Over(Outcome { state: PauseState::Failed, detail: Some(why) })
                }
                (Stage::Asked { begun: false }, false, true) => Stage::Over(resumed("it was taken back")),
                (_, true, _) => ending(resumed("its time was over")),
                (_, false, true) => ending(resumed("it was taken back")),
                (stage, false, false) => stage.clone(),
            };
        }
        let mut commands = self.resumes(now);
        commands.extend(self.pauses(now, entry));
        commands
    }

    fn resumes(&mut self, now: Moment) -> Vec<Command> {
        let to_resume = self.all.iter().filter(|pause| matches!(pause.stage, Stage::Ending { resumed: false, .. }));
        let to_resume: BTreeSet<String> = to_resume.map(|pause| pause.database.clone()).collect();
        let mut commands = Vec::new();
        for database in to_resume {
            let others = self.all.iter().any(|pause| pause.database == database && pause.is_in_force());
            if others {
                self.end(&database);
            } else if self.is_time(&database, now) && !self.resuming.contains_key(&database) {
                self.resuming.insert(database.clone(), true);
                commands.push(Command::Resume { database });
            }
        }
        commands
    }

    fn pauses(&mut self, now: Moment, entry: impl Fn(&str) -> Entry) -> Vec<Command> {
        let ending: BTreeSet<String> = self.ending().map(str::to_owned).collect();
        let mut commands = Vec::new();
        for index in 0..self.all.len() {
            let Pause { id, database, drain, ends, stage, .. } = self.all[index].clone();
            let Stage::Asked { begun } = stage else { continue };
            let is_busy = self.pausing.contains_key(&database) || ending.contains(&database);
            if is_busy || !self.is_time(&database, now) {
                continue;
            }
            self.all[index].stage = match (entry(&database), begun) {
                (Entry::InForce, _) | (Entry::Changing, true) => {
                    self.pausing.insert(database.clone(), id);
                    commands.push(Command::Pause { id, database, drain: drain.min(ends.saturating_sub(now)) });
                    Stage::Draining
                }
                (Entry::Changing, false) => continue,
                (Entry::Absent, _) => {
                    let detail = format!("{database:?} is no database of this pooler");
                    Stage::Over(Outcome { state: PauseState::Failed, detail: Some(detail) })
                }
            };
        }
        commands
    }

    pub fn paused(&mut self, id: Uuid, answer: Answer, now: Moment) {
        self.pausing.retain(|_, pausing| *pausing != id);
        let Some(pause) = self.all.iter_mut().find(|pause| pause.id == id) else { return };
        if let Some(counts) = self.resuming.get_mut(&pause.database) {
            *counts = false;
        }
        if !matches!(answer, Answer::Drained) {
            // The driver has resumed it, for whomever it was paused.
            let database = pause.database.clone();
            self.forgotten(|pause| pause.database == database);
        }
        let Some(pause) = self.all.iter_mut().find(|pause| pause.id == id) else { return };
        let failed = |state, detail: String| ending(Outcome { state, detail: Some(detail) });
        pause.stage = match (pause.stage.clone(), answer) {
            (Stage::Draining, Answer::Drained) => Stage::Paused,
            (Stage::Draining, Answer::Held(holders)) => failed(PauseState::Held, named(&holders)),
            (Stage::Draining, Answer::Failed(error)) if error.kind == PoolerErrorKind::Missing => {
                Stage::Over(Outcome { state: PauseState::Failed, detail: Some(error.message) })
            }
            (Stage::Draining, Answer::Failed(error)) if error.is_transient() => {
                self.not_before.insert(pause.database.clone(), now + AGAIN);
                pause.trouble = Some(error.message);
                Stage::Asked { begun: true }
            }
            (Stage::Draining, Answer::Failed(error)) => failed(PauseState::Failed, error.message),
            // It was resumed before PgBouncer had heard of it, perhaps.
            (Stage::Ending { outcome, .. } | Stage::Over(outcome), _) => ending(outcome),
            (stage @ (Stage::Asked { .. } | Stage::Paused), _) => stage,
        };
    }

    pub fn resumed(&mut self, database: &str, answer: Result<(), PoolerError>, now: Moment) {
        let counts = self.resuming.remove(database).unwrap_or(true);
        match answer {
            Err(error) if error.kind != PoolerErrorKind::Missing => {
                self.not_before.insert(database.to_owned(), now + AGAIN);
                for pause in self.all.iter_mut().filter(|pause| pause.database == database) {
                    pause.trouble = Some(error.message.clone());
                }
            }
            _ if counts => self.end(database),
            _ => {}
        }
    }

    /// PgBouncer died, and forgot.
    pub fn died(&mut self) {
        self.forgotten(|_| true);
    }

    fn forgotten(&mut self, which: impl Fn(&Pause) -> bool) {
        for pause in self.all.iter_mut().filter(|pause| pause.stage == Stage::Paused && which(pause)) {
            pause.stage = Stage::Asked { begun: true };
        }
    }

    /// Nobody will be there to resume them.
    pub fn give_up(&mut self, why: &str) {
        for pause in self.all.iter_mut().filter(|pause| pause.is_live()) {
            pause.stage = ending(resumed(why));
        }
    }

    pub fn told(&self) -> Vec<PauseTold> {
        self.all.iter().map(Pause::told).collect()
    }

    /// The plane has heard how they ended, and does not ask for them any more.
    pub fn forget(&mut self, heard: &[PauseTold]) {
        self.all.retain(|pause| {
            let is_over = matches!(pause.stage, Stage::Over(_));
            pause.listed || !is_over || !heard.contains(&pause.told())
        });
    }

    /// When there is something to do that nobody's answer brings.
    pub fn wake(&self, now: Moment) -> Option<Moment> {
        let ends = self.all.iter().filter(|pause| pause.is_live()).map(|pause| pause.ends);
        let again = self.all.iter().filter_map(|pause| self.not_before.get(&pause.database).copied());
        ends.chain(again).filter(|at| *at > now).min()
    }

    fn ending(&self) -> impl Iterator<Item = &str> {
        let ending = self.all.iter().filter(|pause| matches!(pause.stage, Stage::Ending { .. }));
        ending.map(|pause| pause.database.as_str())
    }

    fn end(&mut self, database: &str) {
        let under_way = self.pausing.get(database).copied();
        for pause in self.all.iter_mut().filter(|pause| pause.database == database) {
            if let Stage::Ending { outcome, .. } = pause.stage.clone() {
                pause.stage = match under_way == Some(pause.id) {
                    true => Stage::Ending { outcome, resumed: true },
                    false => Stage::Over(outcome),
                };
            }
        }
    }

    fn is_time(&self, database: &str, now: Moment) -> bool {
        self.not_before.get(database).is_none_or(|at| now >= *at)
    }
}

impl Pause {
    fn is_live(&self) -> bool {
        !matches!(self.stage, Stage::Ending { .. } | Stage::Over(_))
    }

    /// Clients wait, or may.
    fn is_in_force(&self) -> bool {
        matches!(self.stage, Stage::Asked { begun: true } | Stage::Draining | Stage::Paused)
    }

    fn told(&self) -> PauseTold {
        let (state, detail) = match &self.stage {
            Stage::Asked { .. } | Stage::Draining => (PauseState::Draining, self.trouble.clone()),
            Stage::Paused => (PauseState::Paused, None),
            // Said once it is so.
            Stage::Ending { outcome, resumed: false } if outcome.state == PauseState::Resumed => {
                (PauseState::Draining, self.trouble.clone())
            }
            Stage::Ending { outcome, .. } | Stage::Over(outcome) => (outcome.state, outcome.detail.clone()),
        };
        PauseTold { id: self.id, state, detail }
    }
}

fn ending(outcome: Outcome) -> Stage {
    Stage::Ending { outcome, resumed: false }
}

fn resumed(why: &str) -> Outcome {
    Outcome { state: PauseState::Resumed, detail: Some(why.into()) }
}

/// A few of them.
fn named(holders: &[Holder]) -> String {
    const SHOWN: usize = 5;
    let told: Vec<String> = holders.iter().take(SHOWN).map(Holder::to_string).collect();
    match holders.len() {
        0 => "somebody held it, who was gone when asked for".into(),
        count if count > SHOWN => format!("held by {}; and {} more", told.join("; "), count - SHOWN),
        _ => format!("held by {}", told.join("; ")),
    }
}
