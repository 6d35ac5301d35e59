//! Names that no setting has, with the one that was probably meant; settings that are required and missing; and values other than
//! those that there are.

use config::{Value, ValueKind};

use super::keys::Node;
use super::layer::{Layer, PREFIX};
use super::load::without_passwords;

/// So many problems are told. Who has more has another file than was meant.
pub(super) const TOLD_MAX: usize = 40;
/// More than any name has; of texts of somebody else's, this much is shown.
const SHOWN_MAX: usize = 120;

pub(super) fn find(layer: &Layer, known: &Node, problems: &mut Vec<String>) {
    let mut found = Vec::new();
    for (name, value) in &layer.0 {
        look(name, name, value, known, &mut found);
    }
    found.sort();
    if found.is_empty() {
        return;
    }
    let names = known.names();
    for (origin, path) in found {
        // Looking for the nearest takes time, and nobody is told.
        problems.push(if problems.len() < TOLD_MAX { said(&origin, &path, &names) } else { path });
    }
}

/// The first few, and how many more there are.
pub(super) fn told(mut problems: Vec<String>) -> Vec<String> {
    let more = problems.len().saturating_sub(TOLD_MAX);
    if more > 0 {
        problems.truncate(TOLD_MAX);
        problems.push(format!("and {more} more"));
    }
    problems
}

pub(super) fn said(origin: &str, path: &str, names: &[String]) -> String {
    let nearest = nearest(path, names);
    let of_environment = match origin.starts_with(PREFIX) && !nearest.contains('*') {
        true => format!(" ({})", variable(nearest)),
        false => String::new(),
    };
    format!("{origin}: there is no setting {}; the nearest is {nearest}{of_environment}", short(path))
}

pub(super) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.to_ascii_uppercase().replace('.', "__"))
}

/// Of somebody else's text: on one line, and without what looks like a password.
pub(super) fn readable(text: &str) -> String {
    let mut readable = String::new();
    for character in without_passwords(text).chars() {
        // Quotes and backslashes are nothing to be afraid of.
        match character.is_ascii_graphic() {
            true => readable.push(character),
            false => readable.extend(character.escape_debug()),
        }
    }
    readable
}

/// The same, and not too much of it.
pub(super) fn short(text: &str) -> String {
    let whole = without_passwords(text);
    let cut: String = whole.chars().take(SHOWN_MAX).collect();
    let more = if cut.len() < whole.len() { "…" } else { "" };
    format!("{}{more}", readable(&cut))
}

/// Adds origin and path of everything that is unknown.
fn look(path: &str, name: &str, value: &Value, known: &Node, found: &mut Vec<(String, String)>) {
    let Node::Table(table) = known else { return };
    let Some(node) = table.field(name) else {
        if !table.secrets().any(|(_, file)| file == name) {
            all(path, value, found);
        }
        return;
    };
    match (&value.kind, node) {
        (ValueKind::Table(inner), Node::Table(_)) => {
            for (name, value) in inner {
                look(&format!("{path}.{name}"), name, value, node, found);
            }
        }
        (ValueKind::Array(items), Node::List(item)) => {
            for value in items {
                let ValueKind::Table(inner) = &value.kind else { continue };
                for (name, value) in inner {
                    look(&format!("{path}.{name}"), name, value, item, found);
                }
            }
        }
        _ => {}
    }
}

fn all(path: &str, value: &Value, found: &mut Vec<(String, String)>) {
    match &value.kind {
        ValueKind::Table(inner) if !inner.is_empty() => {
            for (name, value) in inner {
                all(&format!("{path}.{name}"), value, found);
            }
        }
        _ => found.push((value.origin().unwrap_or_default().to_owned(), path.to_owned())),
    }
}

/// By letters that differ: of the whole name, or of its last part where that stands in another table.
pub(super) fn nearest<'a>(path: &str, names: &'a [String]) -> &'a str {
    const ELSEWHERE: usize = 3;
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let path: String = path.chars().take(SHOWN_MAX).collect();
    let distance = |name: &&String| {
        let whole = strsim::osa_distance(&path, name);
        let part = strsim::osa_distance(&last(&path), &last(name)) + ELSEWHERE;
        (whole.min(part), whole)
    };
    names.iter().min_by_key(distance).map_or("", String::as_str)
}

/// What is required of the tables that are there, and what none of the choices is.
pub(super) fn find_wrong(layer: &Layer, known: &Node, problems: &mut Vec<String>) {
    wrong("", Some(&layer.0), known, true, problems);
}

fn wrong(
    path: &str,
    said: Option<&config::Map<String, Value>>,
    known: &Node,
    has_variable: bool,
    problems: &mut Vec<String>,
) {
    let Node::Table(table) = known else { return };
    for (name, node) in &table.fields {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (said.and_then(|said| said.get(name)).map(|value| &value.kind), node) {
            (Some(ValueKind::Table(inner)), Node::Table(_)) => {
                wrong(&path, Some(inner), node, has_variable, problems);
            }
            // The reader would quote what stands there, and it may be a secret.
            (Some(_), Node::Table(_)) => {
                problems.push(format!("{path} is a table: expected settings in it, not a value"))
            }
            (Some(ValueKind::Array(items)), Node::List(item)) => {
                for value in items {
                    match (&value.kind, &**item) {
                        (ValueKind::Table(inner), _) => wrong(&path, Some(inner), item, false, problems),
                        (ValueKind::String(said), Node::Value(value)) => {
                            problems.extend(no_choice(&path, said, &value.choices));
                        }
                        _ => {}
                    }
                }
            }
            (None, Node::Table(_)) if table.required.contains(name) => {
                wrong(&path, None, node, has_variable, problems);
            }
            (None, Node::Value(value)) if table.required.contains(name) => {
                let variable = variable(&path);
                problems.push(match (has_variable, value.is_secret) {
                    (true, true) => format!("{path} is required: in the settings file, {variable} or {variable}_FILE"),
                    (true, false) => format!("{path} is required: in the settings file, or {variable}"),
                    (false, _) => format!("{path} is required"),
                });
            }
            (Some(ValueKind::String(said)), Node::Value(value)) => {
                problems.extend(no_choice(&path, said, &value.choices));
            }
            _ => {}
        }
    }
}

/// What to say of what is none of the choices, where there are any.
fn no_choice(path: &str, said: &str, choices: &[String]) -> Option<String> {
    let (last, others) = choices.split_last()?;
    if choices.iter().any(|choice| choice == said) {
        return None;
    }
    let choices = if others.is_empty() { last.clone() } else { format!("{} or {last}", others.join(", ")) };
    Some(format!("{path} is {}; use {choices}", freehold_api::id::shown(said)))
}
