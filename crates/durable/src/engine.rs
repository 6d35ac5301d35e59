//! The engine as its user holds it: building, starting, waiting.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::drive::{self, Job};
use crate::erased::{Erased, Kind, RawStep};
use crate::loops::Loop;
use crate::operation::{New, Operation, StartError};
use crate::row::{OperationRow, State};
use crate::watch::{Changes, Herald, LOOP, OPERATION, Watchers};
use crate::{query, store};

/// How long a fresh operation is this process's before it called [`Engine::go`]; should it die, others need not wait for a whole lease.
const START_LEASE: Duration = Duration::from_secs(5);
/// Between looks at an operation that one waits for, should a notification be lost.
const LOOK: Duration = Duration::from_secs(1);

/// Starts, runs and watches durable operations. A clone is the same engine.
#[derive(Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub pool: PgPool,
    pub holder: String,
    pub lease: Duration,
    pub poll: Duration,
    pub kinds: BTreeMap<&'static str, Registered>,
    pub loops: Vec<RegisteredLoop>,
    pub watchers: Arc<Watchers>,
    /// Of operations, for which callers wait.
    pub herald: Arc<Herald>,
    /// Something may be due.
    pub due: Notify,
    /// No new work.
    pub draining: CancellationToken,
    /// No work at all.
    pub abort: CancellationToken,
    pub tasks: TaskTracker,
}

pub(crate) struct Registered {
    pub kind: Arc<dyn Kind>,
    pub permits: Arc<Semaphore>,
}

pub(crate) struct RegisteredLoop {
    pub body: Arc<dyn Loop>,
    pub wake: Arc<Notify>,
}

/// An operation that was inserted; hand it to [`Engine::go`] once the transaction has committed. Dropped, it leaks nothing.
#[must_use = "another process takes it over only when its lease has run out"]
pub struct Started {
    pub id: Uuid,
    job: Option<Box<Job>>,
}

impl Engine {
    pub fn builder(pool: PgPool) -> Builder {
        Builder {
            pool,
            holder: format!("pid-{}", std::process::id()),
            lease: Duration::from_secs(30),
            poll: Duration::from_secs(1),
            kinds: BTreeMap::new(),
            loops: Vec::new(),
        }
    }

    /// Inserts an operation in the caller's transaction, held by this process, so that [`Engine::go`] runs it without a claim.
    /// Queued for any worker instead while operations are frozen, or when this process has no room.
    ///
    /// When another operation has the subject, the transaction stays usable.
    pub async fn start<O: Operation>(&self, tx: &mut PgConnection, new: New<O::Step>) -> Result<Started, StartError> {
        let permit = self.shared.permit(new.kind);
        let since = Instant::now();
        let lease = START_LEASE.min(self.shared.lease);
        let hold = permit.is_some().then_some((self.shared.holder.as_str(), lease));
        let held = self.insert::<O>(tx, &new, hold).await?;
        let id = held.row.id;
        let job = match permit {
            Some(permit) if held.row.state == State::Running => {
                Some(Box::new(Job { held, lease_end: since + lease, permit }))
            }
            Some(_) | None => None,
        };
        Ok(Started { id, job })
    }

    /// Inserts an operation in the caller's transaction, for any worker.
    pub async fn start_queued<O: Operation>(
        &self,
        tx: &mut PgConnection,
        new: New<O::Step>,
    ) -> Result<Uuid, StartError> {
        Ok(self.insert::<O>(tx, &new, None).await?.row.id)
    }

    /// Tells of work that was one transaction, as an operation that is over. One statement.
    pub async fn start_finished(
        &self,
        tx: &mut PgConnection,
        kind: &str,
        subject: Option<&str>,
        step_name: &str,
        requested_by: Option<&str>,
        request_id: Option<&str>,
    ) -> Result<Uuid, sqlx::Error> {
        store::start_finished(tx, kind, subject, step_name, requested_by, request_id).await
    }

    /// Runs a started operation in this process, in the background.
    pub fn go(&self, started: Started) {
        match started.job {
            Some(job) => drive::spawn(self.shared.clone(), *job),
            None => self.shared.due.notify_one(),
        }
    }

    /// Waits until the operation is over or stuck. None: the time is up. An unknown id is `RowNotFound`.
    pub async fn wait(&self, id: Uuid, time: Duration) -> Result<Option<OperationRow>, sqlx::Error> {
        let until = Instant::now() + time;
        let mut subscription = self.shared.watchers.subscribe(id);
        loop {
            let row = query::get(&self.shared.pool, id).await?.ok_or(sqlx::Error::RowNotFound)?;
            if row.state.is_over() || row.state == State::Stuck {
                return Ok(Some(row));
            }
            let look = Instant::now() + LOOK;
            if tokio::time::timeout_at(until.min(look), subscription.changed()).await.is_err()
                && Instant::now() >= until
            {
                return Ok(None);
            }
        }
    }

