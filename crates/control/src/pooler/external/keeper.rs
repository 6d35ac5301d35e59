//! Keeps one external pooler: asks the store what is wanted, does what [`Mind`] says, and puts on record how it stands.
//!
//! Nothing here waits for the pooler: each command is a task, and its answer an event of a later turn. A pause has its
//! deadline in a task as well, because turns end with the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freehold_api::PoolerId;
use freehold_api::pooler::{PooledDatabase, PoolerReport};
use freehold_drivers::pooler::{Given, Pause, PoolerError, PoolerErrorKind, SharedPooler};
use freehold_durable::Failure;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::store::{self, ExternalRow};
use super::{driver, failure};
use crate::plane::Core;
use crate::pooler::mind::pauses::{Answer, Command, Moment, Stage};
use crate::pooler::mind::{Do, Mind, Older, Wanted, clock};
use crate::pooler::{assignment, counts, report};

/// Between two reports where nothing changed, and two looks at what it counts.
const EVERY: Duration = Duration::from_secs(5);
/// For what it counts.
const STATS_LIMIT: Duration = Duration::from_secs(10);
/// A turn ends a pause in time. After this nobody turns.
const LATE: Duration = Duration::from_secs(1);
/// Between two tries to resume what is late.
const AGAIN: Duration = Duration::from_millis(500);

pub struct Keeper {
    id: PoolerId,
    /// What another keeper would be made for.
    made_of: (Uuid, i32),
    is_pgcat: bool,
    driver: Result<Arc<dyn SharedPooler>, String>,
    mind: Mind,
    /// Of what was heard last.
    revision: Option<String>,
    told: Told,
    /// By database: when its last pause ends, and who ends it should nobody turn any more.
    deadlines: BTreeMap<String, (Moment, Deadline)>,
    withheld: BTreeMap<String, String>,
    /// Of that, what is on record.
    recorded: BTreeMap<String, String>,
    /// What somebody before left paused was looked for.
    looked_around: bool,
    counting: bool,
    counted: Instant,
    /// When, and what.
    reported: Option<(Instant, PoolerReport)>,
    sender: mpsc::UnboundedSender<Event>,
    events: mpsc::UnboundedReceiver<Event>,
    answered: Arc<Notify>,
}

/// All of a report but pauses.
#[derive(Default)]
struct Told {
    generation: Option<u64>,
    version: Option<String>,
    reloads: u64,
    repaired: u64,
    /// Why the newest is not wanted.
    refused: Option<String>,
    /// Why it is not in force.
    failed: Option<String>,
    databases: Option<Vec<PooledDatabase>>,
}

enum Event {
    /// With the version, where it answers, and the generation in its files, where that is newer.
    Given(Result<Given, PoolerError>, Option<String>, Option<u64>),
    Paused(Uuid, Answer),
    Resumed(String, Result<(), PoolerError>),
    Counted(Option<Vec<PooledDatabase>>),
    /// Databases that are paused already.
    Found(Result<Vec<String>, PoolerError>),
}

/// Held by whoever keeps the pooler: another one has deadlines of its own.
struct Deadline(JoinHandle<()>);

impl Drop for Deadline {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Keeper {
    pub fn new(core: &Core, row: &ExternalRow, answered: Arc<Notify>) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let count = |count: i64| u64::try_from(count).unwrap_or(0);
        Self {
            // What is in the store was parsed when it came in.
            id: row.id.parse().unwrap_or_else(|_| "invalid".parse().expect("a slug")),
            made_of: (row.seal_id, row.admin_version),
            is_pgcat: driver::is_pgcat(row),
            driver: driver::of(core, row),
            mind: Mind::default(),
            revision: None,
            told: Told { reloads: count(row.reloads), repaired: count(row.repaired), ..Told::default() },
            deadlines: BTreeMap::new(),
            withheld: row.withheld.0.clone(),
            recorded: row.withheld.0.clone(),
            looked_around: false,
            counting: false,
            counted: Instant::now(),
            reported: None,
            sender,
            events,
            answered,
        }
    }

    pub fn is_of(&self, row: &ExternalRow) -> bool {
        self.made_of == (row.seal_id, row.admin_version)
    }

    pub fn is_paused(&self) -> bool {
        self.mind.pauses.all().iter().any(|pause| !matches!(pause.stage, Stage::Over(_)))
    }

    pub fn is_ending(&self) -> bool {
        self.mind.pauses.all().iter().any(|pause| matches!(pause.stage, Stage::Ending { .. }))
    }

    /// Nobody will be there to resume them.
    pub fn give_up(&mut self) {
        self.mind.pauses.give_up("the plane was stopped, which holds this pooler's deadlines");
    }

    pub async fn turn(&mut self, core: &Core) -> Result<(), Failure> {
        while let Ok(event) = self.events.try_recv() {
            self.take(event);
        }
        if self.withheld != self.recorded {
            store::set_withheld(&core.store, self.id.as_str(), &self.withheld).await?;
            self.recorded.clone_from(&self.withheld);
        }
        match self.driver.clone() {
            Ok(driver) => {
                self.hear(core).await?;
                self.act(core, &driver);
                self.count(&driver);
            }
            Err(why) => self.told.refused = Some(why),
        }
        self.report(core).await
    }

