//! Variables: the files of a server, which its task reads with its own identity (`nomad/jobs/<job>`); and, where no task
//! reads, what is known of a service while it has no job.

use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::client::{Answer, Client, array};
use super::{Turn, busy};
use crate::platform::{PlatformError, PlatformErrorKind, Program, Service, container};

/// Each file, and the item of the variable that it is.
pub(super) const FILES: [(&str, &str); 5] = [
    ("settings.conf", "settings"),
    ("pg_hba.conf", "hba"),
    ("server.crt", "certificate"),
    ("server.key", "key"),
    ("admin_verifier", "verifier"),
];

pub(super) fn files_path(name: &str) -> String {
    format!("nomad/jobs/{name}")
}

fn record_path(client: &Client, name: &str) -> String {
    format!("freehold/{}/{name}", client.options.instance)
}

#[derive(Debug)]
pub(super) struct Record {
    pub generation: u64,
    pub definition: String,
    pub node: String,
    pub image: String,
    pub host: String,
    pub port: u16,
    pub directory: Option<String>,
    index: u64,
}

impl Record {
    pub(super) async fn find(client: &Client, name: &str) -> Result<Option<Self>, PlatformError> {
        let Some(found) = client.found(&format!("var/{}", record_path(client, name)), &[]).await? else {
            return Ok(None);
        };
        let items = &found["Items"];
        let item = |name: &str| items[name].as_str().unwrap_or_default().to_owned();
        Ok(Some(Self {
            generation: item("generation").parse().unwrap_or(0),
            definition: item("definition"),
            node: item("node"),
            image: item("image"),
            host: item("host"),
            port: item("port").parse().unwrap_or(0),
            directory: Some(item("directory")).filter(|directory| !directory.is_empty()),
            index: found["ModifyIndex"].as_u64().unwrap_or(0),
        }))
    }

    pub(super) async fn save(
        client: &Client,
        service: &Service,
        node: &str,
        definition: &str,
        before: Option<Self>,
    ) -> Result<Turn, PlatformError> {
        if before.as_ref().is_some_and(|before| {
            (before.generation, before.definition.as_str(), before.node.as_str())
                == (service.generation, definition, node)
        }) {
            return Ok(Turn::Done);
        }
        let index = before.map_or(0, |before| before.index);
        put(client, &record_path(client, &service.name), items(facts(service).into(), node, definition), Some(index))
            .await
    }

    /// Where a *prepare* was, of which these are the facts; unless it is known already.
    pub(super) async fn remember(
        client: &Client,
        name: &str,
        facts: Vec<(&'static str, String)>,
        node: &str,
    ) -> Result<(), PlatformError> {
        // An index of 0 says that none is there; one that is says as much.
        put(client, &record_path(client, name), items(facts, node, ""), Some(0)).await.map(drop)
    }

    pub(super) async fn forget(self, client: &Client, name: &str) -> Result<(), PlatformError> {
        delete(client, &record_path(client, name)).await
    }
}

/// Of [`facts`].
pub(super) const FACTS: [&str; 5] = ["generation", "image", "host", "port", "directory"];

/// What is to be known of a service that has no job.
pub(super) fn facts(service: &Service) -> [(&'static str, String); 5] {
    let (host, port) = service.address();
    let image = service.image_reference().to_owned();
    let directory = service.directory().unwrap_or_default();
    let values = [service.generation.to_string(), image, host, port.to_string(), directory];
    let mut values = values.into_iter();
    FACTS.map(|name| (name, values.next().unwrap_or_default()))
}

fn items(facts: Vec<(&'static str, String)>, node: &str, definition: &str) -> Value {
    let mut items = json!({ "node": node, "definition": definition });
    for (name, value) in facts {
        items[name] = json!(value);
    }
    items
}

/// Of every service that was made here and not purged.
pub(super) async fn names(client: &Client) -> Result<Vec<String>, PlatformError> {
    let prefix = format!("freehold/{}/", client.options.instance);
    let found = client.found("vars", &[("prefix", &prefix)]).await?.unwrap_or_default();
    let name = |found: &Value| found["Path"].as_str()?.strip_prefix(&prefix).map(str::to_owned);
    let mut names: Vec<String> = array(&found).filter_map(name).collect();
    names.sort();
    Ok(names)
}

pub(super) async fn save_files(client: &Client, service: &Service) -> Result<(), PlatformError> {
    let Program::Postgres(postgres) = &service.program;
    let mut items = json!({});
    for file in container::files(postgres) {
        let item = FILES.iter().find(|(name, _)| *name == file.name).map_or("", |(_, item)| item);
        items[item] = json!(file.text.expose_secret());
    }
    match put(client, &files_path(&service.name), items, None).await? {
        Turn::Done => Ok(()),
        Turn::Again => Err(busy(&service.name, "its variable is locked")),
    }
}

pub(super) async fn forget_files(client: &Client, name: &str) -> Result<(), PlatformError> {
    delete(client, &files_path(name)).await
}

async fn put(client: &Client, path: &str, items: Value, index: Option<u64>) -> Result<Turn, PlatformError> {
    let index = index.map(|index| index.to_string());
    let query: Vec<(&str, &str)> = index.iter().map(|index| ("cas", index.as_str())).collect();
    let body = json!({ "Namespace": client.options.namespace, "Path": path, "Items": items });
    match client.ask(Method::PUT, &format!("var/{path}"), &query, Some(body)).await? {
        Answer::Found(_) => Ok(Turn::Done),
        Answer::Conflict(_) => Ok(Turn::Again),
        Answer::Missing => Err(PlatformError::new(
            PlatformErrorKind::Unsupported,
            format!("PUT var/{path}: this Nomad has no variables; 1.4 and later have, in a namespace that is there"),
        )),
    }
}

async fn delete(client: &Client, path: &str) -> Result<(), PlatformError> {
    match client.ask(Method::DELETE, &format!("var/{path}"), &[], None).await? {
        Answer::Found(_) | Answer::Missing => Ok(()),
        Answer::Conflict(said) => Err(busy(path, &said)),
    }
}
