//! What an engine answers, in the words of a platform: a kind that decides what happens next, and what to do about it.

use std::error::Error as _;
use std::io;

use bollard::errors::Error;

use crate::platform::{PlatformError, PlatformErrorKind};

/// `doing` says what was tried, as in "create volume shared-1".
pub(super) fn fault(doing: &str, error: Error) -> PlatformError {
    let (kind, advice) = match &error {
        Error::DockerResponseServerError { status_code, message } => of_answer(*status_code, message),
        Error::DockerStreamError { error } => (kind_of_words(error).unwrap_or(PlatformErrorKind::Other), ""),
        other => of_connection(other),
    };
    let advice = if advice.is_empty() { String::new() } else { format!(": {advice}") };
    PlatformError::because(kind, format!("{doing}: {}{advice}", words(&error)), error)
}

/// One sentence, without the library's own.
pub(super) fn words(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Error::DockerStreamError { error } => error.trim().to_owned(),
        Error::RequestTimeoutError => "the engine did not answer in time".into(),
        other => {
            let mut deepest: &dyn std::error::Error = other;
            while let Some(source) = deepest.source() {
                deepest = source;
            }
            deepest.to_string()
        }
    }
}

pub(super) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

/// Of what was to be removed: that it is missing is as good.
pub(super) fn gone(removed: Result<(), Error>, what: &str) -> Result<(), PlatformError> {
    match removed {
        Err(error) if !is_missing(&error) => Err(fault(&format!("remove {what}"), error)),
        _ => Ok(()),
    }
}

/// Another change came in between: look again, and decide again.
pub(super) fn is_out_of_sequence(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { message, .. } if message.contains("out of sequence"))
}

fn of_answer(status: u16, message: &str) -> (PlatformErrorKind, &'static str) {
    let lower = message.to_ascii_lowercase();
    let has = |part: &str| lower.contains(part);
    if has("not a swarm manager") || has("not part of a swarm") {
        return (
            PlatformErrorKind::Unsupported,
            "docker swarm init makes one, else point platform.docker.host at a manager, or set its mode to engine",
        );
    }
    // While managers elect, or begin.
    if has("does not have a leader") || has("deadline exceeded") || has("connection is closing") || status == 503 {
        return (PlatformErrorKind::Unreachable, "");
    }
    match (kind_of_words(message), status) {
        (Some(kind), _) => (kind, ""),
        (None, 401 | 403) => (PlatformErrorKind::Denied, ""),
        (None, 409) => (PlatformErrorKind::Conflict, ""),
        (None, _) => (PlatformErrorKind::Other, ""),
    }
}

fn of_connection(error: &Error) -> (PlatformErrorKind, &'static str) {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::PermissionDenied
        {
            return (PlatformErrorKind::Denied, "run Freehold as a user of the socket's group");
        }
        source = inner.source();
    }
    match error {
        Error::IOError { .. }
        | Error::HyperLegacyError { .. }
        | Error::HyperResponseError { .. }
        | Error::RequestTimeoutError
        | Error::SocketNotFoundError(_) => (PlatformErrorKind::Unreachable, ""),
        _ => (PlatformErrorKind::Other, ""),
    }
}

/// The same sentences come as answers, as a container's error, and as a task's.
pub(super) fn kind_of_words(text: &str) -> Option<PlatformErrorKind> {
    let lower = text.to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    let kind = if has(&["port is already allocated", "address already in use", "host-mode port already in use"]) {
        PlatformErrorKind::PortTaken
    } else if has(&["unauthorized", "no basic auth credentials", "authentication required", "incorrect username"]) {
        PlatformErrorKind::Denied
    } else if has(&[
        "no such image",
        "manifest unknown",
        "manifest for",
        "pull access denied",
        "repository does not exist",
        "name unknown",
        "invalid reference format",
    ]) {
        PlatformErrorKind::ImageMissing
    } else if has(&["no suitable node", "insufficient resources"]) {
        PlatformErrorKind::NoNode
    } else if has(&[
        "bind source path does not exist",
        "failed to mount local volume",
        "no space left",
        "read-only file",
    ]) {
        PlatformErrorKind::Storage
    } else {
        return None;
    };
    Some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_kinds_of_what_engines_say() {
        let said = [
            ("Bind for 0.0.0.0:5432 failed: port is already allocated", PlatformErrorKind::PortTaken),
            ("no suitable node (host-mode port already in use on 1 node)", PlatformErrorKind::PortTaken),
            ("no suitable node (scheduling constraints not satisfied on 3 nodes)", PlatformErrorKind::NoNode),
            ("No such image: localhost/x:1", PlatformErrorKind::ImageMissing),
            (
                "invalid mount config for type \"bind\": bind source path does not exist: /srv/x",
                PlatformErrorKind::Storage,
            ),
            ("Head \"http://r/v2/x/manifests/1\": unauthorized: authentication required", PlatformErrorKind::Denied),
        ];
        for (text, kind) in said {
            assert_eq!(kind_of_words(text), Some(kind), "{text}");
        }
        let answer =
            |status_code, message: &str| Error::DockerResponseServerError { status_code, message: message.into() };
        let swarm = fault("list services", answer(503, "This node is not a swarm manager. Use \"docker swarm init\""));
        assert_eq!(swarm.kind, PlatformErrorKind::Unsupported);
        assert!(!swarm.is_transient());
        let leaderless = fault("list services", answer(500, "rpc error: The swarm does not have a leader"));
        assert!(leaderless.is_transient());
        assert!(is_out_of_sequence(&answer(500, "rpc error: code = Unknown desc = update out of sequence")));
    }
}
