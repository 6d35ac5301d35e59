//! One source of settings: what it says, and for each value that it is the one who says it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::Path;

use config::{Map, Value, ValueKind};

use super::keys::{Node, Table};
use super::unknown;

pub(super) const PREFIX: &str = "FREEHOLD__";
/// More than any secret takes. What is longer is another file.
const SECRET_MAX: u64 = 64 * 1024;
/// More than any settings take.
const FILE_MAX: u64 = 1024 * 1024;
/// Deeper than any setting.
const DEPTH_MAX: usize = 8;

/// Secrets are plain in it: nothing shows it.
#[derive(Default)]
pub(super) struct Layer(pub Map<String, Value>);

/// A settings file. Errors quote nothing of it: it may hold secrets.
pub(super) fn file(path: &Path) -> Result<Layer, String> {
    let origin = unknown::readable(&path.display().to_string());
    let text = read(path, FILE_MAX)?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map(|before| before.matches('\n').count() + 1);
        let line = line.map(|line| format!(", line {line}")).unwrap_or_default();
        format!("{origin}{line}: {}", unknown::short(error.message()))
    })?;
    Ok(Layer(table.into_iter().map(|(name, said)| (name, value(&origin, said))).collect()))
}

fn value(origin: &String, said: toml::Value) -> Value {
    let kind = match said {
        toml::Value::String(text) => ValueKind::String(text),
        toml::Value::Integer(number) => ValueKind::I64(number),
        toml::Value::Float(number) => ValueKind::Float(number),
        toml::Value::Boolean(is) => ValueKind::Boolean(is),
        toml::Value::Datetime(time) => ValueKind::String(time.to_string()),
        toml::Value::Array(items) => ValueKind::Array(items.into_iter().map(|item| value(origin, item)).collect()),
        toml::Value::Table(table) => {
            ValueKind::Table(table.into_iter().map(|(name, said)| (name, value(origin, said))).collect())
        }
    };
    Value::new(Some(origin), kind)
}

/// `FREEHOLD__STORE__URL`. Values are text: whoever reads them makes numbers of them, where numbers are wanted.
pub(super) fn variables(all: &[(OsString, OsString)], known: &Node, problems: &mut Vec<String>) -> Layer {
    let mut layer = Layer::default();
    let mut seen: BTreeMap<Vec<String>, &str> = BTreeMap::new();
    // What is not UTF-8 in a name is in no setting's.
    let mut named: Vec<_> = all.iter().map(|(name, said)| (name.to_string_lossy(), said)).collect();
    named.sort();
    for (name, said) in &named {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            problems.extend(almost(name, known));
            continue;
        };
        let origin = unknown::short(name);
        let Some(said) = said.to_str() else {
            problems.push(format!("{origin} is not UTF-8"));
            continue;
        };
        let path: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
        if path.len() > DEPTH_MAX {
            problems.push(unknown::said(&origin, &path.join("."), &known.names()));
            continue;
        }
        if let Some(other) = seen.insert(path.clone(), name) {
            let other = unknown::short(other);
            problems.push(format!("{origin} and {other} say the same setting; leave one out"));
            continue;
        }
        let text = |text: &str| Value::new(Some(&origin), ValueKind::String(text.to_owned()));
        let said = match at(known, &path) {
            Place::Tables(name) => {
                problems.push(format!("{origin}: [[{name}]] stands in the settings file alone"));
                continue;
            }
            Place::Texts => {
                let items = said.split(',').map(str::trim).filter(|item| !item.is_empty()).map(text).collect();
                Value::new(Some(&origin), ValueKind::Array(items))
            }
            Place::Other => text(said),
        };
        if let Err(taken) = layer.put(&path, said) {
            problems.push(format!("{origin}: {taken} has a value, and can hold no more settings"));
        }
    }
    layer
}

/// `FREEHOLD_STORE__URL` would be read by nobody.
fn almost(name: &str, known: &Node) -> Option<String> {
    let path = name.strip_prefix("FREEHOLD_").filter(|rest| rest.contains("__"))?;
    let names = known.names();
    let nearest = unknown::variable(unknown::nearest(&path.to_ascii_lowercase().replace("__", "."), &names));
    Some(format!("{}: settings begin with {PREFIX}; the nearest is {nearest}", unknown::short(name)))
}

/// Of any name.
pub(super) fn variable(all: &[(OsString, OsString)], name: &str) -> Option<Value> {
    let (_, said) = all.iter().find(|(known, _)| known == name)?;
    // What is not UTF-8 becomes no number, and is refused as such.
    Some(Value::new(Some(&name.to_owned()), said.to_string_lossy().trim().to_owned()))
}

enum Place {
    Tables(String),
    Texts,
    Other,
}

fn at(known: &Node, path: &[String]) -> Place {
    match (known, path) {
        (Node::Table(table), [name, rest @ ..]) => match table.field(name) {
            Some(Node::List(item)) if matches!(**item, Node::Table(_)) => Place::Tables(name.clone()),
            Some(node) => at(node, rest),
            None => Place::Other,
        },
        (Node::List(_), []) => Place::Texts,
        _ => Place::Other,
    }
}

