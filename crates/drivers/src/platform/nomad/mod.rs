//! Nomad: a service job for each server, of one task with the docker driver. Its secrets are Nomad variables, which the task's
//! own identity may read; what has to outlive the job (generation, node, storage) is a variable too.
//!
//! As in a Swarm a job that ends, *prepare*, goes first: the node that the scheduler chose for it has the data, and the
//! server is pinned there. Changes are guarded by the index that they were decided on.
//!
//! Nomad could not be installed where this was written: every request is checked against its published description of the
//! API (`crates/drivers/tests/nomad`), and none has been seen by a real one. Absent: registries' passwords, which would
//! stand in the job; Nomad's clients have them.

mod client;
mod job;
mod observe;
mod options;
mod record;

use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{Observed, Platform, PlatformError, PlatformErrorKind, Service, container, refusal};
use client::{Answer, Client};
pub use options::NomadOptions;
use record::Record;

pub struct Nomad {
    client: Client,
}

/// Of changes that came in between.
const TURNS: u32 = 5;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Done,
    /// What was looked at has changed meanwhile.
    Again,
}

impl Nomad {
    /// Connects with the first request.
    pub fn new(options: NomadOptions) -> Self {
        Self { client: Client::new(options) }
    }

    async fn ensure_once(&self, service: &Service) -> Result<Turn, PlatformError> {
        let client = &self.client;
        let name = &service.name;
        let found = client.job(name).await?;
        let record = Record::find(client, name).await?;
        let there = [found.as_ref().and_then(job::generation), record.as_ref().map(|record| record.generation)];
        if let Some(there) = there.into_iter().flatten().max().filter(|there| *there > service.generation) {
            return Err(refusal::outdated(name, there, service.generation));
        }
        if let Some(record) = &record {
            refusal::check_storage(service, record.directory.as_deref())?;
        }
        let known = record.as_ref().map(|record| record.node.clone());
        let node = match (&found, known) {
            (Some(found), None) => job::node(found).unwrap_or_default(),
            (Some(_), Some(node)) => node,
            (None, known) => self.prepare(service, known.as_deref()).await?,
        };
        let wanted = job::server(&client.options, service, &node)?;
        let definition = job::definition(&wanted).unwrap_or_default();
        if Record::save(client, service, &node, &definition, record).await? == Turn::Again {
            return Ok(Turn::Again);
        }
        self.forget_once(name, "prepare").await?;

        let is_same = found.as_ref().is_some_and(|found| job::definition(found).as_deref() == Some(&definition));
        if is_same && found.as_ref().is_some_and(job::is_wanted_up) && !observe::is_dead(client, name).await? {
            return Ok(Turn::Done);
        }
        record::save_files(client, service).await?;
        let index = found.as_ref().map_or(0, job::index);
        client.register(wanted, index).await
    }

    /// The node that has the data afterwards.
    async fn prepare(&self, service: &Service, node: Option<&str>) -> Result<String, PlatformError> {
        let wanted = job::prepare(&self.client.options, service, node)?;
        self.once(&service.name, "prepare", wanted).await
    }

    async fn once(&self, name: &str, verb: &str, wanted: Value) -> Result<String, PlatformError> {
        let client = &self.client;
        let job = job::once_name(name, verb);
        let found = client.job(&job).await?;
        if let Some(found) = &found {
            job::check_own(&client.options, name, found)?;
        }
        let is_there = found.as_ref().is_some_and(|found| job::definition(found) == job::definition(&wanted));
        if !is_there {
            if found.is_some() {
                self.forget_once(name, verb).await?;
            }
            client.register(wanted, 0).await?;
        }
        let begun = Instant::now();
        let patience = Duration::from_secs(client.options.prepare_deadline_seconds.into());
        let ended = loop {
            match observe::of_once(client, &job).await? {
                observe::Once::Done { node } => break Ok(node),
                observe::Once::Failed { kind: PlatformErrorKind::Conflict, text } if verb == "purge" => {
                    tracing::warn!(service = name, text, "its storage is somebody else's: left alone");
                    break Ok(String::new());
                }
                observe::Once::Failed { kind, text } => {
                    break Err(PlatformError::new(kind, format!("{verb} {name}: {text}")));
                }
                observe::Once::Going if begun.elapsed() < patience => sleep(Duration::from_millis(250)).await,
                observe::Once::Going => {
                    return Err(PlatformError::new(
                        PlatformErrorKind::Unreachable,
                        format!("{verb} {name}: not done within {} s; it goes on", patience.as_secs()),
                    ));
                }
            }
        };
        if ended.is_err() {
            self.forget_once(name, verb).await?;
        }
        ended
    }

