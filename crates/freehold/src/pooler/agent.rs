//! The agent at work: it asks the plane, tells PgBouncer, looks after both, and does what [`Mind`] says.
//!
//! Absent: decisions, and anything that waits: each command is a task, and its answer an event.

use std::sync::Arc;
use std::time::Duration;

use freehold_api::pooler::{Assignment, PauseTold};
use freehold_control::pooler::mind::pauses::{Answer, Command, Pause as Kept, Stage};
use freehold_control::pooler::mind::{Do, Mind, Older, Wanted, clock};
use freehold_drivers::pooler::pgbouncer::{Files, PgBouncer, Program, Supervised, render};
use freehold_drivers::pooler::{Applied, Configuration, Pause, Pooler, PoolerError, PoolerErrorKind, Served};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::home::Home;
use super::link::Link;
use super::own::Own;
use super::report::{self, Told};

pub struct Agent {
    pub home: Home,
    pub own: Own,
    pub program: Program,
    pub driver: Arc<PgBouncer>,
    pub supervised: Supervised,
    pub mind: Mind,
    /// What the directory has of it: the next agent begins with that.
    pub kept: Option<Arc<Wanted>>,
    pub link: Arc<Link>,
    pub trouble: Trouble,
}

/// Why what was asked for is not in force.
#[derive(Debug, Default)]
pub struct Trouble {
    /// Until the plane says something better.
    refused: Option<String>,
    /// Until it succeeds.
    failed: Option<String>,
    /// It may be in force all the same. Until it is written.
    not_kept: Option<String>,
}

pub enum Event {
    Heard(Assignment),
    /// What came is no assignment.
    NotHeard(String),
    Applied(Result<Applied, PoolerError>),
    Paused(Uuid, Answer),
    Resumed(String, Result<(), PoolerError>),
    Reported(Vec<PauseTold>),
}

/// Whether PgBouncer died; sooner where somebody is paused, because a new one knows nothing of that.
const LOOK: Duration = Duration::from_millis(500);
const LOOK_WHILE_PAUSED: Duration = Duration::from_millis(50);
/// For what is paused to be resumed, before the agent goes.
const GOODBYE: Duration = Duration::from_secs(5);

impl Agent {
    /// Until it is told to stop. PgBouncer runs as before when this returns.
    pub async fn run(mut self, stop: CancellationToken) -> Supervised {
        let (sender, mut events) = mpsc::channel(64);
        let first = Told { version: Some(self.program.release.to_string()), ..Told::default() };
        let (told, hearing) = watch::channel(first);
        let asking = tokio::spawn(ask(self.link.clone(), sender.clone()));
        let telling = tokio::spawn(report::tell(self.link.clone(), self.driver.clone(), hearing, sender.clone()));
        let mut deaths = 0;
        let mut kept = Vec::new();
        while !stop.is_cancelled() {
            self.act(&sender, &mut kept, &told);
            tokio::select! {
                Some(event) = events.recv() => self.take(event, &told),
                () = sleep(self.pause_between_looks()) => {}
                () = stop.cancelled() => {}
            }
            if self.supervised.deaths() != deaths {
                deaths = self.supervised.deaths();
                self.mind.died(clock::now());
                told.send_modify(|told| told.deaths = u64::from(deaths));
            }
        }
        asking.abort();
        telling.abort();
        // Whoever comes next may come late: nobody waits for that.
        self.mind.pauses.give_up("the pooler's agent was stopped");
        let deadline = Instant::now() + GOODBYE;
        while self.is_ending() && Instant::now() < deadline {
            self.act(&sender, &mut kept, &told);
            tokio::select! {
                Some(event) = events.recv() => self.take(event, &told),
                () = sleep(LOOK_WHILE_PAUSED) => {}
            }
        }
        self.act(&sender, &mut kept, &told);
        self.supervised
    }

    fn is_ending(&self) -> bool {
        self.mind.pauses.all().iter().any(|pause| matches!(pause.stage, Stage::Ending { .. }))
    }

