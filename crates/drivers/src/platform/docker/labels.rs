//! What Freehold writes on everything it makes, and how it tells its own from others'.

use std::collections::HashMap;

use super::connection::Connection;
use crate::platform::{PlatformError, PlatformErrorKind, Service};

/// On services and their containers: the service's name.
pub(super) const SERVICE: &str = "freehold.service";
/// On what belongs to a service (records, secrets, volumes, *prepare*): the service's name.
pub(super) const OF: &str = "freehold.of";
pub(super) const INSTANCE: &str = "freehold.instance";
pub(super) const GENERATION: &str = "freehold.generation";
pub(super) const DEFINITION: &str = "freehold.definition";
pub(super) const HOST: &str = "freehold.host";
pub(super) const PORT: &str = "freehold.port";
/// The directory that its own is in; absent where it has a volume.
pub(super) const DIRECTORY: &str = "freehold.directory";
pub(super) const IMAGE: &str = "freehold.image";
pub(super) const NODE: &str = "freehold.node";
/// What an object is for: `data`, `record`, `stopped`, `file`, `prepare`, `purge`.
pub(super) const KIND: &str = "freehold.kind";

pub(super) type Labels = HashMap<String, String>;

pub(super) fn of_service(connection: &Connection, service: &Service, definition: &str) -> Labels {
    let mut labels: Labels = service.labels.clone().into_iter().collect();
    labels.extend(place(service));
    for (name, value) in [
        (SERVICE, service.name.clone()),
        (INSTANCE, connection.options.instance.clone()),
        (GENERATION, service.generation.to_string()),
        (DEFINITION, definition.to_owned()),
    ] {
        labels.insert(name.into(), value);
    }
    labels
}

/// Of an object that belongs to a service.
pub(super) fn belonging(connection: &Connection, name: &str, kind: &str) -> Labels {
    [(OF, name), (INSTANCE, &connection.options.instance), (KIND, kind)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// Where it is reached, and what it is made from.
pub(super) fn place(service: &Service) -> Labels {
    let (host, port) = service.address();
    let mut labels: Labels = [(HOST, host), (PORT, port.to_string()), (IMAGE, service.image_reference().to_owned())]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
    labels.extend(service.directory().map(|directory| (DIRECTORY.to_owned(), directory)));
    labels
}

pub(super) fn get<'a>(labels: Option<&'a Labels>, name: &str) -> Option<&'a str> {
    labels?.get(name).map(String::as_str)
}

pub(super) fn number<T: std::str::FromStr>(labels: Option<&Labels>, name: &str) -> Option<T> {
    get(labels, name)?.parse().ok()
}

/// Filters of lists.
pub(super) fn matching(pairs: &[(&str, &str)]) -> HashMap<String, Vec<String>> {
    [("label".to_owned(), pairs.iter().map(|(name, value)| format!("{name}={value}")).collect())].into()
}

pub(super) fn is_own(connection: &Connection, name: &str, key: &str, labels: Option<&Labels>) -> bool {
    get(labels, key) == Some(name) && get(labels, INSTANCE) == Some(&connection.options.instance)
}

/// It is there, and somebody else's.
pub(super) fn check_own(
    connection: &Connection,
    what: &str,
    name: &str,
    key: &str,
    labels: Option<&Labels>,
) -> Result<(), PlatformError> {
    if is_own(connection, name, key, labels) {
        return Ok(());
    }
    let whose = match get(labels, INSTANCE) {
        Some(instance) if instance != connection.options.instance => format!("the Freehold {instance:?}'s"),
        _ => "not Freehold's".to_owned(),
    };
    Err(PlatformError::new(
        PlatformErrorKind::Conflict,
        format!(
            "there is a {what} {name} already, and it is {whose}: it was left alone; rename it, or choose another name"
        ),
    ))
}
