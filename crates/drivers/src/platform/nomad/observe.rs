//! What became of a job, from its allocations and, where it has none, from the evaluation that could not place it.

use reqwest::Method;
use serde_json::Value;

use super::client::{Client, array};
use super::job::{self, TASK};
use super::record::Record;
use crate::platform::{Observed, Phase, PlatformError, PlatformErrorKind, container};

pub(super) async fn observe(client: &Client, name: &str, found: Option<Value>) -> Result<Observed, PlatformError> {
    let record = Record::find(client, name).await?;
    let (phase, reason, node) = match &found {
        None => (Phase::Absent, None, None),
        Some(found) => phase(client, name, found).await?,
    };
    let recorded = |record: &Record| match &found {
        Some(found) if job::definition(found).as_deref() != Some(&record.definition) => job::generation(found),
        _ => Some(record.generation),
    };
    let generation = record.as_ref().and_then(recorded).or(found.as_ref().and_then(job::generation));
    let place = record.map(|record| (record.host, record.port, record.node));
    let (host, port, home) = place.unwrap_or_default();
    Ok(Observed {
        phase,
        generation: generation.unwrap_or(0),
        host,
        port,
        node: node.or(Some(home)).filter(|node| !node.is_empty()),
        reason,
    })
}

type Seen = (Phase, Option<String>, Option<String>);

async fn phase(client: &Client, name: &str, found: &Value) -> Result<Seen, PlatformError> {
    let latest = latest(client, name).await?;
    let node = latest.as_ref().and_then(|found| found["NodeName"].as_str().map(str::to_owned));
    if !job::is_wanted_up(found) {
        let words = if found["Stop"] == true { "somebody stopped the job in Nomad" } else { "stopped by Freehold" };
        return Ok((Phase::Stopped, Some(words.into()), node));
    }
    if let Some((kind, text)) = blocked(client, name).await? {
        return Ok((Phase::Failing, Some(container::reason(kind, &text)), node));
    }
    let Some(allocation) = latest else { return Ok((Phase::Starting, None, None)) };
    let task = &allocation["TaskStates"][TASK];
    let (phase, reason) = match allocation["ClientStatus"].as_str().unwrap_or_default() {
        // The check of the service passed once. What it says later, the fleet's own health says better.
        "running" if task["State"] == "running" && !allocation["DeploymentStatus"]["Healthy"].is_null() => {
            (Phase::Running, None)
        }
        "running" | "pending" => (Phase::Starting, None),
        "failed" => {
            let (kind, text) = ended(client, &allocation).await?;
            (Phase::Failing, Some(container::reason(kind, &text)))
        }
        "lost" | "unknown" => {
            let text = format!("node {} does not answer", node.as_deref().unwrap_or("of it"));
            (Phase::Failing, Some(container::reason(PlatformErrorKind::NoNode, &text)))
        }
        // It has ended, and its successor is on its way.
        _ => (Phase::Starting, None),
    };
    Ok((phase, reason, node))
}

/// Attempts are used up.
pub(super) async fn is_dead(client: &Client, name: &str) -> Result<bool, PlatformError> {
    Ok(latest(client, name).await?.is_some_and(|latest| latest["ClientStatus"] == "failed"))
}

/// The node of an allocation that has not ended yet.
pub(super) async fn running_node(client: &Client, name: &str) -> Result<Option<String>, PlatformError> {
    let all = allocations(client, name).await?;
    let left = all.iter().find(|found| matches!(found["ClientStatus"].as_str(), Some("running" | "pending")));
    Ok(left.map(|found| found["NodeName"].as_str().unwrap_or("unknown").to_owned()))
}

pub(super) enum Once {
    Going,
    Done { node: String },
    Failed { kind: PlatformErrorKind, text: String },
}

pub(super) async fn of_once(client: &Client, job: &str) -> Result<Once, PlatformError> {
    if let Some((kind, text)) = blocked(client, job).await? {
        return Ok(Once::Failed { kind, text });
    }
    let Some(allocation) = latest(client, job).await? else { return Ok(Once::Going) };
    Ok(match allocation["ClientStatus"].as_str().unwrap_or_default() {
        "complete" => Once::Done { node: allocation["NodeID"].as_str().unwrap_or_default().to_owned() },
        "failed" | "lost" => {
            let (kind, text) = ended(client, &allocation).await?;
            Once::Failed { kind, text }
        }
        _ => Once::Going,
    })
}

/// Where a job that ends may have made something: its task began, or is about to, on a node that is still there.
pub(super) async fn node_of_once(client: &Client, job: &str) -> Result<Option<String>, PlatformError> {
    let there = |found: &Value| {
        let events = &found["TaskStates"][TASK]["Events"];
        let never = array(events).any(|event| event["Type"] == "Driver Failure");
        found["ClientStatus"] != "lost" && !never
    };
    let all = allocations(client, job).await?;
    Ok(all.iter().find(|found| there(found)).and_then(|found| found["NodeID"].as_str().map(str::to_owned)))
}

