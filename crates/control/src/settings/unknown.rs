//! Names that no setting has, with the one that was probably meant; settings that are required and missing; and values other than
//! those that there are.

use config::{Value, ValueKind};

use super::keys::Node;
use super::layer::{Layer, PREFIX};

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
        let nearest = nearest(&path, &names);
        let variable = match origin.starts_with(PREFIX) && !nearest.contains('*') {
            true => format!(" ({PREFIX}{})", nearest.to_ascii_uppercase().replace('.', "__")),
            false => String::new(),
        };
        problems.push(format!("{origin}: there is no setting {path}; the nearest is {nearest}{variable}"));
    }
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
    let distance = |name: &&String| {
        let whole = strsim::damerau_levenshtein(path, name);
        let part = strsim::damerau_levenshtein(&last(path), &last(name)) + ELSEWHERE;
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
                let variable = format!("{PREFIX}{}", path.to_ascii_uppercase().replace('.', "__"));
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