    /// Unless it is somebody else's. Of a *prepare* that may have made something the node is recorded first, and it is over
    /// afterwards: so that it can be purged there.
    async fn forget_once(&self, name: &str, verb: &str) -> Result<(), PlatformError> {
        let client = &self.client;
        let job = job::once_name(name, verb);
        let Some(found) = client.job(&job).await?.filter(|found| job::is_own(&client.options, name, found)) else {
            return Ok(());
        };
        let facts = job::facts(&found);
        let is_known = facts.is_none() || Record::find(client, name).await?.is_some();
        if let Some(facts) = facts.filter(|_| !is_known)
            && let Some(node) = observe::node_of_once(client, &job).await?
        {
            Record::remember(client, name, facts, &node).await?;
        }
        self.forget_job(&job).await?;
        self.until_stopped(&job).await
    }

    /// Gone with all that Nomad knows of it; data is not Nomad's.
    async fn forget_job(&self, job: &str) -> Result<(), PlatformError> {
        let path = format!("job/{job}");
        match self.client.ask(Method::DELETE, &path, &[("purge", "true")], None).await? {
            Answer::Found(_) | Answer::Missing => Ok(()),
            Answer::Conflict(said) => Err(busy(job, &said)),
        }
    }

    async fn until_stopped(&self, name: &str) -> Result<(), PlatformError> {
        let grace = match self.client.job(name).await? {
            Some(found) => job::grace(&found),
            None => Duration::ZERO,
        };
        let deadline = Instant::now() + grace + Duration::from_secs(60);
        while let Some(left) = observe::running_node(&self.client, name).await? {
            if Instant::now() > deadline {
                return Err(PlatformError::new(
                    PlatformErrorKind::Unreachable,
                    format!("{name} is still stopping on node {left}: does that node answer? nomad node status"),
                ));
            }
            sleep(Duration::from_millis(250)).await;
        }
        Ok(())
    }

    /// The job; one of that name that is somebody else's is an error.
    async fn find(&self, name: &str) -> Result<Option<Value>, PlatformError> {
        let found = self.client.job(name).await?;
        if let Some(found) = &found {
            job::check_own(&self.client.options, name, found)?;
        }
        Ok(found)
    }

    /// The job; one of that name that is somebody else's is not there.
    async fn own(&self, name: &str) -> Result<Option<Value>, PlatformError> {
        let found = self.client.job(name).await?;
        Ok(found.filter(|found| job::is_own(&self.client.options, name, found)))
    }
}

fn busy(name: &str, said: &str) -> PlatformError {
    PlatformError::new(
        PlatformErrorKind::Other,
        format!(
            "{name} is being changed by somebody else again and again ({said}): is another Freehold at work with it?"
        ),
    )
}

#[async_trait]
impl Platform for Nomad {
    fn kind(&self) -> &'static str {
        "nomad"
    }

    async fn ensure(&self, service: &Service) -> Result<(), PlatformError> {
        container::check(service)?;
        self.find(&service.name).await?;
        for _ in 0..TURNS {
            if self.ensure_once(service).await? == Turn::Done {
                return Ok(());
            }
        }
        Err(busy(&service.name, "its index changed"))
    }

    async fn observe(&self, name: &str) -> Result<Observed, PlatformError> {
        let found = self.find(name).await?;
        observe::observe(&self.client, name, found).await
    }

    async fn stop(&self, name: &str) -> Result<(), PlatformError> {
        for _ in 0..TURNS {
            let Some(found) = self.find(name).await? else { return Ok(()) };
            if job::is_wanted_up(&found) {
                let index = job::index(&found);
                if self.client.register(job::scaled_to_none(found), index).await? == Turn::Again {
                    continue;
                }
            }
            return self.until_stopped(name).await;
        }
        Err(busy(name, "its index changed"))
    }

    async fn remove(&self, name: &str) -> Result<(), PlatformError> {
        if self.own(name).await?.is_some() {
            self.stop(name).await?;
            self.forget_job(name).await?;
        }
        self.forget_once(name, "prepare").await?;
        record::forget_files(&self.client, name).await
    }

    async fn purge(&self, name: &str) -> Result<(), PlatformError> {
        if self.own(name).await?.is_some() {
            return Err(refusal::still_there(name));
        }
        let Some(record) = Record::find(&self.client, name).await? else { return Ok(()) };
        let wanted = job::purge(&self.client.options, name, &record);
        self.once(name, "purge", wanted).await?;
        self.forget_once(name, "purge").await?;
        record.forget(&self.client, name).await
    }

    async fn list(&self) -> Result<Vec<String>, PlatformError> {
        let recorded = record::names(&self.client).await?;
        let jobs = self.client.jobs().await?;
        Ok(recorded.into_iter().filter(|name| jobs.contains(name)).collect())
    }

    async fn last_words(&self, name: &str) -> Result<String, PlatformError> {
        match self.find(name).await? {
            Some(_) => observe::last_words(&self.client, name).await,
            None => Ok(String::new()),
        }
    }
}