pub(super) async fn last_words(client: &Client, name: &str) -> Result<String, PlatformError> {
    match latest(client, name).await? {
        Some(allocation) => log(client, &allocation).await,
        None => Ok(String::new()),
    }
}

async fn allocations(client: &Client, job: &str) -> Result<Vec<Value>, PlatformError> {
    let found = client.found(&format!("job/{job}/allocations"), &[]).await?.unwrap_or_default();
    let mut all: Vec<Value> = array(&found).cloned().collect();
    all.sort_by_key(|found| std::cmp::Reverse(found["CreateIndex"].as_u64()));
    Ok(all)
}

async fn latest(client: &Client, job: &str) -> Result<Option<Value>, PlatformError> {
    Ok(allocations(client, job).await?.into_iter().next())
}

/// Why the latest evaluation could not place it.
async fn blocked(client: &Client, job: &str) -> Result<Option<(PlatformErrorKind, String)>, PlatformError> {
    let found = client.found(&format!("job/{job}/evaluations"), &[]).await?.unwrap_or_default();
    let blocked =
        array(&found).filter(|found| found["Status"] == "blocked").max_by_key(|found| found["CreateIndex"].as_u64());
    let Some(blocked) = blocked else { return Ok(None) };
    let metrics = &blocked["FailedTGAllocs"][TASK];
    let of = |field: &str| {
        let reasons = metrics[field].as_object().into_iter().flatten();
        reasons.map(|(reason, nodes)| format!("{reason} on {nodes}")).collect::<Vec<_>>()
    };
    let mut reasons = of("ConstraintFiltered");
    reasons.extend(of("DimensionExhausted"));
    let evaluated = metrics["NodesEvaluated"].as_u64().unwrap_or(0);
    let mut text = format!("no node of {evaluated} will do: {}", reasons.join(", "));
    if reasons.is_empty() {
        text = "no node is there for it: nomad node status".into();
    }
    let is_port = text.contains("reserved port collision");
    Ok(Some((if is_port { PlatformErrorKind::PortTaken } else { PlatformErrorKind::NoNode }, text)))
}

async fn ended(client: &Client, allocation: &Value) -> Result<(PlatformErrorKind, String), PlatformError> {
    let task = &allocation["TaskStates"][TASK];
    let events: Vec<&Value> = array(&task["Events"]).collect();
    let says = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    if let Some(event) = events.iter().rev().find(|event| event["Type"] == "Driver Failure") {
        let text = [says(event, "DriverError"), says(event, "DisplayMessage")].concat();
        return Ok((of_driver(&text), text));
    }
    let terminated = events.iter().rev().find(|event| event["Type"] == "Terminated");
    let code = terminated.and_then(|event| event["ExitCode"].as_i64()).unwrap_or(-1);
    let killed_for_memory = terminated.is_some_and(|event| event["Details"]["oom_killed"] == "true");
    let how = match (terminated, killed_for_memory, code) {
        (None, ..) => events.last().map_or_else(|| "it ended".to_owned(), |event| says(event, "DisplayMessage")),
        (_, true, _) => "killed for want of memory: raise its limit, or lower its settings".to_owned(),
        (_, _, 137) => "killed".to_owned(),
        (_, _, code) => format!("ended with code {code}"),
    };
    let said = container::gist(&log(client, allocation).await.unwrap_or_default());
    let text = if said.is_empty() { how } else { format!("{how}: {said}") };
    Ok((container::kind_of_exit(code), text))
}

fn of_driver(text: &str) -> PlatformErrorKind {
    let lower = text.to_ascii_lowercase();
    let has = |part: &str| lower.contains(part);
    if has("unauthorized") {
        PlatformErrorKind::Denied
    } else if has("failed to pull") || has("no such image") || has("manifest") || has("not found locally") {
        PlatformErrorKind::ImageMissing
    } else if has("already allocated") || has("address already in use") {
        PlatformErrorKind::PortTaken
    } else if has("bind source path") || has("volumes are not enabled") || has("no such file or directory") {
        PlatformErrorKind::Storage
    } else {
        PlatformErrorKind::Other
    }
}

async fn log(client: &Client, allocation: &Value) -> Result<String, PlatformError> {
    let id = allocation["ID"].as_str().unwrap_or_default();
    let query = [("task", TASK), ("type", "stderr"), ("origin", "end"), ("offset", "8000"), ("plain", "true")];
    let answer = client.text(Method::GET, &format!("client/fs/logs/{id}"), &query, None).await?;
    Ok(answer.unwrap_or_else(|(_, refused)| format!("(the log cannot be read: {refused})\n")))
}