    fn pause_between_looks(&self) -> Duration {
        let now = clock::now();
        let look = if self.mind.pauses.held(now).next().is_some() { LOOK_WHILE_PAUSED } else { LOOK };
        self.mind.wake(now).map_or(look, |wake| wake.saturating_sub(now).min(look))
    }

    fn act(&mut self, events: &mpsc::Sender<Event>, kept: &mut Vec<Kept>, told: &watch::Sender<Told>) {
        let todo = self.mind.next(clock::now());
        // Before PgBouncer hears of it: the next agent has to find what this one began.
        let is_kept = match self.mind.pauses.all() {
            pauses if *pauses == *kept.as_slice() => Ok(()),
            pauses => self.home.keep_pauses(pauses).inspect(|()| *kept = pauses.to_vec()),
        };
        for todo in todo {
            match (todo, &is_kept) {
                (Do::Apply(wanted), _) => self.apply(&wanted, events.clone()),
                (Do::Tell(Command::Pause { id, .. }), Err(error)) => {
                    let message = "a pause that cannot be kept on disk is not begun".to_owned();
                    let error = PoolerError::new(PoolerErrorKind::NotWritable, format!("{message}: {error}"));
                    self.mind.pauses.paused(id, Answer::Failed(error), clock::now());
                }
                (Do::Tell(command), _) => self.command(command, events.clone()),
            }
        }
        let pauses = self.mind.pauses.told();
        told.send_if_modified(|told| {
            let is_news = told.pauses != pauses;
            told.pauses = pauses;
            is_news
        });
    }

    fn apply(&self, wanted: &Wanted, events: mpsc::Sender<Event>) {
        let (driver, configuration) = (self.driver.clone(), self.own.configuration(wanted));
        tokio::spawn(async move {
            let applied = driver.apply(&configuration).await;
            let _ = events.send(Event::Applied(applied)).await;
        });
    }

    fn command(&self, command: Command, events: mpsc::Sender<Event>) {
        let driver = self.driver.clone();
        tokio::spawn(async move {
            let event = match command {
                Command::Pause { id, database, drain } => {
                    tracing::info!(%id, database, ?drain, "pausing");
                    Event::Paused(id, answer(driver.pause(&database, drain).await))
                }
                Command::Resume { database } => {
                    tracing::info!(database, "resuming");
                    let resumed = driver.resume(&database).await;
                    Event::Resumed(database, resumed)
                }
            };
            let _ = events.send(event).await;
        });
    }

    fn take(&mut self, event: Event, told: &watch::Sender<Told>) {
        match event {
            Event::Heard(assignment) => self.trouble.refused = self.hear(assignment).err(),
            Event::NotHeard(error) => self.trouble.refused = Some(error),
            Event::Applied(applied) => self.applied(applied, told),
            Event::Paused(id, answer) => self.mind.pauses.paused(id, answer, clock::now()),
            Event::Resumed(database, answer) => {
                if let Err(error) = &answer
                    && error.kind != PoolerErrorKind::Missing
                {
                    tracing::warn!(database, %error, "not resumed yet");
                }
                self.mind.pauses.resumed(&database, answer, clock::now());
            }
            Event::Reported(pauses) => self.mind.pauses.forget(&pauses),
        }
        let Trouble { refused, failed, not_kept } = &self.trouble;
        let error = refused.as_ref().or(failed.as_ref()).or(not_kept.as_ref());
        told.send_if_modified(|told| {
            let is_news = told.error.as_ref() != error;
            if let (true, Some(error)) = (is_news, error) {
                tracing::warn!(%error, "what was asked for is not in force; what runs goes on");
            }
            told.error = error.cloned();
            is_news
        });
    }

