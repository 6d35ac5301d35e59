//! Every setting by its name, from the schema: for who prints them, and for who looks for the one that was meant.

use std::sync::LazyLock;

use serde_json::Value as Json;

use super::schema;

/// What may stand in one place of a settings file.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Table(Table),
    /// Any names.
    Map,
    /// `[[name]]`, or a list of texts.
    List(Box<Node>),
    Value(Value),
}

/// Names and what they hold, in the order of the schema.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub fields: Vec<(String, Node)>,
    pub required: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Value {
    pub is_secret: bool,
    /// Where nothing else may be said.
    pub choices: Vec<String>,
}

impl Table {
    pub fn field(&self, name: &str) -> Option<&Node> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, node)| node)
    }

    /// Its secrets, each with the name of the file that may stand in place of it.
    pub fn secrets(&self) -> impl Iterator<Item = (&str, String)> {
        let is_secret = |node: &Node| matches!(node, Node::Value(value) if value.is_secret);
        self.fields
            .iter()
            .filter(move |(_, node)| is_secret(node))
            .map(|(name, _)| (name.as_str(), format!("{name}_file")))
    }
}

impl Node {
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.add_names("", &mut names);
        names
    }

    fn add_names(&self, path: &str, names: &mut Vec<String>) {
        match self {
            Self::Table(table) => {
                let under = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                for (name, node) in &table.fields {
                    node.add_names(&under(name), names);
                }
                names.extend(table.secrets().map(|(_, file)| under(&file)));
            }
            Self::Map => names.push(format!("{path}.*")),
            Self::List(item) if matches!(**item, Self::Table(_)) => item.add_names(path, names),
            Self::List(_) | Self::Value(_) => names.push(path.to_owned()),
        }
    }
}

/// One row of the reference.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// `server_pool.settings.*`.
    pub name: String,
    /// `seconds`, `true, false`, `shared, dedicated`.
    pub values: String,
    pub meaning: String,
    pub default: Default,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Default {
    Required,
    None,
    Is(String),
}

/// As the reference has them, and the files of secrets.
#[cfg(test)]
pub(crate) fn names() -> Vec<String> {
    tree().names()
}

pub(super) fn tree() -> &'static Node {
    static TREE: LazyLock<Node> = LazyLock::new(|| node(&schema::plain()));
    &TREE
}

pub(super) fn all() -> Vec<Key> {
    let mut keys = Vec::new();
    collect(&schema::plain(), Some(&schema::example()), String::new(), true, &mut keys);
    keys
}

fn node(schema: &Json) -> Node {
    if let Some(Json::Object(properties)) = schema.get("properties") {
        let required = schema["required"].as_array().into_iter().flatten();
        return Node::Table(Table {
            fields: properties.iter().map(|(name, of)| (name.clone(), node(of))).collect(),
            required: required.filter_map(|name| name.as_str().map(str::to_owned)).collect(),
        });
    }
    if let Some(item) = schema.get("items") {
        return Node::List(Box::new(node(item)));
    }
    match schema.get("additionalProperties") {
        Some(Json::Object(_)) => Node::Map,
        _ => Node::Value(Value { is_secret: schema["format"] == "password", choices: choices(schema) }),
    }
}

fn collect(schema: &Json, default: Option<&Json>, name: String, is_required: bool, keys: &mut Vec<Key>) {
    if let Some(Json::Object(properties)) = schema.get("properties") {
        let required = |name: &String| {
            schema["required"].as_array().is_some_and(|names| names.iter().any(|required| required == name))
        };
        for (field, of) in properties {
            let path = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
            collect(of, default.and_then(|default| default.get(field)), path, required(field), keys);
        }
        return;
    }
    if let Some(item) = schema.get("items").filter(|item| item.get("properties").is_some()) {
        return collect(item, default.and_then(|list| list.get(0)), name, is_required, keys);
    }
    let is_map = schema.get("additionalProperties").is_some_and(Json::is_object);
    let name = if is_map { format!("{name}.*") } else { name };
    let meaning = schema["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let default = match default {
        _ if is_required => Default::Required,
        None | Some(Json::Null | Json::Object(_)) => Default::None,
        Some(Json::String(text)) if text.is_empty() => Default::Is("empty".into()),
        Some(Json::String(text)) => Default::Is(text.clone()),
        Some(Json::Array(items)) if items.is_empty() => Default::Is("none".into()),
        Some(Json::Array(items)) => Default::Is(items.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(", ")),
        Some(value) => Default::Is(value.to_string()),
    };
    keys.push(Key { values: values(schema, &name), name, meaning, default });
}

/// What may be written there, in few words.
fn values(schema: &Json, name: &str) -> String {
    let unit = [
        ("_seconds", "seconds"),
        ("_ms", "milliseconds"),
        ("_days", "days"),
        ("_kb", "kilobytes"),
        ("_percent", "percent"),
    ];
    let unit = unit.iter().find(|(suffix, _)| name.ends_with(suffix)).map(|(_, unit)| *unit);
    let range = || match (schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
        (Some(minimum), Some(maximum)) => format!("{minimum} to {maximum}"),
        (Some(minimum), None) if minimum > 0 => format!("{minimum} or more"),
        (None, Some(maximum)) => format!("up to {maximum}"),
        _ => "number".into(),
    };
    let choices = choices(schema.get("items").unwrap_or(schema));
    match choices.len() {
        0 => {}
        1..=8 => return choices.join(", "),
        _ => return "names".into(),
    }
    let format = schema["format"].as_str().filter(|format| !format.starts_with("int") && !format.starts_with("uint"));
    match (schema["type"].as_str(), unit, format) {
        (_, Some(unit), _) => unit.into(),
        (_, _, Some("password")) => "secret".into(),
        (_, _, Some(format)) if !["double", "float"].contains(&format) => format.into(),
        (Some("boolean"), ..) => "true, false".into(),
        (Some("integer" | "number"), ..) => range(),
        (Some("array"), ..) => "list of texts".into(),
        (Some("object"), ..) => values(&schema["additionalProperties"], ""),
        _ => "text".into(),
    }
}

fn choices(schema: &Json) -> Vec<String> {
    if let Some(Json::Array(any)) = schema.get("enum") {
        return any.iter().filter_map(|any| any.as_str().map(str::to_owned)).collect();
    }
    // Where the type is a text for who reads it.
    let any = schema["pattern"].as_str().and_then(|any| any.strip_prefix("^(")?.strip_suffix(")$"));
    any.into_iter().flat_map(|any| any.split('|')).map(str::to_owned).collect()
}
