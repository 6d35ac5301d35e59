//! What the agent says to the plane, and hears from it.

use std::path::PathBuf;
use std::time::Duration;

use freehold_api::PoolerId;
use freehold_api::pooler::{Assignment, PoolerReport};
use freehold_client::{Client, Error, Patience, Request};
use tokio::sync::{Mutex, Notify};

/// How long the plane may keep a question that has no news.
const WAIT_SECONDS: u64 = 20;

pub struct Link {
    url: String,
    pooler: PoolerId,
    key_file: PathBuf,
    /// None: the key is to be read first.
    client: Mutex<Option<Client>>,
    /// The plane answers again: whoever waits to try once more need not wait longer.
    pub answers: Notify,
}

impl Link {
    pub fn new(url: String, pooler: PoolerId, key_file: PathBuf) -> Result<Self, Error> {
        let link = Self { url, pooler, key_file, client: Mutex::new(None), answers: Notify::new() };
        // Said before anything is made: a key that cannot be read, an address that is none.
        link.connect()?;
        Ok(link)
    }

    /// None: no news.
    pub async fn assignment(&self, after: Option<&str>) -> Result<Option<Assignment>, Error> {
        let request = Request::get(&["poolers", self.pooler.as_str(), "assignment"]);
        let request = request.query("after", after).query("wait", Some(WAIT_SECONDS));
        let reply = self.ask(request).await?;
        if reply.body.is_null() { Ok(None) } else { reply.parse().map(Some) }
    }

    pub async fn report(&self, report: &PoolerReport) -> Result<(), Error> {
        // What is told is outdated by the next report: none is kept to be repeated.
        let request = Request::post(&["poolers", self.pooler.as_str(), "report"]).without_key().body(report)?;
        self.ask(request).await.map(drop)
    }

    async fn ask(&self, request: Request) -> Result<freehold_client::Reply, Error> {
        let client = {
            let mut kept = self.client.lock().await;
            match &*kept {
                Some(client) => client.clone(),
                None => kept.insert(self.connect()?).clone(),
            }
        };
        let reply = client.send(request).await;
        if let Err(Error::Refused(refusal)) = &reply
            && refusal.status == 401
        {
            // Somebody may have put another one there.
            *self.client.lock().await = None;
        }
        reply
    }

    fn connect(&self) -> Result<Client, Error> {
        let failed = |why: String| Error::Settings(format!("read the API key in {}: {why}", self.key_file.display()));
        let text = std::fs::read_to_string(&self.key_file).map_err(|error| failed(error.to_string()))?;
        let key = text.trim();
        if key.is_empty() {
            return Err(failed("the file is empty".into()));
        }
        // Whoever asks has a pace of its own.
        let patience = Patience {
            retry_for: Duration::ZERO,
            answer_within: Duration::from_secs(WAIT_SECONDS + 10),
            ..Patience::default()
        };
        Client::builder(&self.url, key).patience(patience).build()
    }
}