    /// All of it, or nothing: what runs goes on.
    fn hear(&mut self, assignment: Assignment) -> Result<(), String> {
        let Assignment { generation, served, pauses, .. } = assignment;
        let served: Served = serde_json::from_value(served)
            .map_err(|error| format!("what generation {generation} serves cannot be read: {error}"))?;
        let wanted = Wanted { generation, served };
        self.check(&self.own.configuration(&wanted))
            .map_err(|error| format!("generation {generation} cannot be served: {error}"))?;
        self.mind.hear(wanted, &pauses, clock::now()).map_err(|Older(told, there)| {
            format!("the plane asks for generation {told}, and {there} is here already: is its store an old copy?")
        })?;
        self.keep();
        Ok(())
    }

    /// Tried again whenever the pooler's files are: a disk that was full has room again.
    fn keep(&mut self) {
        let is_kept = |wanted: &&Arc<Wanted>| self.kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, wanted));
        let Some(wanted) = self.mind.wanted.as_ref().filter(|wanted| !is_kept(wanted)) else { return };
        self.trouble.not_kept = match self.home.keep_assignment(wanted) {
            Ok(()) => {
                self.kept = Some(wanted.clone());
                None
            }
            Err(error) => Some(format!("generation {} is not kept on disk: {error}", wanted.generation)),
        };
    }

    fn check(&self, configuration: &Configuration) -> Result<(), PoolerError> {
        render(configuration, self.program.release.features(), &Files::new(self.home.run())).map(drop)
    }

    fn applied(&mut self, applied: Result<Applied, PoolerError>, told: &watch::Sender<Told>) {
        self.keep();
        match applied {
            Ok(applied) => {
                self.mind.applied(Ok(applied.reloads), clock::now());
                self.trouble.failed = None;
                let Applied { generation, reloads, repaired, needs_restart, left_out: _ } = applied;
                if !repaired.is_empty() {
                    tracing::warn!(?repaired, "somebody edited the pooler's files; they are put right");
                }
                if reloads > 0 {
                    tracing::info!(generation, "in force");
                }
                told.send_if_modified(|told| {
                    let before = told.clone();
                    told.generation = Some(generation);
                    told.reloads += u64::from(reloads);
                    told.repaired += repaired.len() as u64;
                    told.needs_restart = needs_restart.into_iter().collect();
                    *told != before
                });
            }
            Err(error) => {
                self.mind.applied(Err(()), clock::now());
                self.trouble.failed = Some(error.to_string());
            }
        }
    }
}

fn answer(paused: Result<Pause, PoolerError>) -> Answer {
    match paused {
        Ok(Pause::Drained) => Answer::Drained,
        Ok(Pause::Held(holders)) => Answer::Held(holders),
        Err(error) => Answer::Failed(error),
    }
}

/// Asks for what is wanted, for ever.
async fn ask(link: Arc<Link>, events: mpsc::Sender<Event>) {
    let mut after: Option<String> = None;
    let mut failures = 0;
    loop {
        let asked = Instant::now();
        let event = match link.assignment(after.as_deref()).await {
            Ok(None) => None,
            Ok(Some(assignment)) => {
                after = Some(assignment.revision.clone());
                Some(Event::Heard(assignment))
            }
            Err(freehold_client::Error::NotUnderstood(why)) => {
                failures += 1;
                Some(Event::NotHeard(why))
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(%error, "the plane does not answer; what is served goes on");
                }
                failures += 1;
                sleep(report::backoff(failures)).await;
                continue;
            }
        };
        let is_strange = matches!(event, Some(Event::NotHeard(_)));
        if failures > 0 && !is_strange {
            tracing::info!("the plane answers again");
            link.answers.notify_one();
            failures = 0;
        }
        if let Some(event) = event
            && events.send(event).await.is_err()
        {
            return;
        }
        // A plane, or a proxy, that answers at once what it has answered before is not asked in a circle.
        let least = if is_strange { report::backoff(failures) } else { Duration::from_millis(20) };
        sleep(least.saturating_sub(asked.elapsed())).await;
    }
}