    async fn hear(&mut self, core: &Core) -> Result<(), Failure> {
        // Removed in this moment: then so is its keeper.
        let Ok(Some(revision)) = assignment::look(core, &self.id).await else { return Ok(()) };
        if self.revision.as_ref() == Some(&revision) {
            return Ok(());
        }
        let (wanted, pauses) = assignment::wanted(core, &self.id).await.map_err(failure)?;
        self.told.refused = self.mind.hear(wanted, &pauses, clock::now()).err().map(|Older(told, there)| {
            format!("generation {told} is wanted, and {there} is in force already: is the store an old copy?")
        });
        self.revision = Some(revision);
        Ok(())
    }

    fn act(&mut self, core: &Core, driver: &Arc<dyn SharedPooler>) {
        for todo in self.mind.next(clock::now()) {
            match todo {
                Do::Apply(wanted) => self.give(core, driver, wanted),
                Do::Tell(command) => {
                    if let Command::Pause { id, .. } = &command {
                        self.hold_deadline(driver, *id);
                    }
                    self.command(driver, command);
                }
            }
        }
        let pauses = self.mind.pauses.all();
        let is_open = |database: &String| {
            pauses.iter().any(|pause| pause.database == *database && !matches!(pause.stage, Stage::Over(_)))
        };
        self.deadlines.retain(|database, _| is_open(database));
    }

    fn hold_deadline(&mut self, driver: &Arc<dyn SharedPooler>, id: Uuid) {
        let Some(pause) = self.mind.pauses.all().iter().find(|pause| pause.id == id) else { return };
        if self.deadlines.get(&pause.database).is_some_and(|(ends, _)| *ends >= pause.ends) {
            return;
        }
        let (driver, pooler, database) = (driver.clone(), self.id.clone(), pause.database.clone());
        let left = pause.ends.saturating_sub(clock::now()).saturating_add(LATE);
        let task = tokio::spawn(async move {
            sleep(left).await;
            tracing::warn!(%pooler, database, "its pause is over, and no turn ended it in time, as without the store; it is resumed");
            while let Err(error) = driver.running().resume(&database).await
                && error.kind != PoolerErrorKind::Missing
            {
                sleep(AGAIN).await;
            }
        });
        self.deadlines.insert(pause.database.clone(), (pause.ends, Deadline(task)));
    }

    fn give(&self, core: &Core, driver: &Arc<dyn SharedPooler>, wanted: Arc<Wanted>) {
        let (core, driver, id, is_pgcat) = (core.clone(), driver.clone(), self.id.clone(), self.is_pgcat);
        let work = async move {
            let passwords = match is_pgcat {
                true => driver::passwords(&core, id.as_str()).await,
                false => Ok(BTreeMap::new()),
            };
            let given = match &passwords {
                Ok(passwords) => driver.give(wanted.generation, &wanted.served, passwords).await,
                Err(_) => Err(passwords.expect_err("it was looked at")),
            };
            let version = match &given {
                Ok(_) => driver.running().version().await.ok(),
                Err(_) => None,
            };
            let is_older = given.as_ref().is_err_and(|error| error.kind == PoolerErrorKind::Outdated);
            let written = if is_older { driver.written().ok().flatten() } else { None };
            Event::Given(given, version, written)
        };
        // Its files may be on a disk that hangs: then this waits, and nobody else.
        let runtime = tokio::runtime::Handle::current();
        self.spawn(async move {
            let done = tokio::task::spawn_blocking(move || runtime.block_on(work)).await;
            done.unwrap_or_else(|error| {
                let error = PoolerError::because(PoolerErrorKind::Other, "write what the pooler serves", error);
                Event::Given(Err(error), None, None)
            })
        });
    }

    fn command(&self, driver: &Arc<dyn SharedPooler>, command: Command) {
        let (driver, pooler) = (driver.clone(), self.id.clone());
        self.spawn(async move {
            match command {
                Command::Pause { id, database, drain } => {
                    tracing::info!(%pooler, %id, database, ?drain, "pausing");
                    let answer = match driver.running().pause(&database, drain).await {
                        Ok(Pause::Drained) => Answer::Drained,
                        Ok(Pause::Held(holders)) => Answer::Held(holders),
                        Err(error) => Answer::Failed(error),
                    };
                    Event::Paused(id, answer)
                }
                Command::Resume { database } => {
                    tracing::info!(%pooler, database, "resuming");
                    let resumed = driver.running().resume(&database).await;
                    Event::Resumed(database, resumed)
                }
            }
        });
    }

