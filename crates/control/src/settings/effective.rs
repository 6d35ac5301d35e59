//! What is in force, and who said so: `freehold check settings`. Secrets are hidden already.

use config::{Map, Value, ValueKind};
use serde::Serialize;
use serde_json::Value as Json;

use super::keys::{self, Node};
use super::load::Loaded;

/// One setting as it is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Effective {
    /// `plan[free].pool_size`: of what may be repeated, by its name.
    pub setting: String,
    /// Absent where it is not set, and nothing takes its place.
    pub value: Option<String>,
    /// `default`, a file, or a variable.
    pub source: String,
}

impl Loaded {
    pub fn effective(&self) -> Vec<Effective> {
        let json = serde_json::to_value(&self.settings).unwrap_or_default();
        let mut found = Vec::new();
        walk("", keys::tree(), &json, Some(&self.origins), &mut found);
        found
    }
}

fn walk(path: &str, known: &Node, json: &Json, given: Option<&Value>, found: &mut Vec<Effective>) {
    let source = || given.and_then(Value::origin).unwrap_or("default").to_owned();
    let mut put = |setting: &str, value: Option<String>, source| {
        found.push(Effective { setting: setting.to_owned(), value, source });
    };
    match (known, json) {
        (Node::Value(_) | Node::Map, Json::Null) | (Node::Table(_), Json::Null) => put(path, None, source()),
        (Node::Table(table), _) => {
            for (name, node) in &table.fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(&path, node, &json[name], inner(given).and_then(|given| given.get(name)), found);
            }
        }
        (Node::Map, Json::Object(entries)) => {
            for (name, value) in entries {
                let source = inner(given).and_then(|given| given.get(name)?.origin()).unwrap_or("default");
                put(&format!("{path}.{name}"), Some(text(value)), source.to_owned());
            }
        }
        (Node::List(item), Json::Array(values)) if matches!(**item, Node::Table(_)) => {
            if values.is_empty() {
                put(path, None, source());
            }
            for (index, value) in values.iter().enumerate() {
                let name = value["name"].as_str().or_else(|| value["kind"].as_str()).unwrap_or_default();
                let given = given.and_then(|given| match &given.kind {
                    ValueKind::Array(items) => items.get(index),
                    _ => None,
                });
                walk(&format!("{path}[{name}]"), item, value, given, found);
            }
        }
        (Node::List(_), Json::Array(values)) => {
            // A list has no origin of its own where a variable gave it: its items have.
            put(path, Some(values.iter().map(text).collect::<Vec<_>>().join(", ")), source());
        }
        _ => put(path, Some(text(json)), source()),
    }
}

fn inner(given: Option<&Value>) -> Option<&Map<String, Value>> {
    match &given?.kind {
        ValueKind::Table(table) => Some(table),
        _ => None,
    }
}

fn text(json: &Json) -> String {
    let text = json.as_str().map_or_else(|| json.to_string(), str::to_owned);
    // Nothing keeps anybody from putting a password into an address that is no secret by its name.
    match text.contains(char::is_control) {
        true => super::unknown::readable(&text),
        false => super::load::without_passwords(&text),
    }
}