impl Layer {
    pub fn of(said: Vec<(&'static str, Value)>) -> Self {
        let mut layer = Self::default();
        for (name, value) in said {
            let path: Vec<String> = name.split('.').map(str::to_owned).collect();
            layer.put(&path, value).expect("what Freehold says itself does not contradict itself");
        }
        layer
    }

    /// Fails with the name of the value that is in the way.
    pub fn put(&mut self, path: &[String], value: Value) -> Result<(), String> {
        let [tables @ .., last] = path else { return Ok(()) };
        let mut table = &mut self.0;
        for (depth, name) in tables.iter().enumerate() {
            let inner = table.entry(name.clone()).or_insert_with(|| Value::new(None, ValueKind::Table(Map::new())));
            let ValueKind::Table(inner) = &mut inner.kind else { return Err(path[..=depth].join(".")) };
            table = inner;
        }
        match table.get(last).map(|there| &there.kind) {
            Some(ValueKind::Table(_)) => Err(path.join(".")),
            _ => {
                table.insert(last.clone(), value);
                Ok(())
            }
        }
    }

    pub fn get(&self, path: &[&str]) -> Option<&Value> {
        let (last, tables) = path.split_last()?;
        let mut table = &self.0;
        for name in tables {
            let ValueKind::Table(inner) = &table.get(*name)?.kind else { return None };
            table = inner;
        }
        table.get(*last)
    }

    /// Puts the content of files in the place of the secrets whose they are.
    pub fn open_files(&mut self, known: &Node, problems: &mut Vec<String>) {
        if let Node::Table(known) = known {
            open_files(&mut self.0, known, "", problems);
        }
    }

    /// A stronger layer goes above this one.
    pub fn go_under(&mut self, above: Self, known: &Node) {
        merge(&mut self.0, above.0, Some(known));
    }

    pub fn value(self) -> Value {
        Value::new(None, ValueKind::Table(self.0))
    }
}

/// The same tables and lists, in which nobody finds what was said.
pub(super) fn origins(value: &Value) -> Value {
    let origin = value.origin().map(str::to_owned);
    let kind = match &value.kind {
        ValueKind::Table(table) => {
            ValueKind::Table(table.iter().map(|(name, value)| (name.clone(), origins(value))).collect())
        }
        ValueKind::Array(items) => ValueKind::Array(items.iter().map(origins).collect()),
        _ => ValueKind::Nil,
    };
    Value::new(origin.as_ref(), kind)
}

fn open_files(said: &mut Map<String, Value>, known: &Table, path: &str, problems: &mut Vec<String>) {
    for (name, file) in known.secrets() {
        // Where the file is a setting itself, its reader opens it, each time anew.
        if known.field(&file).is_some() {
            continue;
        }
        let Some(named) = said.remove(&file) else { continue };
        let origin = named.origin().unwrap_or_default().to_owned();
        if said.contains_key(name) {
            problems.push(format!("{origin}: {path}{name} and {path}{file} are both there; leave one out"));
            continue;
        }
        match named.into_string().map_err(|_| "expected a path".to_owned()).and_then(|file| content(Path::new(&file))) {
            Ok((content, file)) => {
                let origin = format!("{origin}, {file}");
                said.insert(name.to_owned(), Value::new(Some(&origin), ValueKind::String(content)));
            }
            Err(why) => problems.push(format!("{origin}: {path}{file}: {why}")),
        }
    }
    for (name, node) in &known.fields {
        if let (Node::Table(node), Some(ValueKind::Table(inner))) = (node, said.get_mut(name).map(|it| &mut it.kind)) {
            open_files(inner, node, &format!("{path}{name}."), problems);
        }
    }
}

/// Without the end of its last line, and with its name.
pub(super) fn content(path: &Path) -> Result<(String, String), String> {
    let name = unknown::readable(&path.display().to_string());
    let mut text = read(path, SECRET_MAX)?;
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    match text.is_empty() {
        true => Err(format!("{name} is empty")),
        false => Ok((text, name)),
    }
}

fn read(path: &Path, max: u64) -> Result<String, String> {
    let name = unknown::readable(&path.display().to_string());
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| format!("{name}: {error}"))?;
    let length = file.take(max + 1).read_to_string(&mut text).map_err(|error| format!("{name}: {error}"))?;
    match length as u64 > max {
        true => Err(format!("{name} has more than {max} bytes: is it the right file?")),
        false => Ok(text),
    }
}

fn merge(under: &mut Map<String, Value>, above: Map<String, Value>, known: Option<&Node>) {
    let known = known.and_then(|known| if let Node::Table(table) = known { Some(table) } else { None });
    for (name, file) in known.into_iter().flat_map(Table::secrets) {
        // Of a secret and its file, the stronger source says which it is.
        for (said, other) in [(name, file.as_str()), (file.as_str(), name)] {
            if above.contains_key(said) && !above.contains_key(other) {
                under.remove(other);
            }
        }
    }
    for (name, value) in above {
        let is_table = matches!(value.kind, ValueKind::Table(_));
        match under.get_mut(&name).map(|there| &mut there.kind) {
            Some(ValueKind::Table(under)) if is_table => {
                let above = value.into_table().unwrap_or_default();
                merge(under, above, known.and_then(|known| known.field(&name)));
            }
            _ => {
                under.insert(name, value);
            }
        }
    }
}
