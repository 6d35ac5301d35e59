//! The `process` platform: PostgreSQL servers as processes of this machine that live on when Freehold ends.
//!
//! Each service has a directory with its record; what runs is found by the directory it works in, so that the next
//! Freehold, and any number of them at once, sees the same and adopts it. Every process that has a [`Processes`] looks
//! after all services of its directory, and starts again what ended by itself; while none does, nothing is started, and
//! [`Platform::observe`] tells what is.
//!
//! Absent: limits. Memory and processors of a process are the operating system's to give; a server is only *tuned* to
//! what its limits say, and whoever wants them enforced uses containers. Absent too: nodes, images, networks, accounts.

mod converge;
mod engines;
mod files;
mod marker;
mod place;
mod postmaster;
mod record;
mod refuse;
mod watch;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinHandle;

use self::converge::Means;
use self::place::Place;
use self::postmaster::{Doing, Seen};
use self::record::{Definition, Desired, Record};
use self::refuse::{failed, lost, newer, plain, possible};
use self::watch::watch;
use super::cluster::{Account, ClusterOptions, Durability};
use super::{ProcessError, initialise, preflight};
use crate::platform::{Observed, Phase, Platform, PlatformError, PlatformErrorKind, Program, Service};

#[derive(Debug, Clone)]
pub struct ProcessesOptions {
    /// Where services are kept. The user PostgreSQL runs as must be able to enter it, and its path be some 60 bytes at
    /// most, because sockets are in it.
    pub dir: PathBuf,
    /// Where the programs of a major version are, when it is not where the distribution puts them.
    pub engines: BTreeMap<u16, PathBuf>,
    /// Only when Freehold is root, as which PostgreSQL refuses to run. None: `postgres`, else `nobody`.
    pub run_as: Option<String>,
    /// How often it looks whether everything runs.
    pub watch_every: Duration,
}

impl ProcessesOptions {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), engines: BTreeMap::new(), run_as: None, watch_every: Duration::from_millis(500) }
    }
}

/// Dropped, it stops looking; what runs, runs on.
pub struct Processes {
    inner: Arc<Inner>,
    watching: JoinHandle<()>,
}

struct Inner {
    dir: PathBuf,
    engines: BTreeMap<u16, PathBuf>,
    account: Account,
    node: Option<String>,
}