    /// A stream with an item whenever the operation changed. News from other processes needs [`Engine::run`].
    pub fn subscribe(&self, id: Uuid) -> Changes {
        Changes::new(self.shared.watchers.subscribe(id))
    }

    /// Runs a loop soon (not in this very moment, which is the caller's), wherever its leader is.
    pub fn wake(&self, loop_name: &str) {
        self.shared.wake_loop(loop_name);
        self.shared.herald.tell(&self.shared.pool, LOOP, format!("{loop_name} {}", self.shared.holder));
    }

    /// Every step of every kind, for tests that visit them all.
    pub fn steps(&self) -> Vec<(&'static str, &'static [&'static str])> {
        self.shared.kinds.values().map(|registered| (registered.kind.kind(), registered.kind.names())).collect()
    }

    pub fn loop_names(&self) -> Vec<&'static str> {
        self.shared.loops.iter().map(|registered| registered.body.name()).collect()
    }

    /// This process's name in the rows that it holds.
    pub fn holder(&self) -> &str {
        &self.shared.holder
    }

    async fn insert<O: Operation>(
        &self,
        tx: &mut PgConnection,
        new: &New<O::Step>,
        hold: Option<(&str, Duration)>,
    ) -> Result<store::Held, StartError> {
        let definition = match self.shared.kinds.get(new.kind) {
            Some(registered) => registered.kind.definition(),
            None => {
                return Err(protocol(format!("operation kind {} is not registered", new.kind)));
            }
        };
        let step = RawStep::of(&new.step).map_err(|error| protocol(error.to_string()))?;
        // A rival may end between the insert that it stopped and the look at it.
        for _ in 0..10 {
            if let Some(held) = store::start(tx, new, &step, definition, hold).await? {
                return Ok(held);
            }
            if let Some(subject) = &new.subject
                && let Some((operation, kind)) = store::rival(tx, subject).await?
            {
                return Err(StartError::Busy { operation, kind });
            }
        }
        Err(protocol("an operation stands in the way but cannot be seen: use isolation level read committed".into()))
    }
}

fn protocol(message: String) -> StartError {
    StartError::Store(sqlx::Error::Protocol(message))
}

impl Shared {
    /// Room for one more of a kind. None: there is none, or this process is about to end.
    fn permit(&self, kind: &str) -> Option<OwnedSemaphorePermit> {
        if self.draining.is_cancelled() {
            return None;
        }
        self.kinds.get(kind)?.permits.clone().try_acquire_owned().ok()
    }

    pub(crate) fn changed(&self, id: Uuid) {
        self.watchers.changed(id);
        self.herald.tell(&self.pool, OPERATION, format!("{id} {}", self.holder));
    }

    pub(crate) fn wake_loop(&self, name: &str) {
        for registered in &self.loops {
            if registered.body.name() == name {
                registered.wake.notify_one();
            }
        }
    }
}

/// Builds an [`Engine`].
pub struct Builder {
    pool: PgPool,
    holder: String,
    lease: Duration,
    poll: Duration,
    kinds: BTreeMap<&'static str, Registered>,
    loops: Vec<RegisteredLoop>,
}

impl Builder {
    /// The name of this process for people; what is unique in it the engine adds.
    pub fn holder(mut self, holder: String) -> Self {
        self.holder = holder;
        self
    }

    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    pub fn poll(mut self, poll: Duration) -> Self {
        self.poll = poll;
        self
    }

    /// # Panics
    /// When the kind is registered already.
    pub fn register(mut self, operation: impl Operation) -> Self {
        let permits = Arc::new(Semaphore::new(operation.concurrency().clamp(1, Semaphore::MAX_PERMITS)));
        let name = operation.kind();
        let replaced = self.kinds.insert(name, Registered { kind: Arc::new(Erased(operation)), permits });
        assert!(replaced.is_none(), "operation kind {name} is registered twice");
        self
    }

    /// # Panics
    /// When the name is registered already.
    pub fn register_loop(mut self, body: impl Loop) -> Self {
        let name = body.name();
        assert!(self.loops.iter().all(|other| other.body.name() != name), "loop {name} is registered twice");
        self.loops.push(RegisteredLoop { body: Arc::new(body), wake: Arc::default() });
        self
    }

    pub fn build(self) -> Engine {
        let Self { pool, holder, lease, poll, kinds, loops } = self;
        let shared = Shared {
            pool,
            // A restarted process must not pass for the one it follows.
            holder: format!("{holder}-{:08x}", rand::random::<u32>()),
            lease,
            poll,
            kinds,
            loops,
            watchers: Arc::default(),
            herald: Arc::default(),
            due: Notify::new(),
            draining: CancellationToken::new(),
            abort: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        Engine { shared: Arc::new(shared) }
    }
}