    fn count(&mut self, driver: &Arc<dyn SharedPooler>) {
        let is_due = !self.counting && self.counted.elapsed() >= EVERY && self.mind.running.is_some();
        let Some(running) = self.mind.running.clone().filter(|_| is_due) else { return };
        self.counting = true;
        let driver = driver.clone();
        self.spawn(async move {
            let stats = tokio::time::timeout(STATS_LIMIT, driver.running().stats()).await.ok().and_then(Result::ok);
            Event::Counted(stats.map(|mut stats| {
                stats.retain(|one| running.entry(&one.name).is_some());
                counts::busiest(stats)
            }))
        });
    }

    fn look_around(&mut self) {
        let Ok(driver) = self.driver.clone() else { return };
        self.looked_around = true;
        self.spawn(async move { Event::Found(driver.paused().await.map(|names| names.into_iter().collect())) });
    }

    fn spawn(&self, work: impl Future<Output = Event> + Send + 'static) {
        let (sender, answered) = (self.sender.clone(), self.answered.clone());
        tokio::spawn(async move {
            let _ = sender.send(work.await);
            answered.notify_one();
        });
    }

    fn take(&mut self, event: Event) {
        let now = clock::now();
        match event {
            Event::Given(given, version, written) => self.given(given, version, written),
            Event::Paused(id, answer) => self.mind.pauses.paused(id, answer, now),
            Event::Resumed(database, answer) => {
                if let Err(error) = answer.as_ref()
                    && error.kind != PoolerErrorKind::Missing
                {
                    tracing::warn!(pooler = %self.id, database, %error, "not resumed yet");
                    if !self.mind.pauses.all().iter().any(|pause| pause.database == database) {
                        // Nobody's: nobody would try again.
                        self.looked_around = false;
                    }
                }
                self.mind.pauses.resumed(&database, answer, now);
            }
            Event::Counted(databases) => {
                (self.counting, self.counted) = (false, Instant::now());
                self.told.databases = databases;
            }
            Event::Found(Ok(names)) => self.resume_nobodys(&names),
            Event::Found(Err(_)) => self.looked_around = false,
        }
    }

    fn given(&mut self, given: Result<Given, PoolerError>, version: Option<String>, written: Option<u64>) {
        let now = clock::now();
        match given {
            Ok(Given { applied, withheld }) => {
                self.mind.applied(Ok(applied.reloads), now);
                if !applied.repaired.is_empty() {
                    tracing::warn!(pooler = %self.id, repaired = ?applied.repaired, "somebody edited what is Freehold's in the pooler's files; it is put right");
                }
                if applied.reloads > 0 {
                    tracing::info!(pooler = %self.id, generation = applied.generation, "in force");
                }
                self.told.generation = Some(applied.generation);
                self.told.reloads += u64::from(applied.reloads);
                self.told.repaired += applied.repaired.len() as u64;
                self.told.version = version.or(self.told.version.take());
                self.told.failed = None;
                self.withheld = withheld;
                if !self.looked_around {
                    self.look_around();
                }
            }
            Err(error) => {
                self.mind.applied(Err(()), now);
                let message = error.to_string();
                if self.told.failed.as_ref() != Some(&message) {
                    tracing::warn!(pooler = %self.id, %error, "what is wanted is not in force; what runs goes on");
                }
                self.told.failed = Some(message);
                use PoolerErrorKind::{Starting, Timeout, Unreachable};
                self.told.generation = match error.kind {
                    // Tenants get no answer either.
                    Unreachable | Starting | Timeout => None,
                    // Where the store is an older copy it goes on from there.
                    _ => written.or(self.told.generation),
                };
            }
        }
    }

    /// Whoever paused them is gone, and with him the deadline.
    fn resume_nobodys(&self, names: &[String]) {
        let (Ok(driver), Some(running)) = (&self.driver, &self.mind.running) else { return };
        let pauses = self.mind.pauses.all();
        let of_nobody = names
            .iter()
            .filter(|name| running.entry(name).is_some() && !pauses.iter().any(|pause| pause.database == **name));
        for database in of_nobody {
            tracing::warn!(pooler = %self.id, database, "it was paused, and nobody holds the deadline; it is resumed");
            self.command(driver, Command::Resume { database: database.clone() });
        }
    }

    async fn report(&mut self, core: &Core) -> Result<(), Failure> {
        let Told { generation, version, reloads, repaired, refused, failed, databases } = &self.told;
        let report = PoolerReport {
            generation: *generation,
            version: version.clone(),
            reloads: *reloads,
            deaths: 0,
            repaired: *repaired,
            error: refused.as_ref().or(failed.as_ref()).cloned(),
            needs_restart: Vec::new(),
            pauses: self.mind.pauses.told(),
            databases: databases.clone(),
        };
        // Before it was tried there is nothing to say.
        if generation.is_none() && report.error.is_none() {
            return Ok(());
        }
        let is_said = |(at, said): &(Instant, PoolerReport)| at.elapsed() < EVERY && *said == report;
        if self.reported.as_ref().is_some_and(is_said) {
            return Ok(());
        }
        report::take(core, &self.id, &report).await.map_err(failure)?;
        self.mind.pauses.forget(&report.pauses);
        self.reported = Some((Instant::now(), report));
        Ok(())
    }
}