impl Processes {
    /// Looks after what is in its directory from now on. Needs a tokio runtime.
    pub fn new(options: ProcessesOptions) -> Result<Self, PlatformError> {
        let dir = std::path::absolute(&options.dir)
            .and_then(|dir| fs::create_dir_all(&dir).map(|()| dir))
            .and_then(fs::canonicalize)
            .map_err(|source| failed(ProcessError::NotWritable { dir: options.dir.clone(), source }))?;
        plain(&dir)?;
        let account = Account::choose(options.run_as.as_deref()).map_err(failed)?;
        let node = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let inner = Arc::new(Inner { dir, engines: options.engines, account, node });
        let watching = tokio::spawn(watch(inner.clone(), options.watch_every));
        Ok(Self { inner, watching })
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

#[async_trait]
impl Platform for Processes {
    fn kind(&self) -> &'static str {
        "process"
    }

    async fn ensure(&self, service: &Service) -> Result<(), PlatformError> {
        self.inner.ensure(service).await
    }

    async fn observe(&self, name: &str) -> Result<Observed, PlatformError> {
        let place = Place::of(&self.inner.dir, name)?;
        Ok(match place.read()? {
            Some(record) => self.inner.tell(&place, &record),
            None => {
                Observed { phase: Phase::Absent, generation: 0, host: String::new(), port: 0, node: None, reason: None }
            }
        })
    }

    async fn stop(&self, name: &str) -> Result<(), PlatformError> {
        self.inner.end(name, Desired::Stopped).await
    }

    async fn remove(&self, name: &str) -> Result<(), PlatformError> {
        self.inner.end(name, Desired::Removed).await
    }

    async fn purge(&self, name: &str) -> Result<(), PlatformError> {
        self.inner.purge(name).await
    }

    async fn list(&self) -> Result<Vec<String>, PlatformError> {
        let mut there = Vec::new();
        for place in self.inner.places() {
            if place.read()?.is_some_and(|record| record.desired != Desired::Removed) {
                there.push(place.name);
            }
        }
        Ok(there)
    }

    async fn last_words(&self, name: &str) -> Result<String, PlatformError> {
        let words = words::last(&Place::of(&self.inner.dir, name)?.log_dir());
        Ok(words[words.len().saturating_sub(20)..].join("\n"))
    }
}

impl Inner {
    async fn ensure(&self, service: &Service) -> Result<(), PlatformError> {
        let place = Place::of(&self.dir, &service.name)?;
        let definition = Definition::of(service)?;
        possible(service, &definition)?;
        let binaries = engines::find(&self.engines, definition.major).await?;
        if definition.wants_tls() {
            engines::must_have_tls(&binaries).await?;
        }
        let Program::Postgres(postgres) = &service.program;
        // What cannot be leaves no trace.
        if !place.home.exists() {
            self.may_be(&place, service, &definition, None)?;
        }
        place.make_home(&self.account)?;
        let _lock = place.lock().await?;
        let before = place.read()?;
        let nonce = self.may_be(&place, service, &definition, before.as_ref())?;
        place.make_storage(&service.storage, &self.account)?;
        if let Some(record) = before.as_ref().filter(|record| record.definition.storage != definition.storage) {
            // Its data is elsewhere from now on; what still works on the old is in the way.
            converge::stop(&place, record, record.definition.stop_grace).await?;
        }
        let mut record = match before {
            Some(record) => Record {
                generation: service.generation,
                desired: Desired::Running,
                definition,
                nonce: Some(nonce),
                trouble: None,
                ..record
            },
            None => Record { nonce: Some(nonce), ..Record::new(service.generation, definition) },
        };
        files::certificate(&place, postgres, &self.account)?;
        // The record goes first: a marker that no record knows would be somebody else's.
        place.write(&record)?;
        marker::put(&place, &record)?;
        let mut options =
            ClusterOptions::new(binaries, place.data(&record.definition), place.socket_dir(), record.definition.port);
        if record.definition.settings.get("fsync").is_some_and(|value| value == "off") {
            options.durability = Durability::ThrowAway;
        }
        initialise::ensure(&options, &self.account).await.map_err(failed)?;
        record.has_data = true;
        converge::ensure(&self.means(), &place, &mut record).await
    }

    fn tell(&self, place: &Place, record: &Record) -> Observed {
        let observed = |phase, reason: Option<String>| Observed {
            phase,
            generation: record.generation,
            host: record.definition.host.clone(),
            port: record.definition.port,
            node: self.node.clone(),
            reason,
        };
        let seen = converge::look(place, record);
        match (record.desired, seen) {
            (Desired::Removed, _) => observed(Phase::Absent, None),
            (Desired::Stopped, Seen::None) => observed(Phase::Stopped, Some("it was stopped".into())),
            (Desired::Stopped, Seen::Alive { .. } | Seen::Remains) => {
                observed(Phase::Stopped, Some("it was told to stop and has not ended yet".into()))
            }
            (Desired::Running, Seen::Alive { pid, doing: Doing::Held }) => observed(
                Phase::Failing,
                Some(format!("its process {pid} was stopped by a signal and does nothing: kill -CONT {pid}")),
            ),
            (Desired::Running, Seen::Alive { doing: Doing::Ready, .. }) => {
                match record.admin.as_ref() == Some(&record.definition.admin) {
                    true => observed(Phase::Running, None),
                    false => observed(Phase::Starting, record.trouble.clone()),
                }
            }
            (Desired::Running, Seen::Alive { doing: Doing::Starting, .. }) => observed(Phase::Starting, None),
            (Desired::Running, Seen::Alive { doing: Doing::Stopping, .. }) => {
                observed(Phase::Starting, Some("somebody is stopping it; it is started again then".into()))
            }
            (Desired::Running, Seen::None | Seen::Remains) => match &record.failing {
                Some(why) => observed(Phase::Failing, Some(why.clone())),
                None if !record.has_data => observed(Phase::Starting, Some("its data is being made".into())),
                None => observed(Phase::Starting, Some("it ended by itself and is started again".into())),
            },
        }
    }

