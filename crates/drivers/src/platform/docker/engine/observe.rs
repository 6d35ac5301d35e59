//! What became of a container, in the words of a platform.

use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, HealthStatusEnum};
use jiff::Timestamp;

use super::super::connection::Connection;
use super::super::fault::kind_of_words;
use super::super::labels;
use super::{find, generation, labels_of, log, records};
use crate::platform::{Observed, Phase, PlatformError, PlatformErrorKind, container};

/// A run that took longer begins a new count of attempts: Docker's pauses begin anew as well.
const SHORT: Duration = Duration::from_secs(10);

pub(in super::super) async fn observe(connection: &Connection, name: &str) -> Result<Observed, PlatformError> {
    let record = records::latest(connection, name).await?;
    let Some(found) = find(connection, name).await? else {
        let place = record.as_ref().map(|record| &record.labels);
        return Ok(Observed {
            phase: Phase::Absent,
            generation: record.as_ref().map_or(0, |record| record.generation),
            host: labels::get(place, labels::HOST).unwrap_or_default().into(),
            port: labels::number(place, labels::PORT).unwrap_or(0),
            node: None,
            reason: None,
        });
    };
    let own = labels_of(&found);
    // The same definition under a later number is the record's to know.
    let recorded = record
        .filter(|record| labels::get(Some(&record.labels), labels::DEFINITION) == labels::get(own, labels::DEFINITION));
    let generation = recorded.map(|record| record.generation).max(generation(&found)).unwrap_or(0);
    let (phase, reason) = phase(connection, name, &found).await?;
    Ok(Observed {
        phase,
        generation,
        host: labels::get(own, labels::HOST).unwrap_or_default().into(),
        port: labels::number(own, labels::PORT).unwrap_or(0),
        node: connection.client().await?.info().await.ok().and_then(|info| info.name),
        reason,
    })
}

async fn phase(
    connection: &Connection,
    name: &str,
    found: &ContainerInspectResponse,
) -> Result<(Phase, Option<String>), PlatformError> {
    let state = found.state.clone().unwrap_or_default();
    let error = state.error.as_deref().unwrap_or_default().to_owned();
    let attempts: i64 = labels::number(labels_of(found), "freehold.attempts").unwrap_or(3);
    let restarts = found.restart_count.unwrap_or(0);
    Ok(match state.status {
        Some(ContainerStateStatusEnum::PAUSED) => (Phase::Failing, Some(paused(name))),
        Some(ContainerStateStatusEnum::RUNNING) => running(name, &state),
        Some(ContainerStateStatusEnum::RESTARTING) if restarts >= attempts && ran(&state) < SHORT => {
            let why = ended(connection, name, &state).await?;
            (Phase::Failing, Some(why))
        }
        Some(ContainerStateStatusEnum::RESTARTING) => (Phase::Starting, None),
        _ if !error.is_empty() => {
            (Phase::Failing, Some(container::reason(kind_of_words(&error).unwrap_or(PlatformErrorKind::Other), &error)))
        }
        Some(ContainerStateStatusEnum::CREATED) => {
            (Phase::Stopped, Some("it was made and never started: ensure starts it".into()))
        }
        _ if records::is_stopped(connection, name).await? => (Phase::Stopped, Some("stopped by Freehold".into())),
        _ if state.exit_code == Some(0) => (Phase::Stopped, Some("somebody stopped it with Docker".into())),
        _ => (Phase::Failing, Some(ended(connection, name, &state).await?)),
    })
}

pub(in super::super) fn paused(name: &str) -> String {
    container::reason(PlatformErrorKind::Other, &format!("somebody paused it: docker unpause {name}"))
}

fn running(name: &str, state: &ContainerState) -> (Phase, Option<String>) {
    let health = state.health.clone().unwrap_or_default();
    match health.status {
        Some(HealthStatusEnum::STARTING) => (Phase::Starting, None),
        Some(HealthStatusEnum::UNHEALTHY) => {
            let said = health.log.and_then(|mut log| log.pop()?.output).unwrap_or_default();
            let text = format!("it runs and does not answer ({}): docker restart {name}", said.trim());
            (Phase::Failing, Some(container::reason(PlatformErrorKind::Other, &text)))
        }
        _ => (Phase::Running, None),
    }
}

/// How long the last run was.
fn ran(state: &ContainerState) -> Duration {
    let at = |text: &Option<String>| text.as_deref()?.parse::<Timestamp>().ok();
    let ran = at(&state.started_at).zip(at(&state.finished_at)).map(|(from, until)| from.duration_until(until));
    ran.and_then(|ran| Duration::try_from(ran).ok()).unwrap_or(Duration::ZERO)
}

async fn ended(connection: &Connection, name: &str, state: &ContainerState) -> Result<String, PlatformError> {
    let code = state.exit_code.unwrap_or(-1);
    let said = container::gist(&log(connection, name, 20).await?);
    let how = match (state.oom_killed, code) {
        (Some(true), _) => "killed for want of memory: raise its limit, or lower its settings".to_owned(),
        (_, 137) => "killed".to_owned(),
        (_, code) => format!("ended with code {code}"),
    };
    Ok(container::reason(container::kind_of_exit(code), &format!("{how}: {said}")))
}