    async fn end(&self, name: &str, desired: Desired) -> Result<(), PlatformError> {
        let place = Place::of(&self.dir, name)?;
        if place.read()?.is_none() {
            return Ok(());
        }
        let _lock = place.lock().await?;
        let Some(mut record) = place.read()? else { return Ok(()) };
        // What was removed stays so: only `ensure` brings it back.
        if record.desired != Desired::Removed {
            record.desired = desired;
        }
        (record.failing, record.ended, record.trouble) = (None, None, None);
        place.write(&record)?;
        converge::watch(&self.means(), &place, &mut record).await
    }

    async fn purge(&self, name: &str) -> Result<(), PlatformError> {
        let place = Place::of(&self.dir, name)?;
        if place.read()?.is_none() {
            return Ok(());
        }
        let _lock = place.lock().await?;
        let Some(record) = place.read()? else { return Ok(()) };
        if record.desired != Desired::Removed || converge::look(&place, &record) != Seen::None {
            return Err(PlatformError::new(
                PlatformErrorKind::Conflict,
                format!("{name} is there: remove it first, then purge its data"),
            ));
        }
        let data = place.data(&record.definition);
        let is_ours = marker::is_ours(&place, &record)?;
        let home = place.home.clone();
        let purge = move || -> Result<(), ProcessError> {
            if is_ours {
                gone(&data)?;
                gone(&initialise::sibling(&data, "initialising"))?;
                if let Some(storage) = &record.definition.storage {
                    marker::remove(storage, record.nonce.as_deref())?;
                    // Whatever else somebody put there is his.
                    let _ = fs::remove_dir(storage);
                }
            }
            // The record goes last: until then a purge that was interrupted is begun again.
            for part in ["tls", "run", "log"] {
                gone(&home.join(part))?;
            }
            gone(&home)
        };
        tokio::task::spawn_blocking(purge)
            .await
            .map_err(|error| PlatformError::because(PlatformErrorKind::Other, format!("purge {name}"), error))?
            .map_err(failed)
    }

    /// The nonce that goes with its data.
    fn may_be(
        &self,
        place: &Place,
        service: &Service,
        definition: &Definition,
        before: Option<&Record>,
    ) -> Result<String, PlatformError> {
        newer(service, before)?;
        let Program::Postgres(postgres) = &service.program;
        let may_begin = postgres.initialise && !before.is_some_and(|record| record.has_data);
        let nonce = marker::admit(place, definition, before, may_begin)?;
        self.port_is_free(place, definition, before)?;
        match may_begin || place.data(definition).join("PG_VERSION").is_file() {
            true => Ok(nonce),
            false => Err(lost(place, definition)),
        }
    }

    /// Free, or this very service's own.
    fn port_is_free(
        &self,
        place: &Place,
        definition: &Definition,
        before: Option<&Record>,
    ) -> Result<(), PlatformError> {
        let is_own = before.is_some_and(|record| {
            record.definition.port == definition.port
                && record.definition.host == definition.host
                && converge::look(place, record) != Seen::None
        });
        let mut others = self.places().into_iter().filter(|other| other.name != place.name);
        let promised =
            others.find(|other| {
                other.read().ok().flatten().is_some_and(|record| {
                    record.desired != Desired::Removed && record.definition.port == definition.port
                })
            });
        if let Some(other) = promised {
            return Err(PlatformError::new(
                PlatformErrorKind::PortTaken,
                format!("port {} is {}'s: choose another", definition.port, other.name),
            ));
        }
        match is_own {
            true => Ok(()),
            false => {
                preflight::port_is_free_on(record::listen_addresses(&definition.host), definition.port).map_err(failed)
            }
        }
    }

    fn places(&self) -> Vec<Place> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let names: BTreeSet<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.iter().filter_map(|name| Place::of(&self.dir, name).ok()).collect()
    }

    fn means(&self) -> Means<'_> {
        Means { account: &self.account, engines: &self.engines }
    }
}

fn gone(dir: &Path) -> Result<(), ProcessError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ProcessError::io("remove", dir)(error)),
        _ => Ok(()),
    }
}
